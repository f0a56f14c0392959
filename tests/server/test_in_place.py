"""Forwards with fewer passes over memory: the bits that Transformers' own give, and what is left alone."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from services.checkpoints import ARCHITECTURES, build_model, config_of
from torch.nn import Module
from transformers import Qwen3Config, Qwen3Model

from rm_grpc_server.models.in_place import InPlace, as_written, work_in_place


def replaced(model: Module) -> set[str]:
    return {type(module).__name__ for module in model.modules() if isinstance(vars(module).get("forward"), InPlace)}


def build(architecture: str) -> Any:
    return build_model(config_of(architecture), "sequence_classification")


def hidden(model: Any) -> torch.Tensor:
    ids = torch.arange(5, 105)[None]
    with torch.inference_mode():
        states: torch.Tensor = model.base_model(input_ids=ids, use_cache=False).last_hidden_state
    return states


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_whole_model_keeps_its_bits(architecture: str) -> None:
    model = build(architecture)
    expected = hidden(model)
    work_in_place(model.base_model)
    kinds = {name for name in replaced(model) if name.endswith(("Attention", "MLP", "RMSNorm"))}
    assert len(kinds) == 3, replaced(model)
    assert torch.equal(hidden(model), expected)
    with as_written(model):
        assert not replaced(model)
        assert torch.equal(hidden(model), expected)
    assert replaced(model) == kinds


def test_the_models_source_file_stays_as_it_is() -> None:
    model = build("llama")
    source = sys.modules[type(model).__module__]
    before = dict(vars(source))
    work_in_place(model)
    assert dict(vars(source)) == before
    assert replaced(build("llama")) == set(), "another model is another matter"


def test_gradients_are_the_modules_own() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2, "num_key_value_heads": 2}
    config = Qwen3Config(**shape, num_hidden_layers=2, vocab_size=200)
    model = Qwen3Model(config).eval()
    rows = torch.randn(1, 9, 32)
    model(inputs_embeds=rows).last_hidden_state.sum().backward()
    expected = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad()
    work_in_place(model)
    assert replaced(model)
    model(inputs_embeds=rows).last_hidden_state.sum().backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


class OddRMSNorm(Module):
    """Looks like a norm, and centres what it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(8))
        self.eps = 1e-6

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        rows = rows - rows.mean(-1, keepdim=True)
        return rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + self.eps) * self.weight


class PairRMSNorm(OddRMSNorm):
    """Wants two inputs."""

    def forward(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return super().forward(rows + residual)


class UngatedMLP(Module):
    """Has the layers of a gated one, and adds where it multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.gate_proj, self.up_proj, self.down_proj = torch.nn.Linear(8, 16), torch.nn.Linear(8, 16), torch.nn.Linear(16, 8)
        self.act_fn = torch.nn.SiLU()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(rows)) + self.up_proj(rows))  # type: ignore[no-any-return]


def apply_rotary_pos_emb(
    query: torch.Tensor, key: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotates neighbours instead of halves."""
    found = [
        one * cos[:, None] + torch.stack((-one[..., 1::2], one[..., ::2]), -1).flatten(-2) * sin[:, None]
        for one in (query, key)
    ]
    return found[0], found[1]


class OddAttention(Module):
    head_dim = 8

    def forward(self, *heads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return apply_rotary_pos_emb(*heads)


@pytest.mark.parametrize("kind", [OddRMSNorm, PairRMSNorm, UngatedMLP, OddAttention])
def test_modules_of_another_form_are_left_alone(kind: type[Module]) -> None:
    module = kind()
    work_in_place(module)
    assert not replaced(module)


def test_other_numbers_than_float32_are_left_alone() -> None:
    model = build("llama").bfloat16()
    work_in_place(model)
    assert not replaced(model)
