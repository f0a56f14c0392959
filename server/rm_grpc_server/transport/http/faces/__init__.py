"""One file for each server whose clients work here unchanged."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter

from rm_grpc_server.transport.http.faces import nemo_gym, openai, openrlhf, own, sglang, slime, tei, vllm
from rm_grpc_server.transport.http.scoring import HttpScoring

FACES: tuple[Callable[[HttpScoring], APIRouter], ...] = (
    own.routes,
    openai.routes,
    vllm.routes,
    sglang.routes,
    tei.routes,
    openrlhf.routes,
    slime.routes,
    nemo_gym.routes,
)
