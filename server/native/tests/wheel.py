"""Encodes something small with an installed wheel, by every instruction set of the processor."""

import json

from rm_grpc_native import Encoder, instructions

PRINTABLE = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
MOVED = [byte for byte in range(256) if byte not in PRINTABLE]
ALPHABET = {byte: chr(byte) for byte in PRINTABLE} | {byte: chr(0x100 + at) for at, byte in enumerate(MOVED)}
"""The characters that byte-level vocabularies write bytes with."""

TOKENIZER = {
    "normalizer": None,
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "added_tokens": [{"id": 258, "content": "<|end|>", "normalized": False}],
    "model": {
        "type": "BPE",
        "vocab": {ALPHABET[byte]: byte for byte in range(256)} | {"ab": 256, "aba": 257},
        "merges": [["a", "b"], ["ab", "a"]],
    },
}

encoder = Encoder.from_json(json.dumps(TOKENIZER))
text = "abab é<|end|>" + " abc" * 40
expected = [256, 256, *" é".encode(), 258, *[ord(" "), 256, ord("c")] * 40]
for name in (None, *instructions()):
    ids, offsets = encoder.encode([text, "", "ab"], instructions=name)
    assert ids.tolist() == [*expected, 256], (name, ids)
    assert offsets.tolist() == [0, len(expected), len(expected), len(expected) + 1], (name, offsets)
print("encoded with", ", ".join(instructions()))
