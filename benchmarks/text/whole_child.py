"""The process that whole pipelines are measured in: from messages to ids, as a trainer does it and as the server does it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from transformers import AutoTokenizer

from benchmarks.text.orders import answer_orders
from rm_grpc.errors import RewardError
from rm_grpc.types import ControlTokens, ForeignMarkers, Item, ScoreOptions
from rm_grpc_server.config import TextSettings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.text.encoding import Encoding
from rm_grpc_server.text.pipeline import TextPipeline
from rm_grpc_server.text.reading import LastToken
from rm_grpc_server.text.tokenizer import TokenizerFiles

Batch = Sequence[list[dict[str, str]]]
_LONGEST = 1 << 20
_OPTIONS = ScoreOptions(control_tokens=ControlTokens.REFUSE, foreign_markers=ForeignMarkers.ALLOW)


class Trainer:
    """`apply_chat_template` as trainers call it: rendered, encoded, padded and made a tensor, in one call for each batch."""

    def __init__(self, folder: Path) -> None:
        self.name = "transformers, padded tensors"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token

    def encode(self, batch: Batch) -> Any:
        """A batch: ids and mask as tensors."""
        return self._tokenizer.apply_chat_template(
            batch, tokenize=True, return_tensors="pt", padding=True, return_dict=True, tokenizer_kwargs={}
        )

    def ids(self, result: Any) -> list[list[int] | None]:
        """Each conversation's ids without the padding."""
        return [row[mask.bool()].tolist() for row, mask in zip(result["input_ids"], result["attention_mask"], strict=True)]


class Lists:
    """The same without padding and tensors, which no packed trainer needs: lists of ids."""

    def __init__(self, folder: Path) -> None:
        self.name = "transformers, lists"
        self._tokenizer = AutoTokenizer.from_pretrained(folder)

    def encode(self, batch: Batch) -> Any:
        """A batch: lists of ids."""
        return self._tokenizer.apply_chat_template(batch, tokenize=True, return_dict=True)

    def ids(self, result: Any) -> list[list[int] | None]:
        """Each conversation's ids."""
        return list(result["input_ids"])


class Server:
    """The server's text side: checks, template, ids, and all of them in one row with the ends of the conversations."""

    def __init__(self, folder: Path, encoder: Literal["native", "huggingface"]) -> None:
        files = TokenizerFiles(folder)
        vocabulary = files.largest_id + 1
        known = "encoder" in TextSettings.model_fields
        settings = TextSettings.model_validate({"encoder": encoder} if known else {})
        self._pipeline = TextPipeline(files, settings, LastToken(), model_max_length=_LONGEST, vocabulary_size=vocabulary)
        self.name = f"rm-grpc, {self._pipeline.encoder.name}"

    def encode(self, batch: Batch) -> Any:
        """A batch: packed ids, and where each conversation ends."""
        encoded = self._pipeline.encode([Item.of(messages) for messages in batch], _OPTIONS)
        found = [one for one in encoded if isinstance(one, Encoding)]
        return np.concatenate([one.ids for one in found]), np.cumsum([len(one.ids) for one in found]), encoded

    def ids(self, result: Any) -> list[list[int] | None]:
        """Each conversation's ids; None where the server refuses it, for a control token in its content."""
        return [None if isinstance(one, RewardError) else one.ids.tolist() for one in result[2]]


MAKERS: dict[str, Callable[[Path], Trainer | Lists | Server]] = {
    "transformers padded": Trainer,
    "transformers lists": Lists,
    "ours huggingface": lambda folder: Server(folder, "huggingface"),
    "ours native": lambda folder: Server(folder, "native"),
}


def _made(key: str, folder: Path) -> Trainer | Lists | Server | str:
    """A way, or why it cannot be had."""
    try:
        return MAKERS[key](folder)
    except (ValueError, ImportError, RewardError, ConfigError, OSError) as error:
        return f"{type(error).__name__}: {error}"


def _measured(way: Trainer | Lists | Server, batches: Sequence[Batch]) -> dict[str, Any]:
    cpu, started = time.process_time(), time.perf_counter()
    results = [way.encode(batch) for batch in batches]
    taken = {"seconds": time.perf_counter() - started, "cpu": time.process_time() - cpu}
    return {"name": way.name, **taken, "ids": [each for result in results for each in way.ids(result)]}


def _answer(order: dict[str, Any]) -> dict[str, Any]:
    """Every way on every portion, interleaved, after a portion that warms up."""
    tried = {key: _made(key, Path(order["folder"])) for key in MAKERS}
    made = {key: way for key, way in tried.items() if not isinstance(way, str)}
    failed = {key: why for key, why in tried.items() if isinstance(why, str)}
    found: dict[str, list[dict[str, Any]]] = {key: [] for key in made}
    for at, portion in enumerate(order["portions"]):
        batches = [portion[start : start + order["batch"]] for start in range(0, len(portion), order["batch"])]
        rounds = {key: _measured(made[key], batches) for key in (made if at % 2 else list(made)[::-1])}
        reference = rounds["transformers lists"]["ids"]
        for key, one in rounds.items():
            ids = one.pop("ids")
            one["refused"] = sum(each is None for each in ids)
            one["wrong"] = sum(
                each is not None and list(each) != list(theirs) for each, theirs in zip(ids, reference, strict=True)
            )
            one["conversations"], one["tokens"] = len(portion), sum(map(len, reference))
            if at:
                found[key].append(one)
    return {"found": found, "failed": failed}


def main() -> None:
    """Answers orders on one core."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answer_orders(_answer)


if __name__ == "__main__":
    main()
