"""Conversations to token ids, as a model card does it: Transformers' own chat template and tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

Messages = Sequence[Mapping[str, str]]


class Encoder:
    """A checkpoint's tokenizer and chat template."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)

    def ids(self, messages: Messages) -> list[int]:
        """The ids that a model reads for a conversation."""
        ids: list[int] = self._tokenizer.apply_chat_template(list(messages), tokenize=True, return_dict=False)
        return ids

    def text(self, messages: Messages) -> str:
        """The text of a conversation, as the chat template renders it."""
        text: str = self._tokenizer.apply_chat_template(list(messages), tokenize=False)
        return text

    def words(self) -> list[str]:
        """Words of at least three letters that are one token after a space: texts made of them have a known length."""
        found = [word[1:] for word in self._tokenizer.get_vocab() if word.startswith("Ġ") and len(word) > 3]
        return sorted(word for word in found if word.isascii() and word.isalpha() and word.islower())
