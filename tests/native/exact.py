"""Encoders held against Hugging Face's, id by id. A thin run is a pytest (test_exact.py), the full one a command.

`PYTHONPATH=tests python -m native.exact [FAMILY ...]` compares the native encoder on every document, conversation and fuzz
document, with every instruction set of this CPU; it prints a line for each family and the shortest texts that differ, and
exits 1 if any do, or if a family's tokenizer cannot be had. `--reference` holds the reference against Hugging Face instead, on
short cuts: what checks the checker.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import islice, pairwise
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from native import fuzzed
from native.documents import conversations, documents
from native.packages import UnavailableError
from native.real_tokenizers import FAMILIES, tokenizer_json, without_added_tokens
from native.reference import Reference

CHUNK_CHARACTERS = 2_000_000
SHRINK_TRIES = 400
SHOWN = 3
SEED = 20261122
FULL_DOCUMENTS = 30_000
LEAST_DOCUMENTS = 17_000
REFERENCE_CHARACTERS = (
    250  # a byte-pair merge by definition takes time quadratic in the word, and SentencePiece's word is the text
)

Ids = npt.NDArray[np.integer[Any]]
Encode = Callable[[Sequence[str]], list[Ids]]


class Progress(Protocol):
    """Where a run says how far it is."""

    def __call__(self, line: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Mismatch:
    """A text that is encoded differently, cut down to as little as still differs."""

    text: str
    expected: list[int]
    got: list[int]

    def __str__(self) -> str:
        return f"{self.text!a}: expected {self.expected}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Report:
    """What came of comparing some texts."""

    texts: int
    different: int
    shortest: list[Mismatch]

    def __add__(self, other: Report) -> Report:
        distinct = {mismatch.text: mismatch for mismatch in other.shortest + self.shortest}
        shortest = sorted(distinct.values(), key=lambda mismatch: len(mismatch.text))
        return Report(self.texts + other.texts, self.different + other.different, shortest[:SHOWN])


NOTHING = Report(0, 0, [])


def huggingface(text: str, *, plain: bool = False) -> Encode:
    """The encoder that decides. Text is plain where no added token is there to be recognised."""
    tokenizer = Tokenizer.from_str(without_added_tokens(text) if plain else text)

    def encode(texts: Sequence[str]) -> list[Ids]:
        encodings = tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.asarray(encoding.ids, dtype=np.int32) for encoding in encodings]

    return encode


def reference(text: str, *, plain: bool = False) -> Encode:
    """The definition."""
    encoder = Reference(text, plain=plain)
    return lambda texts: [np.asarray(encoder.encode(text), dtype=np.int32) for text in texts]


def native(encoder: Any, *, instructions: str, plain: bool = False) -> Encode:
    """The encoder under test, with one set of instructions."""

    def encode(texts: Sequence[str]) -> list[Ids]:
        ids, offsets = encoder.encode(list(texts), plain=plain, instructions=instructions)
        if ids.dtype != np.int32 or offsets.dtype != np.int64 or len(offsets) != len(texts) + 1 or offsets[-1] != len(ids):
            raise TypeError(f"{len(texts)} texts became {ids.dtype}[{len(ids)}] and {offsets.dtype}{offsets[-3:]}")
        return [ids[start:end] for start, end in pairwise(offsets)]

    return encode


def compare(expected: Encode, candidates: Sequence[Encode], texts: Sequence[str]) -> Report:
    """How many texts any of the candidates encodes differently; the first of them shrunk."""
    report = NOTHING
    for chunk in _chunks(texts):
        wanted = expected(chunk)
        for candidate in candidates:
            pairs = zip(chunk, wanted, candidate(chunk), strict=True)
            different = [text for text, want, got in pairs if not np.array_equal(want, got)]
            # Spread over the chunk, for neighbours tend to differ for the same reason.
            chosen = different[:: len(different) // SHOWN + 1] if len(report.shortest) < SHOWN else []
            shown = [shrink(expected, candidate, text) for text in chosen]
            report += Report(0, len(different), shown)
        report += Report(len(chunk), 0, [])
    return report


def shrink(expected: Encode, candidate: Encode, text: str) -> Mismatch:
    """Leaves out halves, then quarters, and so on down to single characters, as long as the two encoders still differ."""

    def differs(some: str) -> bool:
        return not np.array_equal(expected([some])[0], candidate([some])[0])

    tries, length = 0, len(text) // 2
    while length and tries < SHRINK_TRIES:
        at = 0
        while at < len(text) and tries < SHRINK_TRIES:
            without = text[:at] + text[at + length :]
            tries += 1
            if differs(without):
                text = without
            else:
                at += length
        length //= 2
    return Mismatch(text, expected([text])[0].tolist(), candidate([text])[0].tolist())


def added_tokens(text: str) -> list[str]:
    """The added tokens of a tokenizer.json that fuzz documents are made with."""
    tokens = Tokenizer.from_str(text).get_added_tokens_decoder()
    # The named ones before the reserved ones, for fuzz documents take from the front.
    return sorted(
        (token.content for token in tokens.values()), key=lambda content: content.rstrip("0123456789_|>｜]")[-1:].isdigit()
    )


@dataclass(frozen=True, slots=True)
class Texts:
    """What a run compares: texts for every family, and how many fuzz documents besides."""

    shared: Sequence[str]
    fuzz: int

    def of(self, added: Sequence[str]) -> list[str]:
        return [*self.shared, *fuzzed.documents(SEED, self.fuzz, added)]

    def plain(self, added: Sequence[str]) -> list[str]:
        """Fewer of the shared ones: most have no control token, and are the same to both ways."""
        return [*self.shared[::8], *fuzzed.documents(SEED + 1, self.fuzz, added)]


def compare_native(text: str, texts: Texts) -> Report:
    """A family's native encoder, with all that this CPU has, and then plain."""
    module = import_module("rm_grpc_native")
    encoder, added, report = module.Encoder.from_json(text), added_tokens(text), NOTHING
    for plain in (False, True):
        candidates = [native(encoder, instructions=name, plain=plain) for name in module.instructions()]
        report += compare(huggingface(text, plain=plain), candidates, texts.plain(added) if plain else texts.of(added))
    return report


def compare_reference(text: str, texts: Texts) -> Report:
    """The reference on the beginnings of the texts."""
    added, report = added_tokens(text), NOTHING
    for plain in (False, True):
        cut = [some[:REFERENCE_CHARACTERS] for some in (texts.plain(added) if plain else texts.of(added))]
        report += compare(huggingface(text, plain=plain), [reference(text, plain=plain)], cut)
    return report


def run(families: Sequence[str], texts: Texts, compared: Callable[[str, Texts], Report], say: Progress) -> bool:
    """Whether every family is exact, said line by line."""
    exact = bool(families)
    for family in families:
        try:
            text = tokenizer_json(family)
        except UnavailableError as error:
            say(f"{family:26} cannot be had: {error}")
            exact = False  # nothing is shown of it
            continue
        began = time.monotonic()
        report = compared(text, texts)
        exact = exact and not report.different
        say(f"{family:26} {report.texts:8,} texts {report.different:6,} mismatches {time.monotonic() - began:7.1f} s")
        for mismatch in report.shortest:
            say(f"    {mismatch}")
    return exact


def _chunks(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Batches small enough that Hugging Face's encodings of one fit into memory."""
    chunk: list[str] = []
    length = 0
    for text in texts:
        chunk.append(text)
        length += len(text)
        if length > CHUNK_CHARACTERS:
            yield chunk
            chunk, length = [], 0
    if chunk:
        yield chunk


def main() -> None:
    """The full run."""
    parser = argparse.ArgumentParser(description="Holds an encoder against Hugging Face's.")
    parser.add_argument("families", nargs="*", default=list(FAMILIES), help="all of them when none is named")
    parser.add_argument("--reference", action="store_true", help="compare the reference instead of the native encoder")
    parser.add_argument("--documents", type=int, default=FULL_DOCUMENTS)
    parser.add_argument("--fuzz", type=int, default=60_000, help="fuzz documents of each family")
    arguments = parser.parse_args()
    gathered = [document.text for document in documents(arguments.documents)]
    spoken = conversations()
    print(f"{len(gathered):,} documents, {len(spoken):,} conversations and messages, {arguments.fuzz:,} fuzz documents, twice")
    if len(gathered) < min(LEAST_DOCUMENTS, arguments.documents):
        sys.exit(
            f"this machine has less than {LEAST_DOCUMENTS:,} documents, which shows too little; --documents asks for fewer"
        )
    texts = Texts([*islice(spoken, arguments.documents), *gathered], arguments.fuzz)
    compared = compare_reference if arguments.reference else compare_native
    sys.exit(0 if run(arguments.families, texts, compared, lambda line: print(line, flush=True)) else 1)


if __name__ == "__main__":
    main()
