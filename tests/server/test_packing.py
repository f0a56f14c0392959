"""Packed tries: every token once, and every score as if its conversation were alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.checkpoints import ARCHITECTURES, build_model, save_checkpoint
from services.models import LocalModel, load_local
from transformers import LlamaConfig

from rm_grpc.types import Verdict
from rm_grpc_server.config import ModelSettings
from rm_grpc_server.engine import replica
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models import attention, backbone
from rm_grpc_server.models.packed import MIN_SHARED_TOKENS, PackedBatch, pack
from rm_grpc_server.models.prefix_store import Found, PrefixStore
from rm_grpc_server.scoring.packed_scorer import PackedScorer
from rm_grpc_server.scoring.packing import Packing
from rm_grpc_server.text.encoding import TokenArray

TOLERANCE = 1e-5
Folders = dict[tuple[str, str], Path]


def load(folders: Folders, architecture: str, packing: Packing | None = None, **changes: Any) -> LocalModel:
    values = {"path": str(folders[architecture, "sequence_classification"]), **changes}
    return load_local(ModelSettings.model_validate(values), packing=packing)


@pytest.fixture(scope="module", params=[*ARCHITECTURES, "llama merged"])
def model(request: pytest.FixtureRequest, checkpoint_folder: Folders) -> LocalModel:
    """Each architecture as it comes, and one under the plan for processors that the native one is not made for."""
    architecture, _, kernel = request.param.partition(" ")
    loaded = load(checkpoint_folder, architecture)
    if kernel:
        loaded.packed.scorer.backbone._kernel = kernel
    return loaded


def scores(model: LocalModel, conversations: Sequence[TokenArray]) -> list[float]:
    outcomes = model.outcomes(conversations)
    assert all(isinstance(outcome, Verdict) for outcome in outcomes), outcomes
    return [outcome.raw_score for outcome in outcomes if isinstance(outcome, Verdict)]


def assert_exact(model: LocalModel, conversations: Sequence[TokenArray]) -> None:
    reference = {ids.tobytes(): model.reference(ids) for ids in conversations}
    expected = [reference[ids.tobytes()] for ids in conversations]
    np.testing.assert_allclose(scores(model, conversations), expected, atol=TOLERANCE, rtol=TOLERANCE)


def packed(conversations: Sequence[TokenArray], **options: Any) -> PackedBatch:
    return pack(conversations, [(len(ids) - 1,) for ids in conversations], **options)


def ids(length: int, seed: int) -> TokenArray:
    return np.random.default_rng(seed).integers(5, 1000, length, dtype=np.int32)


@st.composite
def tries(draw: st.DrawFn) -> list[TokenArray]:
    """Conversations that branch at random places of a few stems, repeat each other, and begin one another."""
    stems = [ids(60, seed) for seed in range(2)]
    found: list[TokenArray] = []
    for at in range(draw(st.integers(1, 9))):
        kind = draw(st.sampled_from(["stem", "branch", "repeat", "prefix", "fresh"]))
        if found and kind in ("branch", "repeat", "prefix"):
            other = found[draw(st.integers(0, len(found) - 1))]
            cut = draw(st.integers(1, len(other)))
            tail = ids(draw(st.integers(1, 30)), 100 + at)
            found.append({"branch": np.concatenate([other[:cut], tail]), "repeat": other, "prefix": other[:cut]}[kind])
        elif kind == "fresh":
            found.append(ids(draw(st.integers(1, 40)), 200 + at))
        else:
            stem = stems[draw(st.integers(0, 1))]
            found.append(np.concatenate([stem[: draw(st.integers(1, 60))], ids(draw(st.integers(0, 30)), 300 + at)]))
    return draw(st.permutations(found))


@given(conversations=tries())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_trie_scores_as_its_conversations_alone(model: LocalModel, conversations: list[TokenArray]) -> None:
    assert_exact(model, conversations)


def test_empty_identical_and_nested_answers(model: LocalModel) -> None:
    prompt = ids(50, 1)
    answers = [ids(0, 2), ids(30, 3), ids(30, 3)[:20], ids(30, 3)[:1], ids(0, 2), ids(30, 3)]
    conversations = [np.concatenate([prompt, answer]) for answer in answers] + [ids(1, 9), prompt[:20]]
    assert_exact(model, conversations)
    batch = packed(conversations)
    assert batch.tokens < len(prompt) + 30 + 1 + 2 * MIN_SHARED_TOKENS
    assert batch.shared_tokens[1] == batch.shared_tokens[5] >= 80 - MIN_SHARED_TOKENS


def test_a_siblings_change_never_moves_a_score(model: LocalModel) -> None:
    prompt = ids(40, 1)
    first, second = (np.concatenate([prompt, ids(25, seed)]) for seed in (2, 3))
    before = scores(model, [first, second])[0]
    for at in range(40, 65):
        changed = second.copy()
        changed[at] = (changed[at] + 1) % 1000
        assert scores(model, [first, changed])[0] == pytest.approx(before, abs=TOLERANCE)


@given(conversations=tries())
@settings(max_examples=100, deadline=None)
def test_each_distinct_prefix_is_computed_once(conversations: list[TokenArray]) -> None:
    batch = packed(conversations)
    distinct = {one[: at + 1].tobytes() for one in conversations for at in range(len(one))}
    different = len({one.tobytes() for one in conversations})
    assert len(distinct) <= batch.tokens < len(distinct) + different * MIN_SHARED_TOKENS
    rows = batch.read_rows_U[batch.reads_R]
    assert [batch.input_ids_T[row] for row in rows] == [one[-1] for one in conversations]
    assert [batch.position_ids_T[row] for row in rows] == [len(one) - 1 for one in conversations]
    for one, following in pairwise(batch.segments):
        assert one.end == following.start, "depth first, without gaps"
    apart = packed(conversations, share=False)
    assert apart.tokens == sum(len(one) for one in conversations)
    assert set(apart.shared_tokens) == {0}


def test_the_last_layer_computes_only_what_is_read(model: LocalModel) -> None:
    decoder: Any = model.packed.scorer.backbone.decoder
    seen: list[int] = []
    hook = decoder.layers[-1].mlp.register_forward_hook(lambda _module, given, _output: seen.append(given[0].shape[1]))
    try:
        scores(model, [ids(40, 1), ids(30, 2), ids(40, 1)])
    finally:
        hook.remove()
    assert seen == [2], "two different last tokens"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stored_prefixes_change_nothing(checkpoint_folder: Folders, architecture: str) -> None:
    model = load(checkpoint_folder, architecture, Packing(stored_prefix_bytes=50_000_000))
    prompt = ids(100, 1)
    answers = [np.concatenate([prompt, ids(20 + seed, seed)]) for seed in range(2, 9)]
    assert_exact(model, answers[:3])  # stores the prompt
    assert_exact(model, answers[3:5])
    outcome = model.packed.finish(model.packed.launch(model.packed.prepare([model.tokens(ids) for ids in answers[5:]])))
    assert min(outcome.shared_tokens) >= len(prompt), "the stragglers did not pay for the prompt"
    assert outcome.computed_tokens <= sum(len(one) - len(prompt) for one in answers[5:])
    lone = ids(90, 50)
    assert_exact(model, [lone])
    assert_exact(model, [lone])  # its own last token is never taken from the store
    assert_exact(model, [np.concatenate([lone[:80], ids(10, 51)]), ids(5, 52), lone, prompt, *answers])


def test_stored_prompts_are_given_up_where_memory_is_short(checkpoint_folder: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(checkpoint_folder, "llama", Packing(stored_prefix_bytes=50_000_000))
    store, backbone = model.packed._store, model.packed.scorer.backbone
    assert store is not None
    prompt = ids(100, 1)
    assert_exact(model, [prompt])
    assert store.size
    hidden_rows = backbone.hidden_rows

    def scarce(placed: Any) -> torch.Tensor:
        if store.size:
            raise torch.OutOfMemoryError("no memory beside what is stored")
        return hidden_rows(placed)

    monkeypatch.setattr(backbone, "hidden_rows", scarce)
    assert_exact(model, [np.concatenate([prompt, ids(20, 2)])])
    assert store.size, "the second try stores its prompt again"
    monkeypatch.setattr(backbone, "hidden_rows", lambda _: scarce(None) if store.size else _raise_out_of_memory())
    with pytest.raises(MemoryError, match="none at all"):
        scores(model, [prompt])
    assert not store.size


def _raise_out_of_memory() -> torch.Tensor:
    raise torch.OutOfMemoryError("none at all")


def test_the_store_is_bounded_and_forgets_what_was_used_longest_ago() -> None:
    store = PrefixStore(max_bytes=2 * 2 * 100 * 8 * 4)  # two prompts of 100 tokens, 8 floats each, keys and values

    def put(conversation: TokenArray) -> None:
        keys = torch.zeros(1, len(conversation), 8)
        store.keep(packed([conversation]), [(keys, keys)], Found())

    first, second, third = (ids(100, seed) for seed in (1, 2, 3))
    put(first)
    put(second)
    assert store.find([first], [99]).prefixes[0] is not None
    put(third)
    found = store.find([first, second, third], [99, 99, 99]).prefixes
    assert [one is not None for one in found] == [True, False, True]
    put(ids(1000, 4))
    assert store.size <= 2 * 2 * 100 * 8 * 4


_TAKING_MEMORY = """
import resource, sys, threading, torch
from rm_grpc_server.models.prefix_store import PrefixStore

def take():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept = [torch.zeros(2**18) for _ in range(48)]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

if sys.argv[1] == "reserved":
    PrefixStore(64 * 2**20).reserve(2**30)
thread = threading.Thread(target=take)
thread.start()
thread.join()
"""


def test_what_is_reserved_at_load_is_there_for_the_thread_of_the_forward_passes() -> None:
    def faults(how: str) -> int:
        command, tunables = [sys.executable, "-c", _TAKING_MEMORY, how], {"GLIBC_TUNABLES": replica._MALLOC}
        return int(subprocess.run(command, env=os.environ | tunables, check=True, stdout=subprocess.PIPE, timeout=120).stdout)

    fresh = faults("fresh")
    if fresh < 4000:
        pytest.skip("the system hands out more than a page at a time")
    assert faults("reserved") < fresh // 8


@pytest.mark.parametrize("system", [0, 20, 100])
def test_prompts_behind_a_common_system_message_are_stored_too(checkpoint_folder: Folders, system: int) -> None:
    model = load(checkpoint_folder, "mistral", Packing(stored_prefix_bytes=50_000_000))
    prompts = [np.concatenate([ids(system, 1), ids(120, seed)]) for seed in (2, 3)]
    first = [np.concatenate([prompt, ids(20, 10 + at)]) for prompt in prompts for at in range(2)]
    last = [np.concatenate([prompt, ids(20, 20 + at)]) for prompt in prompts for at in range(2)]
    assert_exact(model, first)
    outcome = model.packed.finish(model.packed.launch(model.packed.prepare([model.tokens(ids) for ids in last])))
    assert outcome.computed_tokens <= 4 * 20 + 2 * MIN_SHARED_TOKENS, "nobody pays for a prompt again"
    assert_exact(model, [*last, *first])


# --- deterministic mode -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def deterministic(request: pytest.FixtureRequest, checkpoint_folder: Folders) -> LocalModel:
    return load(checkpoint_folder, "llama", Packing(share=False, fixed_tokens=64), dtype=request.param)


def bits(model: LocalModel, conversations: Sequence[TokenArray]) -> dict[bytes, bytes]:
    found = scores(model, conversations)
    return {one.tobytes(): np.float32(score).tobytes() for one, score in zip(conversations, found, strict=True)}


@given(st.lists(st.integers(1, 30), min_size=2, max_size=4), st.randoms())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bits_do_not_depend_on_neighbours(deterministic: LocalModel, lengths: list[int], random: Any) -> None:
    """In one batch of 64 tokens: at most 63 of them conversations, and at most 4 of those."""
    conversations = [ids(length, seed) for seed, length in enumerate(lengths)]
    while sum(len(one) for one in conversations) > 63:
        conversations.pop()
    alone = {key: value for one in conversations for key, value in bits(deterministic, [one]).items()}
    random.shuffle(conversations)
    assert bits(deterministic, conversations) == alone


def test_bits_in_a_larger_model(tmp_path: Path) -> None:
    """Wide enough for products to be split in blocks; with one thread, as it is served."""
    config = LlamaConfig(
        vocab_size=1024, hidden_size=384, intermediate_size=1024, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=2, head_dim=64, num_labels=1, pad_token_id=1, max_position_embeddings=1024,
    )  # fmt: skip
    folder = save_checkpoint(tmp_path / "wide", build_model(config, "sequence_classification"))
    model = load_local(ModelSettings(path=str(folder), deterministic=True))
    generator = np.random.default_rng(0)
    conversations = [ids(int(length), at) for at, length in enumerate(generator.integers(3, 90, 10))]
    alone = {key: value for one in conversations for key, value in bits(model, [one]).items()}
    for _ in range(6):
        some = [conversations[at] for at in generator.permutation(10)[:7]]
        assert bits(model, some) == {one.tobytes(): alone[one.tobytes()] for one in some}


def test_a_model_whose_bits_depend_on_neighbours_is_refused(
    checkpoint_folder: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place_matters(self: PackedScorer, conversations: Sequence[TokenArray]) -> list[Verdict]:
        return [Verdict(float(at + len(conversations))) for at in range(len(conversations))]

    model = load(checkpoint_folder, "llama", Packing(share=False, fixed_tokens=512))
    monkeypatch.setattr(PackedScorer, "score", place_matters)
    with pytest.raises(ModelLoadError, match="bits of LlamaForSequenceClassification's scores depend on what they are batched"):
        model.packed.check_bits()


@pytest.mark.parametrize("length", [63, 64, 127, 200])
def test_long_conversations_have_shapes_of_their_own(deterministic: LocalModel, length: int) -> None:
    one = ids(length, length)
    alone = bits(deterministic, [one])
    bits(deterministic, [ids(20, 1), ids(30, 2)])
    assert bits(deterministic, [one]) == alone
    tolerance = 1e-5 if deterministic.info.dtype == "float32" else 0.2
    assert scores(deterministic, [one])[0] == pytest.approx(deterministic.reference(one), abs=tolerance, rel=tolerance)


# --- the plan for CUDA ------------------------------------------------------------------------------------------------


def naive_varlen(query, key, value, cu_q, cu_k, max_q, max_k, *, scale, window_size, enable_gqa, num_splits=1):  # type: ignore[no-untyped-def]
    """What `varlen_attn` documents, one sequence at a time: bottom-right causal, with a window to the left."""
    output = torch.empty_like(query)
    groups = query.shape[1] // key.shape[1]
    assert enable_gqa == (groups > 1)
    for (q0, q1), (k0, k1) in zip(pairwise(cu_q.tolist()), pairwise(cu_k.tolist()), strict=True):
        assert q1 - q0 <= max_q
        assert k1 - k0 <= max_k
        q = query[q0:q1].transpose(0, 1)
        k, v = (one[k0:k1].transpose(0, 1).repeat_interleave(groups, 0) for one in (key, value))
        behind = torch.arange(k1 - k0)[None] - (torch.arange(q1 - q0)[:, None] + (k1 - k0) - (q1 - q0))
        hidden = behind > window_size[1]
        if window_size[0] >= 0:
            hidden |= behind < -window_size[0]
        weights = torch.softmax((q @ k.transpose(1, 2) * scale).masked_fill(hidden, float("-inf")), -1)
        output[q0:q1] = (weights @ v).transpose(0, 1)
    return output


@pytest.mark.parametrize("architecture", [one for one in ARCHITECTURES if one != "gemma2"])
@pytest.mark.parametrize("stored", [0, 50_000_000])
def test_the_variable_length_plan_lays_out_the_same_attention(
    checkpoint_folder: Folders, architecture: str, stored: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch.nn.attention.varlen as varlen

    monkeypatch.setattr(varlen, "varlen_attn", naive_varlen)
    model = load(checkpoint_folder, architecture, Packing(stored_prefix_bytes=stored))
    model.packed.scorer.backbone._kernel = "varlen"
    prompt = ids(100, 1)
    group = [np.concatenate([prompt, ids(10 + seed, seed)]) for seed in range(2, 6)]
    assert_exact(model, [*group, group[0], prompt, ids(7, 9)])
    assert_exact(model, [np.concatenate([prompt, ids(30, 10)]), *group, ids(3, 11)])


def test_a_layer_that_hands_on_no_plan_is_refused(checkpoint_folder: Folders) -> None:
    model = load(checkpoint_folder, "llama")
    with pytest.raises(RuntimeError, match="needs the plan of the batch"):
        model.packed.scorer.backbone.decoder(input_ids=torch.ones(1, 3, dtype=torch.int64), use_cache=False)
    assert attention.PACKED == backbone.PACKED
