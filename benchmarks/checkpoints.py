"""Checkpoints of known size with random weights, in the real format, built once and kept."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from benchmarks.places import CACHE

TOKENIZER_FILES = ("tokenizer.json", "chat_template.jinja")
MAX_LENGTH = 4096
VOCABULARY = 1024
"""Rows of the embedding: at least as many as the tokenizer has tokens."""
_HEAD_DIM = 64
_PROBES, _PROBE_TOKENS = 16, 128
_VERSION = 2
"""Raise it when the weights change, so that no old folder is taken for a new one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a Llama model; heads are 64 wide."""

    hidden: int
    intermediate: int
    layers: int
    key_value_heads: int

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.hidden // _HEAD_DIM

    @property
    def parameters(self) -> int:
        """Weights of the layers' matrices, without embeddings and norms: what a token is multiplied with."""
        attention = 2 * self.hidden * self.hidden + 2 * self.hidden * self.key_value_heads * _HEAD_DIM
        return self.layers * (attention + 3 * self.hidden * self.intermediate)

    def flops(self, length: int) -> float:
        """Floating-point operations of one forward over a conversation of `length` tokens, causal attention included."""
        return 2.0 * self.parameters * length + 2.0 * self.layers * self.hidden * length * (length + 1)


SHAPES = {
    "1M": Shape(hidden=128, intermediate=384, layers=5, key_value_heads=2),
    "10M": Shape(hidden=384, intermediate=1024, layers=6, key_value_heads=2),
    "100M": Shape(hidden=768, intermediate=2048, layers=16, key_value_heads=4),
}
"""1M is for benchmarks in which no model runs."""


def checkpoint(size: str, dtype: str = "float32") -> Path:
    """The folder of a sequence classification model, built on first use.

    Args:
        size: a key of `SHAPES`.
        dtype: float32, or bfloat16 for a copy of the same weights.
    """
    folder = CACHE / "checkpoints" / f"{size}-{dtype}-{_VERSION}"
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        model = _built(size) if dtype == "float32" else _loaded(checkpoint(size)).to(getattr(torch, dtype))
        model.save_pretrained(folder)
        _copy_tokenizer(folder)
        (folder / "complete").touch()
    return folder


def _loaded(folder: Path) -> LlamaForSequenceClassification:
    return LlamaForSequenceClassification.from_pretrained(folder, dtype=torch.float32)


def _source() -> Path:
    return Path(str(resources.files("rm_grpc_server"))) / "defaults" / "arithmetic-classifier"


def _copy_tokenizer(folder: Path) -> None:
    for name in TOKENIZER_FILES:
        shutil.copy(_source() / name, folder / name)
    config = json.loads((_source() / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": MAX_LENGTH}, indent=2))


def _config(size: str) -> LlamaConfig:
    shape = SHAPES[size]
    embedded = json.loads((_source() / "config.json").read_text())
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.key_value_heads,
        head_dim=_HEAD_DIM,
        max_position_embeddings=MAX_LENGTH,
        num_labels=1,
        tie_word_embeddings=False,
        **{name: embedded[name] for name in ("bos_token_id", "eos_token_id", "pad_token_id")},
    )


@torch.inference_mode()
def _built(size: str) -> LlamaForSequenceClassification:
    """A model whose scores differ between conversations: with small weights every last token would look the same."""
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(_config(size)).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.copy_(1.0 + 0.1 * torch.randn_like(parameter))
        elif "embed" in name:
            parameter.copy_(torch.randn_like(parameter))
        else:
            gain = 2.0 if "q_proj" in name or "k_proj" in name else 1.0
            parameter.copy_(gain * parameter.shape[1] ** -0.5 * torch.randn_like(parameter))
    probes = torch.randint(0, min(model.config.bos_token_id, VOCABULARY), (_PROBES, _PROBE_TOKENS))
    probes[:, -1] = model.config.eos_token_id
    model.score.weight.div_(model(input_ids=probes).logits.std())
    return model
