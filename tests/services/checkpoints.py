"""Tiny random checkpoints of real architectures, saved as `save_pretrained` saves them.

Norms and biases are random too: a packed forward that skips one of them must not pass for right.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    Gemma2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

DEFAULTS = Path(str(resources.files("rm_grpc_server"))) / "defaults"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
VOCABULARY = 1024
WINDOW = 8
"""Sliding windows far shorter than a conversation, so that they matter."""

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "num_labels": 1,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 3,
}


def config_of(architecture: str) -> PreTrainedConfig:
    """The config of a tiny model: llama, mistral, qwen2, qwen3 or gemma2."""
    mixed = ["sliding_attention", "full_attention", "sliding_attention"]
    return {
        "llama": lambda: LlamaConfig(**_SHAPE, attention_bias=True, mlp_bias=True, tie_word_embeddings=False),
        "mistral": lambda: MistralConfig(**_SHAPE, sliding_window=WINDOW, tie_word_embeddings=False),
        "qwen2": lambda: Qwen2Config(
            **_SHAPE, use_sliding_window=True, sliding_window=WINDOW, layer_types=mixed, tie_word_embeddings=False
        ),
        "qwen3": lambda: Qwen3Config(**_SHAPE, attention_bias=True, tie_word_embeddings=True),
        "gemma2": lambda: Gemma2Config(
            **_SHAPE,
            sliding_window=WINDOW,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
            query_pre_attn_scalar=16,
            layer_types=mixed,
        ),
    }[architecture]()


ARCHITECTURES = ("llama", "mistral", "qwen2", "qwen3", "gemma2")
CLASSES = {"sequence_classification": AutoModelForSequenceClassification, "causal_lm": AutoModelForCausalLM}


def build_model(config: PreTrainedConfig, head: str, *, seed: int = 0) -> PreTrainedModel:
    """A model whose every parameter is random, norms around 1."""
    torch.manual_seed(seed)
    model = CLASSES[head].from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            centre = 1.0 if "norm" in name and config.model_type != "gemma2" else 0.0
            parameter.copy_(centre + 0.15 * torch.randn_like(parameter))
    return model.eval()


def save_checkpoint(folder: Path, model: PreTrainedModel) -> Path:
    """Writes a checkpoint folder with the embedded models' tokenizer and template."""
    model.save_pretrained(folder)
    for name in TOKENIZER_FILES:
        shutil.copy(DEFAULTS / "arithmetic-classifier" / name, folder / name)
    return folder
