"""The tokens that end a prompt, as gated models look for them."""

from __future__ import annotations

from rm_grpc.errors import RewardError
from rm_grpc.types import Conversation, Message
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.inspection.evidence import Evidence
from rm_grpc_server.text.encoders import HuggingFaceEncoder
from rm_grpc_server.text.template import ChatTemplate

_ANY_DATE = "26 Jul 2024"


def gate_pattern(evidence: Evidence) -> tuple[int, ...]:
    """The end of the user's turn and the opening of the assistant's, as ids; empty where the template does not tell them.

    Llama 3's is `<|eot_id|><|start_header_id|>assistant<|end_header_id|>` and two newlines, the pattern of ArmoRM's code.
    """
    files = evidence.tokenizer
    if files is None or not files.chat_template:
        return ()
    asked = Conversation((Message("user", "What is 1+1?"),))
    try:
        template = ChatTemplate(files.chat_template, files.special_tokens, date_string=_ANY_DATE)
        texts = [template.render(asked, generation_prompt=opens) for opens in (False, True)]
    except (RewardError, ConfigError):
        return ()
    closed, opened = (ids.tolist() for ids in HuggingFaceEncoder(files.serialized).encode(texts))
    if len(opened) <= len(closed) or opened[: len(closed)] != closed:
        return ()
    return tuple(opened[len(closed) - 1 :])
