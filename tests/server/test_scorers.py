"""Scores equal the model card's own snippet, run one conversation at a time, whatever they are batched with."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from services.checkpoints import ARCHITECTURES, build_model, config_of, save_checkpoint
from services.models import LocalModel, load_local
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, JambaConfig, PreTrainedTokenizerFast

from rm_grpc import errors
from rm_grpc.types import Conversation, Item, Message, ScoreOptions, Verdict
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.devices import Claims
from rm_grpc_server.errors import ConfigError, ModelLoadError
from rm_grpc_server.opening import open_model
from rm_grpc_server.text.encoding import Encoding, TokenArray

TOLERANCE = 1e-5
CONVERSATIONS = [
    [("user", "What is 1+1?"), ("assistant", "1+1=2")],
    [("user", "What is 1+1?"), ("assistant", "")],
    [("system", "You count."), ("user", "How many apples?"), ("assistant", "12 - 4 = 8. Jane now has 8 apples. " * 6)],
    [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "Ünïcödé 🙂 text\n\nwith lines")],
    [("user", "x" * 90), ("assistant", "y")],
]


def scorer_settings(head: str) -> dict[str, object]:
    return {} if head == "sequence_classification" else {"kind": "token_logit", "token_ids": [0, 7], "weights": [1.0, -0.5]}


def load(folder: Path, head: str, **changes: object) -> LocalModel:
    values = {"path": str(folder), "scorer": scorer_settings(head), **changes}
    return load_local(ModelSettings.model_validate(values))


def packed_scores(model: LocalModel, rows: list[TokenArray]) -> list[float]:
    outcomes = model.outcomes(rows)
    assert all(isinstance(outcome, Verdict) for outcome in outcomes)
    return [outcome.raw_score for outcome in outcomes if isinstance(outcome, Verdict)]


def card_scores(folder: Path, head: str) -> list[float]:
    """What a model card's snippet prints: one conversation at a time, eager attention, nothing of ours."""
    # Not AutoTokenizer: for model type qwen2 it rebuilds Qwen's own digit split over a tokenizer.json that has another.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    cls = AutoModelForSequenceClassification if head == "sequence_classification" else AutoModelForCausalLM
    model = cls.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    model.config.pad_token_id = None
    scores = []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        ids = tokenizer.apply_chat_template(messages, tokenize=True, return_tensors="pt", return_dict=True)["input_ids"]
        with torch.no_grad():
            logits = model(input_ids=ids).logits
        scores.append(float(logits[0, 0] if head == "sequence_classification" else logits[0, -1, 0] - 0.5 * logits[0, -1, 7]))
    return scores


def encoded(model: LocalModel) -> list[TokenArray]:
    items = [
        Item(str(at), Conversation(tuple(Message(role, content) for role, content in conversation)))
        for at, conversation in enumerate(CONVERSATIONS)
    ]
    outcomes = model.text.encode(items, ScoreOptions())
    assert all(isinstance(outcome, Encoding) for outcome in outcomes), outcomes
    return [outcome.ids for outcome in outcomes if isinstance(outcome, Encoding)]


@pytest.mark.parametrize("head", ["sequence_classification", "causal_lm"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_the_card(checkpoint_folder: dict[tuple[str, str], Path], architecture: str, head: str) -> None:
    folder = checkpoint_folder[architecture, head]
    model = load(folder, head)
    rows = encoded(model)
    expected = card_scores(folder, head)
    assert len({round(score, 3) for score in expected}) == len(expected), (
        "a reference that cannot tell them apart proves nothing"
    )
    alone = [packed_scores(model, [ids])[0] for ids in rows]
    together = packed_scores(model, rows)
    shuffled = np.random.default_rng(1).permutation(len(rows))
    reordered = packed_scores(model, [rows[at] for at in shuffled])
    np.testing.assert_allclose(alone, expected, atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_allclose(together, expected, atol=TOLERANCE, rtol=TOLERANCE)
    np.testing.assert_allclose(reordered, np.array(expected)[shuffled], atol=TOLERANCE, rtol=TOLERANCE)


@pytest.fixture(scope="module", params=["llama", "gemma2", "mistral"])
def any_classifier(request: pytest.FixtureRequest, checkpoint_folder: dict[tuple[str, str], Path]) -> LocalModel:
    return load(checkpoint_folder[request.param, "sequence_classification"], "sequence_classification")


@given(st.lists(st.lists(st.integers(0, 1000), min_size=1, max_size=40), min_size=1, max_size=8), st.randoms())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_neighbours_do_not_matter(any_classifier: LocalModel, lists: list[list[int]], random) -> None:  # type: ignore[no-untyped-def]
    rows = [np.array(ids, dtype=np.int32) for ids in lists]
    expected = {ids.tobytes(): any_classifier.reference(ids) for ids in rows}
    random.shuffle(rows)
    scores = packed_scores(any_classifier, rows)
    np.testing.assert_allclose(scores, [expected[ids.tobytes()] for ids in rows], atol=TOLERANCE, rtol=TOLERANCE)


def test_the_last_token_is_read_where_it_is_the_padding_token(checkpoint_folder: dict[tuple[str, str], Path]) -> None:
    folder = checkpoint_folder["llama", "sequence_classification"]
    pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
    ids = np.array([5, 6, 7, pad], dtype=np.int32)
    model = load(folder, "sequence_classification")
    assert model.packed.scorer.reading.positions(ids) == (3,)
    skipping = load(folder, "sequence_classification", scorer={"pooling": "last_non_pad"})
    assert skipping.packed.scorer.reading.positions(ids) == (2,)
    [score], [skipped] = packed_scores(model, [ids]), packed_scores(skipping, [ids])
    assert score == pytest.approx(model.reference(ids), abs=TOLERANCE)
    assert skipped == pytest.approx(skipping.reference(ids), abs=TOLERANCE)
    assert skipped == pytest.approx(packed_scores(model, [ids[:3]])[0], abs=TOLERANCE)
    assert abs(score - skipped) > 1e-3


def test_nan_is_the_error_of_its_own_item(checkpoint_folder: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    folder = tmp_path / "nan"
    shutil.copytree(checkpoint_folder["llama", "sequence_classification"], folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][1000] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model = load(folder, "sequence_classification")
    rows = [np.array(ids, dtype=np.int32) for ids in ([5, 6, 7], [5, 1000, 7], [8, 9])]
    first, poisoned, last = model.outcomes(rows)
    assert isinstance(poisoned, errors.ScoreNotFiniteError)
    for outcome, ids in ((first, rows[0]), (last, rows[2])):
        assert isinstance(outcome, Verdict)
        assert outcome.raw_score == pytest.approx(model.reference(ids), abs=TOLERANCE)


def test_bfloat16_keeps_the_head_in_float32(checkpoint_folder: dict[tuple[str, str], Path]) -> None:
    folder = checkpoint_folder["llama", "sequence_classification"]
    exact, rounded = (load(folder, "sequence_classification", dtype=dtype) for dtype in ("float32", "bfloat16"))
    assert rounded.info.dtype == "bfloat16"
    assert rounded.info.model_digest != exact.info.model_digest
    rows = encoded(exact)
    scores = packed_scores(rounded, rows)
    np.testing.assert_allclose(scores, packed_scores(exact, rows), atol=0.15)
    in_bfloat16 = torch.tensor(scores).bfloat16().float().tolist()
    assert scores != in_bfloat16, "a head in bfloat16 would give bfloat16 numbers"


def test_a_checkpoint_without_the_head_is_refused(checkpoint_folder: dict[tuple[str, str], Path]) -> None:
    with pytest.raises(ModelLoadError, match=r"no head under a known name.*random.*right scorer\.kind"):
        load(checkpoint_folder["llama", "causal_lm"], "sequence_classification", scorer={"kind": "sequence_classification"})
    with pytest.raises(ModelLoadError, match=r"lacks lm_head\.weight"):
        load(checkpoint_folder["llama", "sequence_classification"], "causal_lm")


def test_a_tied_head_is_no_missing_head(checkpoint_folder: dict[tuple[str, str], Path]) -> None:
    folder = checkpoint_folder["qwen3", "causal_lm"]
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    load(folder, "causal_lm")


def test_several_labels_need_weights(tmp_path: Path) -> None:
    config = config_of("llama")
    config.num_labels = 3
    folder = save_checkpoint(tmp_path / "three", build_model(config, "sequence_classification"))
    with pytest.raises(ConfigError, match="3 outputs; say what each counts"):
        load(folder, "sequence_classification")


def test_a_causal_model_needs_a_kind(checkpoint_folder: dict[tuple[str, str], Path]) -> None:
    with pytest.raises(ConfigError, match=r"scorer\.kind.*LlamaForCausalLM.*token_logit"):
        load(checkpoint_folder["llama", "causal_lm"], "causal_lm", scorer={})


@pytest.mark.parametrize(
    ("scorer", "told"),
    [
        ({"kind": "tea_leaves"}, r"no kind 'tea_leaves'; there are cross_encoder, ensemble, external, .*token_logit"),
        ({"kind": "token_logit"}, r"scorer: token_ids"),
        (
            {"kind": "token_logit", "token_ids": [0], "wieghts": [1]},
            r"wieghts: no such setting; there are normalize, question, token_ids, tokens, weights",
        ),
        ({"kind": "token_logit", "token_ids": [0, 1], "weights": [1]}, r"1 weights for 2 token_ids"),
        ({"kind": "token_logit", "token_ids": [5000]}, r"\[5000\] are no ids"),
    ],
)
def test_bad_scorer_settings(checkpoint_folder: dict[tuple[str, str], Path], scorer: dict[str, object], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(checkpoint_folder["llama", "causal_lm"], "causal_lm", scorer=scorer)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"layer_types": ["full_attention", "linear_attention", "full_attention"]}, "linear_attention"),
        ({"model_type": "phi3", "sliding_window": 8}, "phi3 is not among the types whose windows are tested"),
        ({"is_causal": False}, "no causal decoder"),
        ({"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}, "longrope depends on the longest"),
        ({"rope_scaling": {"full_attention": {"type": "dynamic"}}}, "dynamic depends on the longest"),
    ],
)
def test_what_cannot_be_packed_is_refused(
    checkpoint_folder: dict[tuple[str, str], Path], tmp_path: Path, changes: dict[str, object], told: str
) -> None:
    folder = tmp_path / "odd"
    shutil.copytree(checkpoint_folder["llama", "sequence_classification"], folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelLoadError, match=told):
        load(folder, "sequence_classification")


def test_recurrent_layers_that_only_the_config_class_tells_of_are_refused(tmp_path: Path) -> None:
    """Their state would leak from one conversation of a batch into the next."""
    shape = dict.fromkeys(("hidden_size", "intermediate_size"), 64) | {"num_attention_heads": 4, "num_key_value_heads": 2}
    config = JambaConfig(
        **shape,
        vocab_size=1024,
        num_hidden_layers=4,
        attn_layer_period=2,
        attn_layer_offset=1,
        num_experts=2,
        use_mamba_kernels=False,
        num_labels=1,
        pad_token_id=1,
    )
    folder = save_checkpoint(tmp_path / "jamba", build_model(config, "sequence_classification"))
    assert "layer_types" not in json.loads((folder / "config.json").read_text())
    with pytest.raises(ModelLoadError, match="has layers of kind linear_attention"):
        load(folder, "sequence_classification")


def test_a_forward_that_differs_from_the_reference_is_not_served(
    checkpoint_folder: dict[tuple[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load(checkpoint_folder["llama", "sequence_classification"], "sequence_classification")
    backbone = model.packed.scorer.backbone
    place = backbone.place

    def leaking(batch, *args, **kwargs):  # type: ignore[no-untyped-def]  # as if the table had not been passed on
        [*_, last] = batch.segments
        whole = replace(batch.segments[0], end=last.end, subtree_end=last.end, length=last.end)
        return place(replace(batch, segments=(whole,)), *args, **kwargs)

    monkeypatch.setattr(backbone, "place", leaking)
    with pytest.raises(ModelLoadError, match="not computed rightly when packed"):
        model.packed.check_against_reference()


def test_missing_parts_of_a_checkpoint(checkpoint_folder: dict[tuple[str, str], Path], tmp_path: Path) -> None:
    whole = checkpoint_folder["llama", "sequence_classification"]
    for missing, told in (
        ("config.json", "config.json"),
        ("model.safetensors", "safetensors"),
        ("tokenizer.json", "tokenizer.json"),
    ):
        folder = tmp_path / missing
        shutil.copytree(whole, folder)
        (folder / missing).unlink()
        with pytest.raises(ModelLoadError, match=told):
            load(folder, "sequence_classification")
    with pytest.raises(ModelLoadError, match="no folder here, and no hub id"):
        load_local(ModelSettings(path="/nowhere/at/all"))
    with pytest.raises(ModelLoadError, match="embedded:arithmetic-classifier"):
        load_local(ModelSettings(path="embedded:nothing"))


def test_a_device_that_there_is_not(checkpoint_folder: dict[tuple[str, str], Path]) -> None:
    folder = checkpoint_folder["llama", "sequence_classification"]
    with pytest.raises(ConfigError, match="devices: cuda:77 is asked for, and this machine shows"):
        asyncio.run(open_model(ModelSettings(path=str(folder), devices="cuda:77"), ServerSettings(), Claims()))
