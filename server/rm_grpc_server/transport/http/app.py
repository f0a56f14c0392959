"""All faces as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from rm_grpc_server.transport.http import connect, health
from rm_grpc_server.transport.http.faces import FACES
from rm_grpc_server.transport.http.scoring import HttpScoring

_DESCRIPTION = """\
Scores conversations with reward models, in the formats of the servers that they have been scored with so far. Numbers are raw
scores unless a request asks for something else, and are the same as over gRPC to the last bit.

Where several models are served and a body has no place for the model's name, `?model=NAME` or a path that begins with
`/models/NAME` gives it.
"""


_CALLERS_HEADERS = ("authorization", "content-type", "connect-protocol-version", "connect-timeout-ms", "x-user-agent")
_OUR_HEADERS = ("x-rm-grpc-reason", "retry-after")


def build_app(scoring: HttpScoring, origins: Sequence[str] = ()) -> ASGIApp:
    """The application.

    Args:
        origins: of web pages that may use it.
    """
    app = FastAPI(title="rm-grpc", description=_DESCRIPTION, version=version("rm-grpc"), docs_url=None, redoc_url=None)
    for routes in (health.routes, connect.routes, *FACES):
        app.include_router(routes(scoring))
    app.add_exception_handler(HTTPException, _not_here)
    paths = ModelPaths(app, tuple(scoring.engines))
    if not origins:
        return paths
    return CORSMiddleware(
        paths,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=_CALLERS_HEADERS,
        expose_headers=_OUR_HEADERS,
        max_age=7200,
    )


async def _not_here(request: Request, error: Exception) -> JSONResponse:
    """What a path or method gets that no face has."""
    assert isinstance(error, HTTPException)
    told = f"{request.method} {request.url.path}: {error.detail}; /openapi.json lists what there is"
    body: dict[str, Any] = {
        "error": {"message": told, "type": "invalid_request_error", "param": None, "code": error.status_code}
    }
    return JSONResponse(body, error.status_code, error.headers)


class ModelPaths:
    """Lets a path begin with /models/NAME, for clients that can be told a URL and nothing else."""

    def __init__(self, app: ASGIApp, models: tuple[str, ...]) -> None:
        self._app = app
        self._models = models

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        path: str = scope.get("path", "")
        for model in self._models:
            prefix = f"/models/{model}"
            if path.startswith(prefix + "/"):
                rest = path.removeprefix(prefix)
                scope = {**scope, "path": rest, "raw_path": rest.encode(), "rm_grpc.model": model}
                break
        await self._app(scope, receive, send)
