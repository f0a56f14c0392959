"""What is in a checkpoint's folder, gathered without loading a weight: config, tensors' names and shapes, tokenizer, code."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from safetensors import safe_open

from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.models.head_names import IN_LAYER, LM_HEAD, beside_body, find_heads, layers_of
from rm_grpc_server.text.tokenizer import TokenizerFiles

_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|embed_in|wte|word_embeddings|tok_embeddings)\.weight$")
_MOST_OUTPUTS = 64
"""A head under an unknown name that gives more numbers is taken for something else."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor of a weight file, unread; `dtype` as safetensors writes it, such as F32."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    file: Path


@dataclass(frozen=True, slots=True)
class FoundHead:
    """A head beside the body: hidden states of `inputs` numbers in, `outputs` out, through so many linear layers."""

    name: str
    inputs: int
    outputs: int
    layers: int

    def __str__(self) -> str:
        form = "linear" if self.layers == 1 else f"perceptron of {self.layers} layers"
        return f"{self.name} ({form}, {self.outputs} output{'s' * (self.outputs != 1)})"


@dataclass(frozen=True)
class Evidence:
    """See the module.

    Attributes:
        tokenizer: None where it cannot be read; `tokenizer_fault` says why.
        tokenizer_config: tokenizer_config.json as it is.
        code_files: Python files in the folder.
    """

    checkpoint: Checkpoint
    tensors: Mapping[str, StoredTensor]
    tokenizer: TokenizerFiles | None
    tokenizer_fault: str
    tokenizer_config: Mapping[str, Any]
    code_files: tuple[str, ...]

    @property
    def config(self) -> Mapping[str, Any]:
        """config.json as it is."""
        return self.checkpoint.config

    @property
    def architecture(self) -> str:
        """Name of the class that the config names, or empty."""
        return self.checkpoint.architecture

    @cached_property
    def heads(self) -> tuple[FoundHead, ...]:
        """Heads under known names, outside the layers of the body."""
        names = [name for name in self.tensors if not IN_LAYER.search(name)]
        return tuple(self.head(name) for name in find_heads(names))

    @cached_property
    def unknown_heads(self) -> tuple[FoundHead, ...]:
        """What could be a head under a name that nobody is known to use: it reads hidden states and gives few numbers."""
        known = tuple(f"{head.name}." for head in self.heads)
        hidden = self.checkpoint.text_config.get("hidden_size")
        found = []
        for name in self.beside_body:
            shape = self.tensors[name].shape
            if name.endswith(".weight") and not name.startswith(known) and len(shape) == 2:
                last = layers_of(name.removesuffix(".weight"), list(self.tensors))
                if last and shape[1] == hidden and shape[0] < min(hidden, _MOST_OUTPUTS):
                    found.append(self.head(name.removesuffix(".weight")))
        return tuple(found)

    def head(self, name: str) -> FoundHead:
        """A head by its name."""
        places = layers_of(name, list(self.tensors))
        first, last = self.tensors[f"{places[0]}weight"].shape, self.tensors[f"{places[-1]}weight"].shape
        return FoundHead(name, first[-1], last[0], len(places))

    @cached_property
    def beside_body(self) -> tuple[str, ...]:
        """Tensors that are no part of the body and no language-model head."""
        return tuple(beside_body(self.tensors))

    @cached_property
    def has_lm_head(self) -> bool:
        """Whether next-token logits can be read: a language-model head in the file, or one tied to the embedding."""
        if any(LM_HEAD.search(name) for name in self.tensors):
            return True
        return bool(self.config.get("tie_word_embeddings")) and self.is_causal_lm

    @property
    def is_causal_lm(self) -> bool:
        """Whether the config names a causal language model."""
        return self.architecture.endswith(("ForCausalLM", "LMHeadModel"))

    @property
    def is_encoder_decoder(self) -> bool:
        """Whether it reads with one half and writes with another (T5, BART)."""
        return bool(self.config.get("is_encoder_decoder"))

    @cached_property
    def embedding_rows(self) -> int:
        """Rows of the embedding, or what the config says of the vocabulary where none is found."""
        rows = [tensor.shape[0] for name, tensor in self.tensors.items() if _EMBEDDING.search(name)]
        return rows[0] if rows else int(self.checkpoint.text_config.get("vocab_size") or 0)

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs by the config; names that Transformers made up (LABEL_0) among them."""
        named = self.config.get("id2label")
        if isinstance(named, dict) and named:
            return tuple(str(named[key]) for key in sorted(named, key=lambda key: (len(str(key)), str(key))))
        count = self.config.get("num_labels")
        return tuple(f"LABEL_{at}" for at in range(int(count))) if count else ()

    @cached_property
    def templates(self) -> Mapping[str, str]:
        """All chat templates by name; `default` is the one that is used, empty where there is none."""
        named = {"default": self.tokenizer.chat_template if self.tokenizer else ""}
        raw = self.tokenizer_config.get("chat_template")
        if isinstance(raw, list):
            named |= {str(entry["name"]): str(entry["template"]) for entry in raw if entry["name"] != "default"}
        folder = self.checkpoint.folder / "additional_chat_templates"
        return named | {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}

    @cached_property
    def dtypes(self) -> Mapping[str, int]:
        """How many tensors are stored in each floating-point type."""
        kinds = [tensor.dtype for tensor in self.tensors.values() if tensor.dtype.startswith(("F", "BF"))]
        return {kind: kinds.count(kind) for kind in sorted(set(kinds))}

    @property
    def pickles(self) -> tuple[str, ...]:
        """Weight files that are pickles."""
        return tuple(path.name for path in self.checkpoint.weight_files if path.suffix != ".safetensors")


def gather(checkpoint: Checkpoint) -> Evidence:
    """Looks into a folder. Blocking.

    Raises:
        ModelLoadError: a weight file cannot be read.
    """
    tokenizer, fault = None, ""
    try:
        tokenizer = TokenizerFiles(checkpoint.folder)
    except ModelLoadError as error:
        fault = str(error)
    path = checkpoint.folder / "tokenizer_config.json"
    try:
        tokenizer_config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        tokenizer_config = {}  # what is wrong with it stands in the tokenizer's fault
    code = tuple(sorted(file.name for file in checkpoint.folder.glob("*.py")))
    return Evidence(checkpoint, _stored(checkpoint), tokenizer, fault, tokenizer_config, code)


def _stored(checkpoint: Checkpoint) -> dict[str, StoredTensor]:
    found: dict[str, StoredTensor] = {}
    for path in checkpoint.weight_files:
        found |= _safe(path) if path.suffix == ".safetensors" else _pickled(path, checkpoint.tensor_prefix(path))
    return found


def _safe(path: Path) -> dict[str, StoredTensor]:
    found = {}
    with safe_open(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 - it is no mapping
            tensor = file.get_slice(name)
            found[name] = StoredTensor(name, tuple(tensor.get_shape()), str(tensor.get_dtype()), path)
    return found


_PICKLED_DTYPES = {"torch.float32": "F32", "torch.bfloat16": "BF16", "torch.float16": "F16", "torch.float64": "F64"}


def _pickled(path: Path, prefix: str) -> dict[str, StoredTensor]:
    from rm_grpc_server.models.weights import unpickled  # needs torch, which nothing else here does

    return {
        prefix + name: StoredTensor(prefix + name, tuple(tensor.shape), _PICKLED_DTYPES.get(str(tensor.dtype), "I64"), path)
        for name, tensor in unpickled(path).items()
    }
