"""Text to ids: with Hugging Face `tokenizers`, or natively with the same result."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import Tokenizer

from rm_grpc_server.errors import ConfigError
from rm_grpc_server.text.encoding import TokenArray

Places: TypeAlias = npt.NDArray[np.int64]

_LOG = logging.getLogger(__name__)

_PROBE = (
    "Don't naïvely  split:\r\n\t12345 ﬁne “words”, Ünïcödé, 日本語のテキスト、"
    "привет мир 🙂 e\u0301 \u1100\u1161 x=1;\n//\n  END  "
)
"""A text with something of all that encoders get wrong: contractions, blanks, digits, scripts, normalisation."""


class Encoder(Protocol):
    """Text to token ids, exactly as the tokenizer of the checkpoint gives them. Safe from several threads."""

    name: str
    """What makes the ids, with its version, and why where there was a choice."""

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        """The ids of each text, control tokens recognised, nothing added."""

    def encode_plain(self, text: str) -> TokenArray:
        """The ids of a text in which no added token is recognised: it is characters like any other."""

    def encode_spans(self, text: str) -> tuple[TokenArray, Places, Places]:
        """The ids of a text, the first character that each stands for, and one past its last."""


class HuggingFaceEncoder:
    """Encodes with the `tokenizers` library.

    A `Tokenizer` keeps truncation and padding as shared state, so that one thread's call would change another's: they are
    switched off once and never touched. `encode_batch_fast` releases the GIL, `encode` does not.
    """

    def __init__(self, serialized: str, because: str = "") -> None:
        self.name = f"huggingface tokenizers {tokenizers.__version__}" + (f" ({because})" if because else "")
        self._tokenizer = bare_tokenizer(serialized)
        self._serialized = serialized

    @property
    def added_tokens(self) -> list[str]:
        """Texts of the tokens that are found as they stand, by their ids."""
        return [token.content for _, token in sorted(self._tokenizer.get_added_tokens_decoder().items())]

    @cached_property
    def _plain(self) -> Tokenizer:
        """Built when it is first asked for: most models never are. Two threads may both build it, which does no harm."""
        return bare_tokenizer(json.dumps(json.loads(self._serialized) | {"added_tokens": [], "post_processor": None}))

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        """See `Encoder.encode`."""
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int32) for encoding in encodings]

    def encode_spans(self, text: str) -> tuple[TokenArray, Places, Places]:
        """See `Encoder.encode_spans`."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
        return np.array(encoding.ids, dtype=np.int32), spans[:, 0], spans[:, 1]

    def encode_plain(self, text: str) -> TokenArray:
        """See `Encoder.encode_plain`."""
        return np.array(self._plain.encode_batch_fast([text], add_special_tokens=False)[0].ids, dtype=np.int32)


class NativeEncoder:
    """Encodes with `rm_grpc_native`: texts are read where they lie, and all ids are written into one array.

    Raises:
        ImportError: it is not installed.
        ValueError: the tokenizer is not one that it knows exactly.
    """

    def __init__(self, serialized: str) -> None:
        import rm_grpc_native  # an extra of its own: the server works without it

        self._encoder = rm_grpc_native.Encoder.from_json(serialized)
        self._serialized = serialized
        self.name = f"native {rm_grpc_native.__version__} ({rm_grpc_native.instructions()[0]})"

    def encode(self, texts: Sequence[str]) -> list[TokenArray]:
        """See `Encoder.encode`; the arrays are views of one."""
        ids, offsets = self._encoder.encode(texts)
        ends = offsets.tolist()
        return [ids[start:end] for start, end in itertools.pairwise(ends)]

    def encode_plain(self, text: str) -> TokenArray:
        """See `Encoder.encode_plain`."""
        return self._encoder.encode([text], plain=True)[0]

    def encode_spans(self, text: str) -> tuple[TokenArray, Places, Places]:
        """See `Encoder.encode_spans`; `tokenizers` is asked where its spans are not those of the bytes."""
        return self._encoder.encode_spans(text) or self._other.encode_spans(text)

    @cached_property
    def _other(self) -> HuggingFaceEncoder:
        return HuggingFaceEncoder(self._serialized)


def open_encoder(serialized: str, choice: Literal["auto", "native", "huggingface"]) -> Encoder:
    """The encoder that a model's settings ask for; `auto` is the native one where it is installed and knows the tokenizer.

    Before it is trusted, the native encoder must agree with `tokenizers` on every added token and on a text of traps.

    Raises:
        ConfigError: `native` was asked for and cannot be had.
    """
    if choice == "huggingface":
        return HuggingFaceEncoder(serialized)
    try:
        native = NativeEncoder(serialized)
    except ImportError:
        because = "rm-grpc-native is not installed"
    except ValueError as error:
        because = f"rm-grpc-native does not know this tokenizer: {error}"
    else:
        because = _difference(native, serialized)
        if not because:
            _LOG.info("encoding with %s", native.name)
            return native
    if choice == "native":
        raise ConfigError(f"text.encoder: native cannot be had: {because}")
    _LOG.warning("encoding with tokenizers: %s", because)
    return HuggingFaceEncoder(serialized, because)


def _difference(native: NativeEncoder, serialized: str) -> str:
    """What the native encoder gets wrong, or nothing."""
    reference = HuggingFaceEncoder(serialized)
    added = reference.added_tokens
    texts = [_PROBE, *added, _PROBE.join(added[:64])]
    for text, ours, theirs in zip(texts, native.encode(texts), reference.encode(texts), strict=True):
        if not np.array_equal(ours, theirs):
            return f"rm-grpc-native and tokenizers {tokenizers.__version__} differ on {text[:80]!r}"
    return ""


def bare_tokenizer(serialized: str) -> Tokenizer:
    """A tokenizer that neither cuts nor fills up."""
    tokenizer = Tokenizer.from_str(serialized)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
