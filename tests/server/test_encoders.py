"""Which encoder a model gets and why, and that both give the same ids, spans and order."""

from __future__ import annotations

import builtins
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rm_grpc_native
from hypothesis import given
from hypothesis import strategies as st

import rm_grpc_server.defaults
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.models.prefixes import order_with_numpy
from rm_grpc_server.text.encoders import HuggingFaceEncoder, NativeEncoder, open_encoder

FOLDER = Path(next(iter(rm_grpc_server.defaults.__path__))) / "arithmetic-classifier"
SERIALIZED = (FOLDER / "tokenizer.json").read_text(encoding="utf-8")
NATIVE, REFERENCE = NativeEncoder(SERIALIZED), HuggingFaceEncoder(SERIALIZED)
TEXTS = st.text(max_size=300) | st.text("12 +=\n<|>ab", max_size=200)


def _changed(**changes: Any) -> str:
    return json.dumps(json.loads(SERIALIZED) | changes)


def test_auto_is_native_where_it_knows_the_tokenizer() -> None:
    assert open_encoder(SERIALIZED, "auto").name.startswith(f"native {rm_grpc_native.__version__}")
    assert open_encoder(SERIALIZED, "native").name.startswith("native")


def test_huggingface_is_had_by_asking() -> None:
    assert open_encoder(SERIALIZED, "huggingface").name.startswith("huggingface tokenizers")


def test_a_tokenizer_that_is_not_known_goes_to_tokenizers_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    unknown = _changed(normalizer={"type": "Lowercase"})
    with caplog.at_level(logging.WARNING):
        encoder = open_encoder(unknown, "auto")
    assert encoder.name.startswith("huggingface")
    assert "normalizer Lowercase" in encoder.name
    assert "normalizer Lowercase" in caplog.text
    with pytest.raises(ConfigError, match=r"text\.encoder: native cannot be had: .*normalizer Lowercase"):
        open_encoder(unknown, "native")


def test_without_the_package_tokenizers_encode_and_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_import = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "rm_grpc_native":
            raise ImportError(name)
        return plain_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    assert "rm-grpc-native is not installed" in open_encoder(SERIALIZED, "auto").name
    with pytest.raises(ConfigError, match="not installed"):
        open_encoder(SERIALIZED, "native")


def test_a_native_encoder_that_differs_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = NativeEncoder.encode
    monkeypatch.setattr(NativeEncoder, "encode", lambda self, texts: [ids[::-1] for ids in encode(self, texts)])
    assert "differ on" in open_encoder(SERIALIZED, "auto").name


@given(st.lists(TEXTS, max_size=8))
def test_both_give_the_same_ids(texts: list[str]) -> None:
    for ours, theirs in zip(NATIVE.encode(texts), REFERENCE.encode(texts), strict=True):
        assert ours.dtype == theirs.dtype == np.int32
        assert ours.tolist() == theirs.tolist()


@given(TEXTS)
def test_both_give_the_same_ids_of_plain_text(text: str) -> None:
    assert NATIVE.encode_plain(text).tolist() == REFERENCE.encode_plain(text).tolist()


@given(TEXTS)
def test_both_give_the_same_spans(text: str) -> None:
    ours, theirs = NATIVE.encode_spans(text), REFERENCE.encode_spans(text)
    assert [one.tolist() for one in ours] == [one.tolist() for one in theirs]


@given(st.lists(st.lists(st.integers(0, 3) | st.integers(2**31 - 2, 2**31 - 1), max_size=130), max_size=12))
def test_the_order_of_a_batch_is_that_of_numpy(conversations: list[list[int]]) -> None:
    ids = [np.array(one, dtype=np.int32) for one in conversations]
    for ours, theirs in zip(rm_grpc_native.order_by_ids(ids), order_with_numpy(ids), strict=True):
        assert ours.tolist() == theirs.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "not the shape"),
        (_changed(added_tokens=[], model={"type": "BPE", "vocab": {}, "merges": []}), "vocabulary is empty"),
        (_changed(added_tokens=[], model={"type": "BPE", "vocab": {"a": -1}, "merges": []}), "no id"),
        (_changed(added_tokens=[], model={"type": "BPE", "vocab": {"a": 2**30}, "merges": []}), "2\\^21"),
        (_changed(added_tokens=[], model={"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}), "two tokens have id 0"),
        (_changed(added_tokens=[], model={"type": "BPE", "vocab": {"a": 0}, "merges": []}), "no token for byte"),
        (_changed(model=json.loads(SERIALIZED)["model"] | {"merges": ["a"]}), "no pair"),
        (_changed(model=json.loads(SERIALIZED)["model"] | {"merges": [["a", "no such token"]]}), "no token"),
    ],
)
def test_a_malformed_file_is_a_clear_error(text: str, message: str) -> None:
    with pytest.raises(rm_grpc_native.MalformedTokenizer, match=message):
        rm_grpc_native.Encoder.from_json(text)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"something": 1}, "key something"),
        ({"pre_tokenizer": None}, "pre_tokenizer"),
        ({"model": {"type": "WordPiece", "vocab": {}, "merges": []}}, "model WordPiece"),
        ({"model": json.loads(SERIALIZED)["model"] | {"dropout": 0.1}}, "model.dropout"),
        ({"model": json.loads(SERIALIZED)["model"] | {"new": 1}}, "model key new"),
    ],
)
def test_what_is_not_known_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(rm_grpc_native.UnsupportedTokenizer, match=message):
        rm_grpc_native.Encoder.from_json(_changed(**changes))


def test_bad_arguments_are_refused() -> None:
    encoder = rm_grpc_native.Encoder.from_json(SERIALIZED)
    with pytest.raises(ValueError, match="no instruction set named abacus"):
        encoder.encode(["a"], instructions="abacus")
    with pytest.raises(UnicodeEncodeError):
        encoder.encode(["\ud800"])
    with pytest.raises(TypeError):
        encoder.encode([b"bytes"])  # type: ignore[list-item]  # the point of it
