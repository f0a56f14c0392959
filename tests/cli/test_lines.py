"""Lines of JSON: what is read of them, and what is written."""

from __future__ import annotations

import json

import pytest

from rm_grpc import errors
from rm_grpc.json_lines import item_of_line
from rm_grpc.types import Conversation, Score, StepScore
from rm_grpc_cli.lines import output_line


def test_a_response_may_be_a_list_of_its_steps() -> None:
    item = item_of_line(json.dumps({"prompt": "1+1?", "response": ["One and one.", "That is 2."]}).encode())
    assert isinstance(item.input, Conversation)
    assert item.input.messages[-1].content == ("One and one.", "That is 2.")
    with pytest.raises(errors.UnsupportedContentError, match="int"):
        item_of_line(json.dumps({"prompt": "1+1?", "response": ["One", 3]}).encode())


def test_steps_are_written_with_their_places() -> None:
    step = StepScore(0.5, token_offset=7, char_start=0, char_end=3)
    score = Score(0.5, 0.5, "digest", 9, steps=(step,), attributes={"validity": 0.5})
    written = json.loads(output_line(3, "a", "0", score))
    assert written["steps"] == [{"score": 0.5, "token_offset": 7, "char_start": 0, "char_end": 3}]
    assert written["attributes"] == {"validity": 0.5}
