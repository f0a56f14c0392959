"""The encoder as Python sees it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt

from rm_grpc_native import _core
from rm_grpc_native.recipe import MalformedTokenizer, Recipe, parse

IdArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]


class Encoder:
    """An encoder of one tokenizer. Safe from several threads, and holds no lock of Python's while it works.

    Raises:
        MalformedTokenizer: the recipe contradicts itself.
    """

    def __init__(self, recipe: Recipe) -> None:
        try:
            self._core = _core.Encoder(
                words=recipe.words,
                nfc=recipe.nfc,
                ignore_merges=recipe.ignore_merges,
                prepend_space=recipe.prepend_space,
                vocabulary=recipe.vocabulary,
                merges=recipe.merges,
                added=recipe.added,
            )
        except ValueError as error:
            raise MalformedTokenizer(str(error)) from error
        strips = any(left or right for *_, left, right in recipe.added)
        self._has_spans = recipe.words != "sentence_pieces" and not recipe.trims_spans and not strips
        self._nfc = recipe.nfc
        self._added_lengths = {at: len(content.encode()) for content, at, *_ in recipe.added}

    @classmethod
    def from_json(cls, text: str) -> Encoder:
        """An encoder from the text of a tokenizer.json.

        Raises:
            MalformedTokenizer: it is none, or contradicts itself.
            UnsupportedTokenizer: something in it is not known here exactly.
        """
        return cls(parse(text))

    def encode(
        self, texts: Sequence[str], *, plain: bool = False, instructions: str | None = None
    ) -> tuple[IdArray, LongArray]:
        """The ids of texts, one behind the other, with nothing added.

        Args:
            plain: read added tokens as characters like any others.
            instructions: one of `instructions()`; the fastest where none is given.

        Returns:
            ids [tokens] int32, and offsets [texts + 1] int64: text i has ids[offsets[i]:offsets[i + 1]].

        Raises:
            UnicodeEncodeError: a text holds a lone surrogate.
            ValueError: instructions that this processor has not.
        """
        return self._core.encode(list(texts), plain=plain, instructions=instructions)

    def encode_spans(self, text: str) -> tuple[IdArray, LongArray, LongArray] | None:
        """A text's ids and the characters that each stands for, or None where `tokenizers` must be asked.

        That is so for sentence pieces, for post-processors that trim, and for text that normalisation changes.

        Returns:
            ids [tokens] int32, the first character of each and one past its last, [tokens] int64. A token that is a part of a
            character has all of it, as `tokenizers` has it.
        """
        if not self._has_spans or (self._nfc and not _core.is_nfc(text)):
            return None
        ids, _ = self.encode([text])
        ends = np.cumsum(self._lengths[ids])
        characters = _characters(text)
        if not len(ids):
            return ids, ends, ends
        if ends[-1] != len(characters):
            raise AssertionError(f"the ids of {text[:80]!r} stand for {ends[-1]} bytes, and it has {len(characters)}")
        starts = np.concatenate([[0], ends[:-1]])
        return ids, characters[starts], characters[ends - 1] + 1

    @cached_property
    def _lengths(self) -> LongArray:
        """By id: bytes of its text."""
        known = self._core.lengths()
        lengths = np.zeros(max(len(known), max(self._added_lengths, default=0) + 1), dtype=np.int64)
        lengths[: len(known)] = known
        for at, length in self._added_lengths.items():
            lengths[at] = length
        return lengths


def _characters(text: str) -> LongArray:
    """By byte of its UTF-8: the character that it belongs to."""
    begins = (np.frombuffer(text.encode(), dtype=np.uint8) & 0xC0) != 0x80
    return np.cumsum(begins, dtype=np.int64) - 1
