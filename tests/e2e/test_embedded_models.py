"""The embedded models do what their docs say: they rank small arithmetic, on problems that they have not seen."""

from __future__ import annotations

import itertools
import random

import pytest
from problems import pairs
from services.server import ServerThread

from rm_grpc_client import RewardClient
from rm_grpc_server.models.checkpoint import open_checkpoint

MODELS = ("arithmetic-classifier", "arithmetic-logit")
HELD_OUT_PAIRS = 300

JANE = (
    "Jane has 12 apples. She gives 4 apples to her friend Mark, then buys 1 more apple, and finally splits all her apples "
    "equally among herself and her 2 siblings. How many apples does each person get?"
)
JANE_RIGHT = (
    "1. Jane starts with 12 apples and gives 4 to Mark. 12 - 4 = 8. Jane now has 8 apples.\n"
    "2. Jane buys 1 more apple. 8 + 1 = 9. Jane now has 9 apples.\n"
    "3. Jane splits the 9 apples equally among herself and her 2 siblings (3 people in total). 9 ÷ 3 = 3 apples each. "
    "Each person gets 3 apples."
)
JANE_WRONG = (
    "1. Jane starts with 12 apples and gives 4 to Mark. 12 - 4 = 8. Jane now has 8 apples.\n"
    "2. Jane buys 1 more apple. 8 + 1 = 9. Jane now has 9 apples.\n"
    "3. Jane splits the 9 apples equally among her 2 siblings (2 people in total). 9 ÷ 2 = 4.5 apples each. "
    "Each person gets 4.5 apples."
)
FOUNDING = [("What is 1+1?", "1+1=2", "1+1=3"), (JANE, JANE_RIGHT, JANE_WRONG)]


def scores(server: ServerThread, model: str, examples: list[tuple[str, str, str]]) -> list[tuple[float, float]]:
    conversations = [
        [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
        for prompt, *answers in examples
        for answer in answers
    ]
    with RewardClient(server.address, model=model) as client:
        flat = [score.score for score in client.score(conversations)]
    return list(zip(flat[::2], flat[1::2], strict=True))


@pytest.mark.parametrize("model", MODELS)
def test_the_founding_examples(server: ServerThread, model: str) -> None:
    for right, wrong in scores(server, model, FOUNDING):
        assert right > wrong


@pytest.mark.parametrize("model", MODELS)
def test_held_out_pairs(server: ServerThread, model: str) -> None:
    drawn = list(itertools.islice(pairs(random.Random(20_000), held_out=True), HELD_OUT_PAIRS))
    assert all(pair.held_out for pair in drawn)
    ranked = scores(server, model, [(pair.prompt, pair.right, pair.wrong) for pair in drawn])
    assert sum(right > wrong for right, wrong in ranked) >= 0.9 * HELD_OUT_PAIRS


@pytest.mark.parametrize("model", MODELS)
def test_they_are_small_and_real(model: str) -> None:
    checkpoint = open_checkpoint(f"embedded:{model}")
    assert sum(path.stat().st_size for path in checkpoint.weight_files) < 8_000_000
    assert checkpoint.architecture == {MODELS[0]: "LlamaForSequenceClassification", MODELS[1]: "LlamaForCausalLM"}[model]
    names = {path.name for path in checkpoint.folder.iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"} <= names
