"""The process that one engine is measured in. Orders come and answers go as pickles, each over a pipe.

It runs in the engine's own virtual environment and imports nothing but the standard library, NumPy and the engine. Documents
come as bytes, and become fresh `str` objects right before the clock starts: a `str` that is not ASCII keeps its UTF-8 once
somebody has asked for it, which would spare every later call that work.
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.metadata import version
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from benchmarks.text.orders import answer_orders

Texts = list[str]
Ids = npt.NDArray[np.int32]


class Engine(Protocol):
    """One library's fastest call for a list of texts.

    Attributes:
        returns: what that call gives, in words.
        version: of the library.
    """

    returns: str
    version: str

    def encode(self, texts: Texts) -> Any:
        """The library's own result. Only this is timed."""

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """All ids of that result in one array, by the shortest way there is, and where each text begins and the last ends."""


def _joined(rows: Sequence[Any]) -> tuple[Ids, list[int]]:
    flat = np.concatenate([np.asarray(row, dtype=np.int32) for row in rows])
    return flat, [0, *accumulate(map(len, rows))]


class HuggingFace:
    """`tokenizers` 0.23: `encode_batch_fast`, which leaves the offsets out."""

    returns = "list of Encoding objects"

    def __init__(self, folder: Path) -> None:
        tokenizers = import_module("tokenizers")
        self.version = tokenizers.__version__
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Texts) -> Any:
        """See `Engine`."""
        return self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """See `Engine`."""
        return _joined([encoding.ids for encoding in result])


class HuggingFaceNext:
    """`tokenizers` 1.0: `encode_batch`; its encodings give arrays."""

    returns = "list of Encoding objects"

    def __init__(self, folder: Path) -> None:
        tokenizers = import_module("tokenizers")
        self.version = version("tokenizers")
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.truncation = self._tokenizer.padding = None

    def encode(self, texts: Texts) -> Any:
        """See `Engine`."""
        return self._tokenizer.encode_batch(texts, add_special_tokens=False)

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """See `Engine`."""
        return _joined([encoding.ids_array for encoding in result])


class Gigatoken:
    """`gigatoken`: its own interface on one thread, not the slower compatible ones."""

    returns = "Awkward array of uint32"

    def __init__(self, folder: Path) -> None:
        self.version = version("gigatoken")
        self._tokenizer = import_module("gigatoken").Tokenizer(str(folder / "tokenizer.json"))

    def encode(self, texts: Texts) -> Any:
        """See `Engine`."""
        return self._tokenizer.encode_batch(texts, parallel=False)

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """See `Engine`."""
        awkward = import_module("awkward")
        counts: list[int] = awkward.num(result).tolist()
        return awkward.to_numpy(awkward.flatten(result)).astype(np.int32), [0, *accumulate(counts)]


class Fastokens:
    """`fastokens`: `encode_batch_flat`, which makes no Python object per token."""

    returns = "bytes of uint32 ids and of uint64 offsets"

    def __init__(self, folder: Path) -> None:
        self.version = version("fastokens")
        self._tokenizer = import_module("fastokens").Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: Texts) -> Any:
        """See `Engine`."""
        return self._tokenizer.encode_batch_flat(texts)

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """See `Engine`."""
        return np.frombuffer(result[0], np.int32), np.frombuffer(result[1], np.uint64).tolist()


class Tiktoken:
    """`tiktoken`, built from the ranks in tokenizer.json: a loop of `encode_ordinary`, for its batch call is a pool of threads.

    It neither normalises nor splits in several steps, so that families which do are encoded otherwise or not at all.
    """

    returns = "list of lists of int"

    def __init__(self, folder: Path) -> None:
        self.version = version("tiktoken")
        parsed = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        added = {token["content"] for token in parsed["added_tokens"]}
        letters = {letter: byte for byte, letter in enumerate(_byte_letters())}
        vocabulary = {token: at for token, at in parsed["model"]["vocab"].items() if token not in added}
        if not all(letter in letters for token in vocabulary for letter in token):
            raise ValueError("tiktoken encodes bytes; this vocabulary is of characters")
        ranks = {bytes(letters[letter] for letter in token): at for token, at in vocabulary.items()}
        self._encoding = import_module("tiktoken").Encoding(
            folder.name, pat_str=_one_pattern(parsed["pre_tokenizer"]), mergeable_ranks=ranks, special_tokens={}
        )

    def encode(self, texts: Texts) -> Any:
        """See `Engine`."""
        return [self._encoding.encode_ordinary(text) for text in texts]

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """See `Engine`."""
        return _joined(result)


class Ours:
    """`rm_grpc_native`: all ids in one array."""

    returns = "one int32 array of ids, one int64 array of offsets"

    def __init__(self, folder: Path, instructions: str | None = None) -> None:
        native = import_module("rm_grpc_native")
        self.version = native.__version__
        self._encoder = native.Encoder.from_json((folder / "tokenizer.json").read_text(encoding="utf-8"))
        self._instructions = instructions

    def encode(self, texts: Texts) -> Any:
        """See `Engine`."""
        return self._encoder.encode(texts, instructions=self._instructions)

    def array(self, result: Any) -> tuple[Ids, list[int]]:
        """See `Engine`."""
        return result[0], result[1].tolist()


ENGINES: dict[str, Callable[..., Engine]] = {
    "rm-grpc-native": Ours,
    "tokenizers 0.23": HuggingFace,
    "tokenizers 1.0": HuggingFaceNext,
    "gigatoken": Gigatoken,
    "fastokens": Fastokens,
    "tiktoken": Tiktoken,
}


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]


def _one_pattern(pre_tokenizer: dict[str, Any]) -> str:
    splits = [step for step in pre_tokenizer.get("pretokenizers", [pre_tokenizer]) if step["type"] == "Split"]
    if len(splits) != 1:
        raise ValueError(f"tiktoken splits once; this tokenizer splits {len(splits)} times")
    return str(splits[0]["pattern"]["Regex"])


def _digests(flat: Ids, ends: Sequence[int]) -> list[bytes]:
    return [hashlib.blake2b(flat[start:end].tobytes(), digest_size=8).digest() for start, end in pairwise(ends)]


class Worker:
    """Answers orders with one engine."""

    def __init__(self, name: str) -> None:
        self._cores = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {max(self._cores)})  # some libraries start a thread for each core, whatever they are told
        self._make = ENGINES[name]
        self._engine: Engine | None = None
        self._pools: dict[int, ThreadPoolExecutor] = {}

    def open(self, folder: str, **options: Any) -> dict[str, Any]:
        """Loads a tokenizer."""
        self._engine = None
        gc.collect()
        self._engine = self._make(Path(folder), **options)
        return {"returns": self._engine.returns, "version": self._engine.version}

    def encode(self, documents: Sequence[bytes], *, threads: int = 1, digests: bool = False) -> dict[str, Any]:
        """Encodes documents once.

        Returns:
            Seconds of wall clock and of this process's CPU in the call alone, seconds from its result to one int32 array, the
            number of tokens, and digests of each document's ids.
        """
        assert self._engine is not None
        texts = [document.decode() for document in documents]
        gc.collect()
        results, seconds, cpu = self._timed(texts) if threads == 1 else self._timed_in_threads(texts, threads)
        started = time.perf_counter()
        arrays = [self._engine.array(result) for result in results]
        found: dict[str, Any] = {"seconds": seconds, "cpu": cpu, "to_array": time.perf_counter() - started}
        found["tokens"] = sum(len(flat) for flat, _ in arrays)
        found["digests"] = [digest for flat, ends in arrays for digest in _digests(flat, ends)] if digests else []
        return found

    def _timed(self, texts: Texts) -> tuple[list[Any], float, float]:
        assert self._engine is not None
        cpu, started = time.process_time(), time.perf_counter()
        results = [self._engine.encode(texts)]
        return results, time.perf_counter() - started, time.process_time() - cpu

    def _timed_in_threads(self, texts: Texts, threads: int) -> tuple[list[Any], float, float]:
        """Each thread of this process encodes its share with the same engine."""
        assert self._engine is not None
        pool = self._pools.get(threads) or self._pool(threads)
        shares = [texts[start::threads] for start in range(threads)]
        cpu, started = time.process_time(), time.perf_counter()
        results = list(pool.map(self._engine.encode, shares))
        return results, time.perf_counter() - started, time.process_time() - cpu

    def _pool(self, threads: int) -> ThreadPoolExecutor:
        """Threads that may run on every core, and that stay: what an engine keeps for a thread is warm in the next call."""
        pool = self._pools[threads] = ThreadPoolExecutor(threads)
        os.sched_setaffinity(0, self._cores)
        list(pool.map(time.sleep, [0.05] * threads))  # now they are there, and have inherited all cores
        os.sched_setaffinity(0, {max(self._cores)})
        return pool

    def instructions(self) -> dict[str, Any]:
        """The instruction sets that our engine may be asked for here."""
        return {"sets": import_module("rm_grpc_native").instructions()}


def main() -> None:
    """Answers orders, each with the method that it names."""
    worker = Worker(sys.argv[1])
    answer_orders(lambda order: getattr(worker, order.pop("do"))(**order))


if __name__ == "__main__":
    main()
