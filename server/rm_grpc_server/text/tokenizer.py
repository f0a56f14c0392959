"""A checkpoint's tokenizer: its files and its special tokens.

`tokenizer.json` is loaded as it is, because a tokenizer class may rebuild another pipeline from it.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer

from rm_grpc_server.errors import ConfigError, ModelLoadError
from rm_grpc_server.text.encoders import bare_tokenizer
from rm_grpc_server.text.encoding import TokenArray

_SPECIAL_NAMES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class TokenizerFiles:
    """What a checkpoint folder says of its tokenizer.

    Attributes:
        serialized: the text of tokenizer.json, with the added tokens that only tokenizer_config.json knows.
        digest: its SHA-256.
        special_tokens: the texts named bos_token, eos_token ... where the checkpoint has them.
        added_tokens: texts of all added tokens, with their ids.
        bos_id: id of the beginning-of-sequence token, or None where the tokenizer has none.
        largest_id: the largest id of the vocabulary.
        homeless_tokens: texts that tokenizer_config.json gives an id which tokenizer.json has no place for; read as plain text.
        control_tokens: texts of the added tokens that are marked special.
        chat_template: the Jinja source, or empty.
        segments_are_independent: whether text between control tokens encodes on its own as it does in its place, so that pieces
            may be encoded apart.

    Raises:
        ModelLoadError: a file is missing or cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelLoadError(
                f"{folder} has no tokenizer.json; write one with AutoTokenizer.from_pretrained(...).save_pretrained(...)"
            )
        self.serialized = path.read_text(encoding="utf-8")
        try:
            tokenizer = Tokenizer.from_str(self.serialized)
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelLoadError(f"{path} is no tokenizer: {error}") from error
        config = _read_json(folder / "special_tokens_map.json") | _read_json(folder / "tokenizer_config.json")
        if config.get("split_special_tokens"):
            raise ModelLoadError(f"{folder}: split_special_tokens in tokenizer_config.json is not supported")
        missing, self.homeless_tokens = _add_missing(tokenizer, config.get("added_tokens_decoder") or {})
        if missing:
            self.serialized = tokenizer.to_str()
        self.digest = "sha256:" + hashlib.sha256(self.serialized.encode()).hexdigest()
        self.special_tokens = {name: _token_text(config[name]) for name in _SPECIAL_NAMES if config.get(name)}
        added = tokenizer.get_added_tokens_decoder()
        self.added_tokens = {token.content: at for at, token in added.items()}
        self.control_tokens = frozenset(token.content for token in added.values() if token.special)
        bos = self.special_tokens.get("bos_token")
        self.bos_id: int | None = tokenizer.token_to_id(bos) if bos else None
        self.largest_id: int = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
        self.chat_template = _chat_template(folder, config)
        self.model_max_length: int | None = _length(config.get("model_max_length"))
        touching = any(token.special and (token.lstrip or token.rstrip or token.single_word) for token in added.values())
        self.segments_are_independent = not touching and _starts_alike(json.loads(self.serialized))

    @cached_property
    def _framed(self) -> Tokenizer:
        return bare_tokenizer(self.serialized)

    @cached_property
    def _frame(self) -> tuple[TokenArray, TokenArray]:
        """The special tokens that the tokenizer puts before and behind any text."""
        inner = self.bare_ids("a")
        whole = self.single_ids("a")
        for at in range(len(whole) - len(inner) + 1):
            if np.array_equal(whole[at : at + len(inner)], inner):
                return whole[:at], whole[at + len(inner) :]
        return whole[:0], whole[:0]

    def framed(self, ids: TokenArray) -> TokenArray:
        """A text's ids with the special tokens that the tokenizer puts around any text, unless they are there."""
        before, behind = self._frame
        if np.array_equal(ids[: len(before)], before):
            before = before[:0]
        if len(behind) and np.array_equal(ids[-len(behind) :], behind):
            behind = behind[:0]
        return np.concatenate([before, ids, behind])

    def single_ids(self, text: str) -> TokenArray:
        """A text's ids as an encoder reads it, with the special tokens that its tokenizer puts around it."""
        return np.array(self._framed.encode(text).ids, dtype=np.int32)

    def pair_ids(self, first: str, second: str) -> tuple[TokenArray, int]:
        """The ids of a pair of texts, with the special tokens that the tokenizer puts around and between them, and where the
        second begins.
        """
        encoding = self._framed.encode(first, second)
        begins = next((at for at, kind in enumerate(encoding.type_ids) if kind == 1), len(encoding.ids))
        return np.array(encoding.ids, dtype=np.int32), min(begins, len(encoding.ids) - 1)

    def only_id(self, text: str, key: str) -> int:
        """The one id that a text is encoded to.

        Args:
            key: the setting that names the text.

        Raises:
            ConfigError: it is none, or several.
        """
        ids = self.bare_ids(text)
        if len(ids) != 1:
            raise ConfigError(f"{key}: {text!r} is {len(ids)} tokens of this tokenizer, and must be one; give ids instead")
        return int(ids[0])

    def bare_ids(self, text: str) -> TokenArray:
        """A text's ids without anything added."""
        return np.array(self._framed.encode(text, add_special_tokens=False).ids, dtype=np.int32)


def _add_missing(tokenizer: Tokenizer, decoder: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Adds the tokens that only tokenizer_config.json names, as Transformers does.

    Returns:
        The tokens that were added, and those whose id cannot be had: Transformers would give them another one.
    """
    known = tokenizer.get_added_tokens_decoder()
    added: list[str] = []
    homeless: list[str] = []
    for at, raw in sorted(((int(at), raw) for at, raw in decoder.items()), key=lambda pair: pair[0]):
        if at in known:
            continue
        content = str(raw["content"])
        place = tokenizer.token_to_id(content)
        if at != (tokenizer.get_vocab_size() if place is None else place):
            homeless.append(content)
            continue
        flags = {name: bool(raw.get(name, False)) for name in ("lstrip", "rstrip", "single_word", "normalized", "special")}
        token = AddedToken(content, **flags)
        tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
        added.append(content)
    return added, homeless


def _starts_alike(parsed: dict[str, Any]) -> bool:
    """Whether no step treats the start of a document differently from the start of a piece (SentencePiece's space does)."""
    steps = json.dumps([parsed.get("normalizer"), parsed.get("pre_tokenizer")])
    return "Metaspace" not in steps and "Prepend" not in steps and '"add_prefix_space": true' not in steps


def _chat_template(folder: Path, config: dict[str, Any]) -> str:
    if (path := folder / "chat_template.jinja").is_file():
        return path.read_text(encoding="utf-8")
    template = config.get("chat_template") or ""
    if isinstance(template, list):
        named = {entry["name"]: entry["template"] for entry in template}
        template = named.get("default", "")
    return str(template)


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        parsed = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelLoadError(f"{path} is no JSON: {error}") from error
    return dict(parsed)


def _token_text(raw: Any) -> str:
    return str(raw["content"]) if isinstance(raw, dict) else str(raw)


def _length(raw: Any) -> int | None:
    # Transformers writes 1e30 for "no limit".
    return int(raw) if isinstance(raw, (int, float)) and 0 < raw < 2**31 else None
