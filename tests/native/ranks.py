"""Vocabularies that are published in another form than tokenizer.json, turned into one.

tiktoken and tekken publish the rank of every token, SentencePiece a score: neither publishes merges. Hugging Face's own
converters recover them: every cut of a token into two tokens is a merge, in the order of the token's rank, then of the ranks
of its parts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Ranks = Mapping[bytes, int]
Merge = tuple[str, str]
Json = dict[str, Any]

NORMAL, UNKNOWN, CONTROL = 1, 2, 3


def byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary: GPT-2 moves the unprintable ones up from U+0100."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    moved = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(moved)) for byte in range(256)]


LETTERS = byte_letters()


def spelled(token: bytes) -> str:
    """A token's bytes in the letters of a byte-level vocabulary."""
    return "".join(LETTERS[byte] for byte in token)


def byte_level(ranks: Ranks, *, first_id: int = 0, before: Mapping[str, int] | None = None, ignore_merges: bool) -> Json:
    """The BPE model of tiktoken ranks; `before` are control tokens that hold the ids below `first_id`."""
    vocabulary = dict(before or {}) | {spelled(token): rank + first_id for token, rank in ranks.items()}
    cuts = _ordered(ranks, lambda token: ranks[token], ranks)
    return _bpe(vocabulary, [(spelled(a), spelled(b)) for a, b in cuts], ignore_merges=ignore_merges)


@dataclass(frozen=True, slots=True)
class Piece:
    """An entry of a SentencePiece model."""

    text: str
    score: float
    kind: int


def pieces(model: bytes) -> list[Piece]:
    """The pieces of a SentencePiece model, which is a protobuf message: field 1 repeats {1: text, 2: score, 3: type}."""
    return [_piece(dict(_fields(value))) for number, value in _fields(model) if number == 1 and isinstance(value, bytes)]


def sentencepiece(entries: Sequence[Piece]) -> Json:
    """The BPE model with byte fallback of SentencePiece's pieces. Control pieces come of no merge: text cannot forge them."""
    vocabulary = {piece.text: at for at, piece in enumerate(entries)}
    scores = {piece.text: piece.score for piece in entries if piece.kind == NORMAL}
    cuts = _ordered(scores, lambda text: -scores[text], vocabulary)
    return _bpe(vocabulary, cuts, ignore_merges=False) | {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}


def _ordered(tokens: Mapping[Any, float], rank: Callable[[Any], float], ids: Mapping[Any, int]) -> list[tuple[Any, Any]]:
    cuts = [(rank(token), ids[a], ids[b], a, b) for token in tokens for a, b in _cuts(token) if a in ids and b in ids]
    return [(a, b) for _, _, _, a, b in sorted(cuts, key=lambda cut: cut[:3])]


def _cuts(token: Any) -> Iterator[tuple[Any, Any]]:
    return ((token[:at], token[at:]) for at in range(1, len(token)))


def _bpe(vocabulary: Mapping[str, int], merges: Sequence[Merge], *, ignore_merges: bool) -> Json:
    fixed = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None}
    plain = {"fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges}
    return {**fixed, **plain, "vocab": dict(vocabulary), "merges": [list(merge) for merge in merges]}


def _piece(fields: Mapping[int, bytes | int]) -> Piece:
    text, score, kind = fields[1], fields.get(2, bytes(4)), fields.get(3, NORMAL)
    if not isinstance(text, bytes) or not isinstance(score, bytes) or not isinstance(kind, int):
        raise TypeError("this is not a SentencePiece model")
    return Piece(text.decode(), struct.unpack("<f", score)[0], kind)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a protobuf message, nested messages as their bytes."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(message, at)
            yield number, value
            continue
        length, at = _varint(message, at) if wire == 2 else ({1: 8, 5: 4}[wire], at)
        yield number, message[at : at + length]
        at += length


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while message[at] & 0x80:
        value |= (message[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1
