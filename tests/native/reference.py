"""A whole encode in plain Python, from its definition: slow, and short enough to be believed.

Added tokens are cut out of the raw text, what is between them is normalized, added tokens are cut out of that too, and the
rest goes through the pre-tokenizer and byte-pair merges. Nothing here is shared with the encoder in C++ or with Hugging
Face's, except what a character is (characters.py) and NFC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tokenizers import normalizers

from native.characters import in_class, is_digit
from native.ranks import LETTERS
from native.scanners import PATTERNS, gpt2, pieces

Json = Mapping[str, Any]
NFC = normalizers.NFC()


@dataclass(frozen=True, slots=True)
class Added:
    """An added token as the text is searched for it."""

    content: str
    token_id: int
    flags: frozenset[str]


ByFirst = Mapping[str, Sequence[Added]]


class Reference:
    """The definition of a tokenizer.json. Raises NotImplementedError for a part that none of our families has."""

    def __init__(self, text: str, *, plain: bool = False) -> None:
        parsed = json.loads(text)
        self._normalizer: Json = parsed["normalizer"] or {"type": "Sequence", "normalizers": []}
        self._pre_tokenizer: Json = parsed["pre_tokenizer"] or {"type": "Sequence", "pretokenizers": []}
        self._model: Json = parsed["model"]
        self._vocabulary: Mapping[str, int] = self._model["vocab"]
        merges = [tuple(merge.split(" ", 1) if isinstance(merge, str) else merge) for merge in self._model["merges"]]
        self._ranks = {merge: rank for rank, merge in enumerate(merges)}
        added = [] if plain else _numbered(parsed["added_tokens"], self._vocabulary)
        self._raw = _by_first(token for token in added if "normalized" not in token.flags)
        # A token that is searched for in normalized text is normalized itself.
        self._normalized = _by_first(
            Added(normalized(token.content, self._normalizer), token.token_id, token.flags)
            for token in added
            if "normalized" in token.flags
        )

    def encode(self, text: str) -> list[int]:
        """The ids of a text, nothing added."""
        ids: list[int] = []
        for part in cut_out(text, self._raw):
            if isinstance(part, int):
                ids.append(part)
                continue
            for inner in cut_out(normalized(part, self._normalizer), self._normalized):
                ids.extend([inner] if isinstance(inner, int) else self._encode_plain(inner))
        return ids

    def _encode_plain(self, text: str) -> Iterator[int]:
        for word in pre_tokenized([text], self._pre_tokenizer):
            if self._model.get("ignore_merges") and word in self._vocabulary:
                yield self._vocabulary[word]
            else:
                yield from (self._vocabulary[symbol] for symbol in merged(self._symbols(word), self._ranks))

    def _symbols(self, word: str) -> list[str]:
        if not self._model["byte_fallback"]:
            return list(word)
        return [symbol for character in word for symbol in self._known(character)]

    def _known(self, character: str) -> list[str]:
        if character in self._vocabulary:
            return [character]
        return [f"<0x{byte:02X}>" for byte in character.encode()]


def cut_out(text: str, by_first: ByFirst) -> Iterator[str | int]:
    """The ids of the added tokens in a text, and the text between them: the leftmost, of these the longest."""
    start = at = 0
    while at < len(text):
        token = next((token for token in by_first.get(text[at], ()) if text.startswith(token.content, at)), None)
        if token is None:
            at += 1
            continue
        first, last = at, at + len(token.content)
        at = last
        while "lstrip" in token.flags and first > start and in_class("s", text[first - 1]):
            first -= 1
        while "rstrip" in token.flags and last < len(text) and in_class("s", text[last]):
            last += 1
        if start < first:
            yield text[start:first]
        yield token.token_id
        start = last
    if start < len(text):
        yield text[start:]


def normalized(text: str, normalizer: Json) -> str:
    """The text after the normalizer."""
    match normalizer:
        case {"type": "Sequence", "normalizers": steps}:
            for step in steps:
                text = normalized(text, step)
            return text
        case {"type": "NFC"}:
            return NFC.normalize_str(text)
        case {"type": "Prepend", "prepend": prefix}:
            return f"{prefix}{text}" if text else text
        case {"type": "Replace", "pattern": {"String": old}, "content": new}:
            return text.replace(old, new)
    raise NotImplementedError(normalizer["type"])


def pre_tokenized(words: Iterable[str], step: Json) -> Iterable[str]:
    """The words after a step of the pre-tokenizer, which sees every word by itself."""
    match step:
        case {"type": "Sequence", "pretokenizers": steps}:
            for inner in steps:
                words = pre_tokenized(words, inner)
            return words
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": False}:
            return [piece for word in words for piece in pieces(word, PATTERNS[regex])]
        case {"type": "Split", "pattern": {"Regex": regex}, "behavior": "Removed", "invert": True}:
            return [piece for word in words for piece in pieces(word, PATTERNS[regex], keep_gaps=False)]
        case {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}:
            return [piece for word in words for piece in _ended_by_spaces(word)]
        case {"type": "Digits", "individual_digits": True}:
            return [
                piece for word in words for piece in pieces(word, [lambda text, at: at + 1 if is_digit(text[at]) else None])
            ]
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": use_regex}:
            split = [piece for word in words for piece in pieces(word, gpt2())] if use_regex else words
            return ["".join(LETTERS[byte] for byte in word.encode()) for word in split]
    raise NotImplementedError(step["type"])


def merged(symbols: list[str], ranks: Mapping[tuple[str, ...], int]) -> list[str]:
    """The symbols after all merges: always the pair of the lowest rank, of these the leftmost."""
    while len(symbols) > 1:
        worst = len(ranks)
        rank, at = min((ranks.get(pair, worst), at) for at, pair in enumerate(pairwise(symbols)))
        if rank == worst:
            break
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    return symbols


def _numbered(tokens: Sequence[Json], vocabulary: Mapping[str, int]) -> list[Added]:
    """Added tokens with their ids: the vocabulary's when it has the token, else the next free one, whatever the file says."""
    numbered: dict[str, Added] = {}
    for token in tokens:
        content = token["content"]
        if not content or content in numbered:
            continue
        largest = max((other.token_id for other in numbered.values()), default=-1)
        token_id = vocabulary[content] if content in vocabulary else max(largest + 1, len(vocabulary))
        names = ("normalized", "lstrip", "rstrip")
        numbered[content] = Added(content, token_id, frozenset(name for name in names if token[name]))
    return list(numbered.values())


def _by_first(added: Iterable[Added]) -> ByFirst:
    """The tokens by their first characters, the longest first."""
    grouped: dict[str, list[Added]] = {}
    for token in sorted(added, key=lambda token: -len(token.content)):
        grouped.setdefault(token.content[0], []).append(token)
    return grouped


def _ended_by_spaces(word: str) -> Iterator[str]:
    start = 0
    for at, character in enumerate(word):
        if character == " ":
            yield word[start : at + 1]
            start = at + 1
    if start < len(word):
        yield word[start:]
