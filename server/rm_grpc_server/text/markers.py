"""Finds what must not stand inside content unasked: a model's own control tokens, and any family's chat markers.

A conversation that was rendered with one model's template and is rendered again with another's scores silently wrong; its first
rendering shows as markers inside the content.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CHAT_MARKERS = (
    # ChatML (Qwen and many others), Llama 3, Gemma, Llama 2 and Mistral, Zephyr and Phi, DeepSeek, gpt-oss, Cohere, GLM
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "[INST]",
    "[/INST]",
    "<<SYS>>",
    "<</SYS>>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "<|endoftext|>",
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<|start|>",
    "<|message|>",
    "<|channel|>",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "[gMASK]",
)
"""Markers that chat templates of public model families write around messages."""


class MarkerScan:
    """Finds any of some texts in a text, each once, in order of appearance."""

    def __init__(self, markers: Iterable[str]) -> None:
        longest_first = sorted({marker for marker in markers if marker}, key=lambda marker: (-len(marker), marker))
        self._beginnings = {marker[0]: {one[:2] for one in longest_first if one[0] == marker[0]} for marker in longest_first}
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    def found(self, text: str) -> tuple[str, ...]:
        """The markers in `text`."""
        for first, beginnings in self._beginnings.items():  # found much faster than a pattern is
            if first in text and any(beginning in text for beginning in beginnings):
                return tuple(dict.fromkeys(self.pattern.findall(text)))
        return ()
