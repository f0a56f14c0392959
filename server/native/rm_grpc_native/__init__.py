"""What rm-grpc does in C++: text to exactly the ids of Hugging Face `tokenizers` 0.23, and what a CPU spends its time on
in a packed forward pass: linear layers, and attention.

encoder = Encoder.from_json(Path("tokenizer.json").read_text())
ids, offsets = encoder.encode(["Hello", "world"])
"""

from __future__ import annotations

from rm_grpc_native._core import attend, instructions, linear, order_by_ids, pack_weights, tile_instructions
from rm_grpc_native.encoder import Encoder
from rm_grpc_native.recipe import MalformedTokenizer, Recipe, UnsupportedTokenizer, parse

__all__ = [
    "Encoder",
    "MalformedTokenizer",
    "Recipe",
    "UnsupportedTokenizer",
    "__version__",
    "attend",
    "instructions",
    "linear",
    "order_by_ids",
    "pack_weights",
    "parse",
    "tile_instructions",
]

__version__ = "0.1.0"
