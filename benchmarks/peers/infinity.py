"""Infinity: it has no /classify for models of one label, and scores pairs of texts instead."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.encoder import Encoder, Messages
from benchmarks.peers.environment import TORCH, Environment
from benchmarks.peers.http_load import request
from benchmarks.peers.padded_model import MOST_CONVERSATIONS


@dataclass(frozen=True)
class Infinity:
    """Infinity's /rerank with raw scores: the query is the rendered conversation up to the answer, the document the rest."""

    name: str = "Infinity 0.0.78"
    ready_path: str = "/health"

    def install(self) -> Environment:
        """See `Peer`."""
        environment = Environment("infinity")
        environment.install(["infinity-emb[torch,server,optimum]==0.0.78"], constraints=[TORCH])
        return environment

    def command(self, environment: Environment, folder: Path, port: int, cores: int) -> Sequence[str]:
        """See `Peer`. The batch size is that of the other padded batches."""
        del cores
        address = ["--host", "127.0.0.1", "--port", str(port)]
        model = ["--model-id", str(_for_pairs(folder)), "--served-model-name", "model", "--dtype", "float32"]
        engine = ["--engine", "torch", "--device", "cpu", "--no-bettertransformer", "--no-compile", "--no-model-warmup"]
        batch = ["--batch-size", str(MOST_CONVERSATIONS)]
        return [str(environment.folder / "bin" / "infinity_emb"), "v2", *address, *model, *engine, *batch]

    def variables(self, cores: int) -> Mapping[str, str]:
        """See `Peer`."""
        return {"OMP_NUM_THREADS": str(cores), "HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1"}

    def request(self, messages: Messages, encoder: Encoder) -> bytes:
        """See `Peer`."""
        prompt, whole = encoder.text(messages[:-1]), encoder.text(messages)
        body = {"model": "model", "query": prompt, "documents": [whole.removeprefix(prompt)], "raw_scores": True}
        return request("/rerank", json.dumps(body).encode())

    def score(self, body: bytes) -> float:
        """See `Peer`."""
        return float(json.loads(body)["results"][0]["relevance_score"])


def _for_pairs(folder: Path) -> Path:
    """The same checkpoint with a tokenizer that adds no BOS to the parts of a pair: the rendered text brings its own."""
    copied = folder.with_name(f"{folder.name}-pairs")
    shutil.copytree(folder, copied, dirs_exist_ok=True, copy_function=_copied)
    pair = [{"Sequence": {"id": name, "type_id": 0}} for name in ("A", "B")]
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["post_processor"] |= {"single": pair[:1], "pair": pair}
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (copied / "tokenizer_config.json").write_text(json.dumps({**config, "model_input_names": ["input_ids", "attention_mask"]}))
    return copied


def _copied(source: str, target: str) -> None:
    """Weights as a link, the rest as a copy."""
    if source.endswith(".safetensors"):
        Path(target).unlink(missing_ok=True)
        Path(target).symlink_to(source)
    else:
        shutil.copy(source, target)
