"""Whether the server is well, for probes: open to all, for these carry no token."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from rm_grpc_server.transport.http.scoring import HttpScoring


def routes(scoring: HttpScoring) -> APIRouter:
    """The routes."""
    router = APIRouter(tags=["rm-grpc"])

    @router.get("/health")
    @router.get("/v1/health/ready", include_in_schema=False)
    async def health() -> JSONResponse:
        """200 where every model can score and new requests are taken, else 503."""
        models = {name: engine.is_healthy for name, engine in scoring.engines.items()}
        return JSONResponse({"ready": scoring.is_ready, "models": models}, 200 if scoring.is_ready else 503)

    @router.get("/v1/health/live", include_in_schema=False)
    async def live() -> JSONResponse:
        """200 where the process answers."""
        return JSONResponse({"live": True})

    return router
