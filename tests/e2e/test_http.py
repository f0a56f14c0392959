"""Every face gives the number that gRPC gives, to the last bit, in the words of the server whose clients it is for."""

from __future__ import annotations

import base64
import json
import math
import re
import struct
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from jsonschema import Draft202012Validator
from openai.types.chat import ChatCompletion
from services.checkpoints import build_model, config_of, save_checkpoint
from services.http import RECORDED, alone, caller, exchange, post, raw_post, url_of
from services.models import LocalModel, load_local
from services.published import gated, process_heads
from services.server import ServerThread

from rm_grpc.types import Activation, ControlTokens, Conversation, ForeignMarkers, SpecialTokens, TokenIds
from rm_grpc_server.config import ModelSettings

MODEL = "arithmetic-logit"
LABELS = ("helpful", "correct", "brief")
CHAT = exchange("What is 1+1?", "1+1=2, I think.")
TEXT = "What is 1+1? It is 2."
TEMPLATED = "<|start_header_id|>user<|end_header_id|>\n\nWhat is 1+1?<|eot_id|>"
STEPS = ["One and one.", "That is 2.", "The answer is 2."]
STEPPED = [
    {"role": "user", "content": "What is 1+1?"},
    {"role": "assistant", "content": [{"type": "text", "text": s} for s in STEPS]},
]
CHATML = "<|im_start|>user\nWhat is 1+1?<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A classifier of three labels."""
    config = config_of("llama")
    config.num_labels = len(LABELS)
    folder = save_checkpoint(tmp_path_factory.mktemp("labels"), build_model(config, "sequence_classification", seed=5))
    scorer = {"kind": "sequence_classification", "attributes": LABELS, "weights": (1.0, 0.5, -0.25)}
    return load_local(ModelSettings.model_validate({"path": str(folder), "name": "labels", "scorer": scorer}))


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A model that scores steps."""
    folder = process_heads.FAMILIES[0].save(tmp_path_factory.mktemp("steps"))
    settings = {"path": str(folder), "name": "steps", "preset": "Qwen/Qwen2.5-Math-PRM-7B"}
    return load_local(ModelSettings.model_validate(settings))


@pytest.fixture(scope="module")
def gated_model(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A model that makes one reward out of several objectives."""
    family = next(family for family in gated.FAMILIES if family.name == "armorm")
    folder = family.save(tmp_path_factory.mktemp("gated"))
    scorer = {"kind": "gated_multi", "gate_pattern": gated.GATE_PATTERN, "attributes": gated.ATTRIBUTES}
    settings = {"path": str(folder), "name": "gated", "preset": "RLHFlow/ArmoRM-Llama3-8B-v0.1", "scorer": scorer}
    return load_local(ModelSettings.model_validate(settings))


@pytest.fixture(scope="module")
def served(
    classifier: LocalModel, logit: LocalModel, labelled: LocalModel, stepwise: LocalModel, gated_model: LocalModel
) -> Iterator[ServerThread]:
    """Every conversation is a batch of its own, so that a list has the bits that each of it has alone."""
    parts = {"logit": {"model": MODEL}, "head": {"model": "arithmetic-classifier"}}
    models = [
        {"path": "embedded:arithmetic-logit"},
        {"path": "embedded:arithmetic-classifier"},
        {"name": "worst", "scorer": {"kind": "ensemble", "combine": "min", "components": parts}},
    ]
    local = [logit, classifier, labelled, stepwise, gated_model]
    with ServerThread(local, models=models, http="127.0.0.1:0", max_batch_tokens=1) as server:
        for model in (*(one.info.name for one in local), "worst"):
            for _ in range(2):  # the first pass of a model in a process may differ in the last bit
                alone(server, model, STEPPED)
        yield server


@pytest.fixture(scope="module")
def single(logit: LocalModel) -> Iterator[ServerThread]:
    """A server of one model, which needs no name."""
    with ServerThread([logit], http="127.0.0.1:0", max_batch_tokens=1) as server:
        yield server


def ask(server: ServerThread, path: str, body: Any) -> Any:
    """A good answer."""
    response = post(server, path, body)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("application/json")
    return response.json()


def official(server: ServerThread, **options: Any) -> openai.OpenAI:
    """The official client."""
    client = openai.DefaultHttpxClient(trust_env=False)
    return openai.OpenAI(base_url=url_of(server) + "/v1", api_key="none", http_client=client, **options)


# --- OpenAI, as NIM serves reward models ------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [MODEL, "arithmetic-classifier"])
def test_the_official_client_reads_the_score(served: ServerThread, model: str) -> None:
    score = alone(served, model, CHAT)
    with official(served) as client:
        completion = client.chat.completions.create(model=model, messages=CHAT)  # type: ignore[arg-type]
    [choice] = completion.choices
    assert choice.message.role == "assistant"
    assert choice.message.content is not None
    assert float(choice.message.content.split("reward:")[1]) == score.score
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    assert {entry.token: entry.logprob for entry in choice.logprobs.content} == {"reward": score.score}
    assert completion.usage is not None
    assert (completion.model, completion.usage.prompt_tokens) == (model, score.token_count)
    assert completion.system_fingerprint == score.model_digest


def test_the_ways_in_which_public_clients_read_a_completion(served: ServerThread) -> None:
    score = alone(served, MODEL, CHAT).score
    answer = ask(served, "/v1/chat/completions", {"model": MODEL, "messages": CHAT, "max_tokens": 1, "temperature": 0})
    content = answer["choices"][0]["message"]["content"]
    assert dict(pair.split(":") for pair in content.split(",")) == {"reward": content.removeprefix("reward:")}
    found = re.search(r"-?\d+\.?\d*", content)
    assert found is not None
    assert float(found.group()) == score, "a client that takes the first number gets all of it"
    assert ChatCompletion(**answer).choices[0].finish_reason == "stop", "verl's example validates the answer strictly"
    assert answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


def test_nemo_curator_reads_the_attributes(served: ServerThread) -> None:
    """Its OpenAIClient sends messages and model, and raises where logprobs are null."""
    score = alone(served, "labels", CHAT)
    with official(served) as client:
        response = client.chat.completions.create(messages=CHAT, model="labels")  # type: ignore[arg-type]
    assert response.choices[0].logprobs is not None
    scores = {entry.token: entry.logprob for entry in response.choices[0].logprobs.content or []}
    assert scores == {**score.attributes, "reward": score.score}
    assert list(scores) == [*LABELS, "reward"]


def test_the_official_client_lists_models(served: ServerThread, logit: LocalModel) -> None:
    with official(served) as client:
        names = [model.id for model in client.models.list()]
        one = client.models.retrieve(MODEL)
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("nobody")
    assert set(names) == {MODEL, "arithmetic-classifier", "labels", "steps", "gated", "worst"}
    assert (one.id, one.object, one.owned_by) == (MODEL, "model", "rm-grpc")
    assert one.model_dump()["model_digest"] == logit.info.model_digest
    assert "arithmetic-logit" in str(caught.value), "what there is stands in the error"


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_the_official_client_reads_embeddings(served: ServerThread, encoding: Any) -> None:
    expected = [alone(served, MODEL, one, special_tokens=SpecialTokens.ADD).score for one in (TEXT, "b")]
    more = {} if encoding is None else {"encoding_format": encoding}
    with official(served) as client:
        response = client.embeddings.create(model=MODEL, input=[TEXT, "b"], **more)
    assert [one.index for one in response.data] == [0, 1]
    found = [one.embedding for one in response.data]
    if encoding == "base64":
        assert [list(struct.unpack("<f", base64.b64decode(str(one)))) for one in found] == [[one] for one in expected]
    else:
        assert found == [[one] for one in expected]


def test_the_official_client_sends_token_ids(served: ServerThread, logit: LocalModel) -> None:
    ids = (5, 6, 7, 300)
    expected = alone(served, MODEL, TokenIds(ids, logit.info.tokenizer_digest)).score
    with official(served) as client:
        assert client.embeddings.create(model=MODEL, input=list(ids)).data[0].embedding == [expected]
        assert client.embeddings.create(model=MODEL, input=[list(ids)] * 2).data[1].embedding == [expected]


def test_the_official_client_raises_its_own_errors(served: ServerThread) -> None:
    with official(served) as client:
        with pytest.raises(openai.NotFoundError) as missing:
            client.chat.completions.create(model="nobody", messages=CHAT)  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError) as asking:
            client.chat.completions.create(model=MODEL, messages=CHAT[:1])  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError) as long:
            client.chat.completions.create(model=MODEL, messages=exchange("?", "word " * 2000))  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError) as streamed:
            client.chat.completions.create(model=MODEL, messages=CHAT, stream=True)  # type: ignore[call-overload]
        with pytest.raises(openai.BadRequestError) as several:
            client.chat.completions.create(model=MODEL, messages=CHAT, n=2)  # type: ignore[arg-type]
    assert (missing.value.code, missing.value.param, missing.value.type) == ("model_not_found", "model", "not_found_error")
    assert (asking.value.code, asking.value.type) == ("no_response", "invalid_request_error")
    assert asking.value.param == "messages[0].role", "the field is named as the caller knows it"
    assert (long.value.code, streamed.value.param, several.value.param) == ("context_length_exceeded", "stream", "n")


# --- vLLM -------------------------------------------------------------------------------------------------------------

FLAGS = [
    ({}, Activation.NONE),
    ({"use_activation": False}, Activation.NONE),
    ({"use_activation": None}, Activation.NONE),
    ({"use_activation": True}, Activation.SIGMOID),
    ({"activation": True}, Activation.SIGMOID),
    ({"softmax": True}, Activation.SIGMOID),
    ({"activation": False, "add_special_tokens": False}, Activation.NONE),
]


@pytest.mark.parametrize(("flags", "applied"), FLAGS)
def test_vllm_classify_and_pooling_of_messages(served: ServerThread, flags: dict[str, Any], applied: Activation) -> None:
    expected = alone(served, MODEL, CHAT, activation=applied)
    body = {"model": MODEL, "messages": CHAT, **flags}
    answer = ask(served, "/classify", body)
    assert answer["data"] == [{"index": 0, "label": "LABEL_0", "probs": [expected.score], "num_classes": 1}]
    assert answer["usage"]["prompt_tokens"] == expected.token_count
    assert ask(served, "/pooling", body)["data"] == [{"index": 0, "object": "pooling", "data": [expected.score]}]


@pytest.mark.parametrize(("add", "special"), [(None, "add"), (True, "add"), (False, "as_is")])
def test_vllm_texts_get_the_tokenizer_s_special_tokens_once(served: ServerThread, add: bool | None, special: str) -> None:
    more = {} if add is None else {"add_special_tokens": add}
    texts = [TEXT, "<|begin_of_text|>" + TEXT]
    found = [one["probs"] for one in ask(served, "/classify", {"model": "labels", "input": texts, **more})["data"]]
    scores = [alone(served, "labels", text, special_tokens=SpecialTokens(special)) for text in texts]
    assert found == [list(score.attributes.values()) for score in scores]
    assert (found[0] == found[1]) is (special == "add")


def test_vllm_input_may_be_a_text_several_ids_or_several_lists_of_ids(served: ServerThread, logit: LocalModel) -> None:
    of_ids = alone(served, MODEL, TokenIds((5, 6, 7), logit.info.tokenizer_digest)).score
    of_text = alone(served, MODEL, TEXT, special_tokens=SpecialTokens.ADD).score
    for given, expected in (
        (TEXT, [of_text]),
        ([TEXT, TEXT], [of_text] * 2),
        ([5, 6, 7], [of_ids]),
        ([[5, 6, 7]] * 3, [of_ids] * 3),
    ):
        answer = ask(served, "/classify", {"model": MODEL, "input": given})
        assert [one["probs"] for one in answer["data"]] == [[one] for one in expected]
        assert [one["index"] for one in answer["data"]] == list(range(len(expected)))


@pytest.mark.parametrize("names", [("queries", "documents"), ("queries", "items"), ("data_1", "data_2"), ("text_1", "text_2")])
def test_vllm_score_of_one_to_one_one_to_many_and_many_to_many(served: ServerThread, names: tuple[str, str]) -> None:
    def scores(left: Any, right: Any, **more: Any) -> list[float]:
        path = "/score" if names[0] == "queries" else "/v1/score"
        data = ask(served, path, {"model": MODEL, names[0]: left, names[1]: right, **more})["data"]
        assert [(one["index"], one["object"]) for one in data] == [(at, "score") for at in range(len(data))]
        return [one["score"] for one in data]

    one, two = (alone(served, MODEL, exchange(*pair)).score for pair in (("1+1?", "2"), ("2+2?", "5")))
    other = alone(served, MODEL, exchange("1+1?", "5")).score
    assert scores("1+1?", "2") == [one]
    assert scores("1+1?", ["2", "5"]) == [one, other]
    assert scores(["1+1?", "2+2?"], ["2", "5"]) == [one, two]
    assert scores("1+1?", "2", use_activation=True) == [
        alone(served, MODEL, exchange("1+1?", "2"), activation=Activation.SIGMOID).score
    ]


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_vllm_rerank_is_sorted_and_keeps_the_order_of_equals(served: ServerThread, path: str) -> None:
    documents = ["2", "5", "2", "11", "5"]
    scores = [alone(served, MODEL, exchange("1+1?", one)).score for one in documents]
    expected = sorted(range(5), key=lambda at: -scores[at])
    results = ask(served, path, {"model": MODEL, "query": "1+1?", "documents": documents})["results"]
    assert [one["index"] for one in results] == expected
    assert [one["relevance_score"] for one in results] == [scores[at] for at in expected]
    assert [one["document"]["text"] for one in results] == [documents[at] for at in expected]
    best = ask(served, path, {"model": MODEL, "query": "1+1?", "documents": documents, "top_n": 2})["results"]
    assert best == results[:2]


def test_vllm_answers_carry_the_caller_s_name_for_the_request(served: ServerThread) -> None:
    answer = ask(served, "/classify", {"model": MODEL, "messages": CHAT, "request_id": "mine"})
    assert (answer["id"], answer["object"], answer["model"]) == ("classify-mine", "list", MODEL)


# --- SGLang, and verl -------------------------------------------------------------------------------------------------


def test_sglang_classify_answers_one_with_an_object_and_several_with_a_list(served: ServerThread, logit: LocalModel) -> None:
    expected = alone(served, MODEL, TEXT, special_tokens=SpecialTokens.ADD)
    one = ask(served, "/classify", {"model": MODEL, "text": TEXT, "rid": "mine"})
    assert one["embedding"] == [expected.score]
    assert (one["meta_info"]["id"], one["meta_info"]["prompt_tokens"]) == ("mine", expected.token_count)
    several = ask(served, "/encode", {"model": MODEL, "text": [TEXT, "b"]})
    scores = [reward["embedding"][0] for reward in several]  # as SGLang's documentation reads them
    assert scores == [expected.score, alone(served, MODEL, "b", special_tokens=SpecialTokens.ADD).score]
    assert len(ask(served, "/classify", {"model": MODEL, "text": [TEXT]})) == 1
    of_ids = alone(served, MODEL, TokenIds((5, 6), logit.info.tokenizer_digest)).score
    assert ask(served, "/classify", {"model": MODEL, "input_ids": [5, 6]})["embedding"] == [of_ids]
    assert [one["embedding"] for one in ask(served, "/classify", {"model": MODEL, "input_ids": [[5, 6]] * 2})] == [[of_ids]] * 2


def test_verl_reads_the_number_that_its_template_would_have(single: ServerThread, logit: LocalModel) -> None:
    """It renders with the reward model's template, strips BOS, and sends the model's path; a server puts BOS back."""
    template = logit.text.template
    assert template is not None
    rendered = template.render(Conversation.from_openai(CHAT)).removeprefix("<|begin_of_text|>")
    expected = alone(single, MODEL, CHAT).score
    source = logit.info.source
    assert (
        ask(single, "/classify", {"model": source, "input": rendered, "use_activation": False})["data"][-1]["probs"][-1]
        == expected
    )
    assert ask(single, "/v1/embeddings", {"model": source, "input": rendered})["data"][-1]["embedding"][-1] == expected
    assert ask(single, "/classify", {"text": rendered})["embedding"][-1] == expected


# --- text-embeddings-inference ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flag", "applied"),
    [({}, Activation.NONE), ({"raw_scores": True}, Activation.NONE), ({"raw_scores": False}, Activation.SIGMOID)],
)
def test_tei_predict_in_every_form(single: ServerThread, flag: dict[str, Any], applied: Activation) -> None:
    def of(subject: Any) -> list[dict[str, Any]]:
        special = {"special_tokens": SpecialTokens.ADD} if isinstance(subject, str) else {}
        return [{"score": alone(single, MODEL, subject, activation=applied, **special).score, "label": "LABEL_0"}]

    pair = exchange("1+1?", "2")
    forms: list[tuple[Any, Any]] = [
        ("1+1? 2", of("1+1? 2")),
        (["1+1? 2"], of("1+1? 2")),
        (["1+1?", "2"], of(pair)),
        ([["1+1? 2"], ["b"]], [of("1+1? 2"), of("b")]),
        ([["1+1?", "2"], ["b"]], [of(pair), of("b")]),
    ]
    for given, expected in forms:
        assert ask(single, "/predict", {"inputs": given, "truncate": True, **flag}) == expected, given


def test_tei_rerank_is_sorted_with_the_later_of_equals_first(single: ServerThread) -> None:
    texts = ["2", "5", "2"]
    scores = [alone(single, MODEL, exchange("1+1?", one)).score for one in texts]
    expected = sorted(range(3), key=lambda at: (scores[at], at), reverse=True)
    ranks = ask(single, "/rerank", {"query": "1+1?", "texts": texts, "return_text": True})
    assert sorted(ranks, key=lambda rank: rank["index"]) == [
        {"index": at, "text": text, "score": score} for at, (text, score) in enumerate(zip(texts, scores, strict=True))
    ]
    assert [rank["score"] for rank in ranks] == sorted(scores, reverse=True)
    assert [rank["index"] for rank in ranks] == expected, "TEI's own test has index 2 before 0 for equal texts"
    plain = ask(single, "/rerank", {"query": "1+1?", "texts": texts, "raw_scores": False})
    sigmoid = alone(single, MODEL, exchange("1+1?", "5"), activation=Activation.SIGMOID).score
    assert next(rank for rank in plain if rank["index"] == 1) == {"index": 1, "score": sigmoid}


def test_tei_info(served: ServerThread, logit: LocalModel) -> None:
    with caller(served) as client:
        info = client.get(f"/info?model={MODEL}").json()
        labels = client.get("/info?model=labels").json()
        assert client.get("/info").status_code == 404, "several models are served and none was named"
    assert (info["model_id"], info["max_input_length"]) == (logit.info.source, logit.info.limits.max_length)
    assert info["model_type"] == {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}}
    assert labels["model_type"]["classifier"]["id2label"] == {str(at): name for at, name in enumerate(LABELS)}


# --- OpenRLHF, slime, NeMo-Gym ----------------------------------------------------------------------------------------


def test_openrlhf_scores_texts_as_they_are_or_their_messages(single: ServerThread) -> None:
    query = CHATML + CHAT[1]["content"] + "<|im_end|>\n"
    expected = alone(single, MODEL, CHAT).score
    body = {"query": [query, TEXT + " "], "prompts": [CHATML, "x"], "labels": ["2", None]}
    assert post(single, "/get_reward", body).status_code == 400, "another family's marks are not the model's"
    answer = ask(single, "/get_reward?unrender=true", {"query": [query] * 2, "prompts": [CHATML] * 2, "labels": [None, "2"]})
    assert answer == {"rewards": [expected] * 2, "scores": [expected] * 2, "extra_logs": {}}
    as_is = ask(single, "/get_reward", {"query": [TEXT]})
    assert as_is["rewards"] == [alone(single, MODEL, TEXT).score]
    allowed = alone(single, MODEL, query, foreign_markers=ForeignMarkers.ALLOW).score
    assert ask(single, "/get_reward?foreign_markers=allow", {"query": [query]})["rewards"] == [allowed]


def test_openrlhf_s_empty_shares_are_empty_answers(single: ServerThread) -> None:
    for body in ({"query": []}, {"query": [], "prompts": [], "labels": []}):
        assert ask(single, "/get_reward", body) == {"rewards": [], "scores": [], "extra_logs": {}}


def test_slime_gets_a_number_or_an_object(single: ServerThread) -> None:
    expected = alone(single, MODEL, CHAT).score
    prompt, response = (message["content"] for message in CHAT)
    assert ask(single, "/slime", {"prompt": prompt, "response": response, "label": "2"}) == expected
    assert ask(single, "/slime", {"prompt": CHAT[:1], "response": response, "label": None}) == expected
    assert ask(single, "/slime?answer=object", {"prompt": prompt, "response": response}) == {"score": expected}
    assert ask(single, "/slime?unrender=true", {"prompt": CHATML, "response": response + "<|im_end|>", "label": 2}) == expected


@pytest.mark.parametrize("opening", ["", "<think>\n", "<think>\n\n</think>\n\n"])
@pytest.mark.parametrize("response", ["1+1=2", "hm\n</think>\n\n1+1=2 \n", ""])
@pytest.mark.parametrize("end", ["", "<|im_end|>", "<|im_end|>\n"])
def test_a_sample_has_one_number_whichever_trainer_sends_it(
    single: ServerThread, opening: str, response: str, end: str
) -> None:
    """Prompt and response in one text, or apart; an empty response only where its end says that there is one."""
    if not response and not end:
        return
    prompt = CHATML + opening
    apart = ask(single, "/slime?unrender=true", {"prompt": prompt, "response": response + end, "label": None})
    together = ask(single, "/get_reward?unrender=true", {"query": [prompt + response + end]})
    assert together["rewards"] == [apart]


def responses(*texts: str, reasoning: bool = False) -> dict[str, Any]:
    """A response in the Responses format."""
    parts = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    thought = [{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]}] if reasoning else []
    return {"id": "a", "object": "response", "output": [*thought, {"type": "message", "role": "assistant", "content": parts}]}


@pytest.mark.parametrize(
    "params",
    [
        {"input": "What is 1+1?"},
        {"input": [{"role": "user", "content": "What is 1+1?", "type": "message"}], "temperature": 1.0, "tools": []},
        {"input": [{"role": "user", "content": [{"type": "input_text", "text": "What is 1+1?"}]}]},
    ],
)
def test_nemo_gym_verifies_a_response(single: ServerThread, params: dict[str, Any]) -> None:
    body = {
        "responses_create_params": params,
        "response": responses("1+1=2,", " I think.", reasoning=True),
        "_ng_task_index": 7,
    }
    answer = ask(single, "/verify", body)
    assert answer["reward"] == alone(single, MODEL, CHAT).score
    assert {key: answer[key] for key in body} == body, "an agent validates what it sent"


def test_nemo_gym_instructions_are_the_system_message(single: ServerThread) -> None:
    params = {"instructions": "Be brief.", "input": "What is 1+1?"}
    answer = ask(single, "/verify", {"responses_create_params": params, "response": responses(CHAT[1]["content"])})
    assert answer["reward"] == alone(single, MODEL, [{"role": "system", "content": "Be brief."}, *CHAT]).score


def test_nemo_gym_compares_a_group(single: ServerThread) -> None:
    answers = ["1+1=2", "1+1=3", "I do not know."]
    body = {"conversation_history": CHAT[:1], "response_objs": [responses(one) for one in answers], "principle": "Be right."}
    expected = [alone(single, MODEL, exchange("What is 1+1?", one)).score for one in answers]
    assert ask(single, "/compare", body) == {"rewards": expected, "comparison_results": None, "metrics": None}
    assert ask(single, "/compare", {"conversation_history": CHAT[:1], "response_objs": []})["rewards"] == []


# --- our own ----------------------------------------------------------------------------------------------------------


def lines(server: ServerThread, body: str, query: str = "") -> list[dict[str, Any]]:
    """The answer to lines, in their order."""
    response = raw_post(server, f"/v1/score_batch{query}", body.encode(), "application/x-ndjson")
    assert response.status_code == 200, response.text
    return sorted((json.loads(line) for line in response.text.splitlines()), key=lambda line: line["line"])


def test_lines_of_every_form_have_a_score_or_an_error_each(served: ServerThread) -> None:
    score = alone(served, MODEL, CHAT)
    good = [
        json.dumps(CHAT),
        json.dumps({"messages": CHAT, "id": "a", "group": "g", "metadata": {"x": 1}}),
        json.dumps({"prompt": CHAT[0]["content"], "response": CHAT[1]["content"], "id": 3}),
        json.dumps({"prompt": CHAT[:1], "response": [CHAT[1]["content"]]}),
    ]
    bad = [
        "{",
        "[1]",
        '{"prompt": "x"}',
        '{"text": "x", "colour": "red"}',
        json.dumps(CHAT[:1]),
        '{"text": "late", "timeout": 0}',
    ]
    found = lines(served, "\n".join([*good, *bad]) + "\n", f"?model={MODEL}")
    assert [line["line"] for line in found] == list(range(10))
    for line in found[:4]:
        assert (line["score"], line["raw_score"], line["model_digest"]) == (score.score, score.raw_score, score.model_digest)
    assert [line.get("id") for line in found[:4]] == [None, "a", "3", None]
    assert all("score" not in line for line in found[4:])
    reasons = [line["error"]["reason"] for line in found[4:]]
    assert reasons == ["INVALID_REQUEST"] * 4 + ["NO_RESPONSE", "DEADLINE_EXCEEDED"]
    assert {"code", "reason", "field", "message"} <= found[4]["error"].keys()


def test_lines_that_are_all_unreadable_are_errors_all_the_same(single: ServerThread) -> None:
    assert [line["error"]["reason"] for line in lines(single, "x\ny")] == ["INVALID_REQUEST"] * 2


def test_a_line_keeps_its_number_behind_an_empty_one(single: ServerThread) -> None:
    text = json.dumps({"text": TEXT})
    assert [line["line"] for line in lines(single, f"{text}\n\n{text}\r\n\n")] == [0, 2]


def test_lines_may_ask_for_an_activation(single: ServerThread) -> None:
    [line] = lines(single, json.dumps(CHAT), "?activation=sigmoid")
    sigmoid = alone(single, MODEL, CHAT, activation=Activation.SIGMOID)
    assert (line["score"], line["raw_score"]) == (sigmoid.score, sigmoid.raw_score)


@pytest.mark.parametrize("how", list(ControlTokens))
def test_control_tokens_in_content_are_what_the_query_says(single: ServerThread, how: ControlTokens) -> None:
    chat = exchange("What is <|eot_id|>?", "The end.")
    response = post(single, f"/v1/chat/completions?control_tokens={how.value}", {"messages": chat})
    if how is ControlTokens.REFUSE:
        assert (response.status_code, response.json()["error"]["code"]) == (400, "control_tokens_in_content")
    else:
        number = response.json()["choices"][0]["logprobs"]["content"][0]["logprob"]
        assert number == alone(single, MODEL, chat, control_tokens=how).score


# --- models that give more than a number ------------------------------------------------------------------------------


def test_each_label_has_its_number_where_a_face_has_a_place_for_it(served: ServerThread) -> None:
    score = alone(served, "labels", CHAT)
    numbers = list(score.attributes.values())
    assert list(score.attributes) == list(LABELS)
    [classified] = ask(served, "/classify", {"model": "labels", "messages": CHAT})["data"]
    assert (classified["probs"], classified["num_classes"]) == (numbers, 3)
    assert classified["label"] == max(score.attributes, key=lambda name: score.attributes[name])
    [pooled] = ask(served, "/pooling", {"model": "labels", "messages": CHAT})["data"]
    assert pooled["data"] == numbers
    [ranked] = ask(served, "/rerank", {"model": "labels", "query": CHAT[0]["content"], "documents": CHAT[1]["content"]})[
        "results"
    ]
    assert ranked["relevance_score"] == score.score
    predicted = ask(served, "/predict?model=labels", {"inputs": [CHAT[0]["content"], CHAT[1]["content"]]})
    assert {one["label"]: one["score"] for one in predicted} == score.attributes
    assert [one["score"] for one in predicted] == sorted(numbers, reverse=True)
    text = alone(served, "labels", TEXT, special_tokens=SpecialTokens.ADD)
    assert ask(served, "/classify", {"model": "labels", "text": TEXT})["embedding"] == list(text.attributes.values())
    assert ask(served, "/v1/embeddings", {"model": "labels", "input": TEXT})["data"][0]["embedding"] == list(
        text.attributes.values()
    )
    rewarded = ask(served, "/get_reward?model=labels", {"query": [TEXT] * 2})
    plain = alone(served, "labels", TEXT)
    assert rewarded["rewards"] == [plain.score] * 2
    assert rewarded["extra_logs"] == {name: [value] * 2 for name, value in plain.attributes.items()}
    sample = {"prompt": CHAT[0]["content"], "response": CHAT[1]["content"]}
    assert ask(served, "/slime?model=labels", sample) == score.score
    assert ask(served, "/slime?model=labels&answer=object", sample) == {**score.attributes, "score": score.score}
    verified = {"responses_create_params": {"input": CHAT[0]["content"]}, "response": responses(CHAT[1]["content"])}
    verified = ask(served, "/verify?model=labels", verified)
    assert (verified["reward"], verified["reward_components"]) == (score.score, score.attributes)
    [line] = lines(served, json.dumps(CHAT), "?model=labels")
    assert (line["score"], line["attributes"]) == (score.score, score.attributes)


@pytest.mark.parametrize("model", ["labels", "gated", "worst"])
def test_several_numbers_have_no_one_activation(served: ServerThread, model: str) -> None:
    for path, body, field in (
        ("/classify", {"messages": CHAT, "model": model, "use_activation": True}, "use_activation"),
        ("/score", {"text_1": "a", "text_2": "b", "model": model, "use_activation": True}, "use_activation"),
        (f"/rerank?model={model}", {"query": "a", "texts": ["b"], "raw_scores": False}, "raw_scores"),
    ):
        response = post(served, path, body)
        assert response.status_code in (400, 422), path
        assert field in response.text


@pytest.mark.parametrize("model", ["gated", "worst"])
def test_one_reward_of_several_numbers_is_the_number_that_clients_take(served: ServerThread, model: str) -> None:
    """verl takes the last number, SGLang's examples the first: neither may be a component."""
    score = alone(served, model, CHAT)
    assert score.attributes
    [classified] = ask(served, "/classify", {"model": model, "messages": CHAT})["data"]
    assert (classified["probs"], classified["attributes"]) == ([score.score], score.attributes)
    [pooled] = ask(served, "/pooling", {"model": model, "messages": CHAT})["data"]
    assert pooled["data"] == [score.score]
    completion = ask(served, "/v1/chat/completions", {"model": model, "messages": CHAT})
    numbers = {one["token"]: one["logprob"] for one in completion["choices"][0]["logprobs"]["content"]}
    assert numbers["reward"] == score.score
    assert list(numbers.values()) == [*score.attributes.values(), score.score]
    if model == "gated":
        return  # it reads conversations only
    texts = ask(served, "/classify", {"model": model, "text": [TEXT]})
    assert texts[0]["embedding"] == [alone(served, model, TEXT, special_tokens=SpecialTokens.ADD).score]


def test_steps_are_nested_lists_and_their_aggregate_is_the_score(served: ServerThread) -> None:
    score = alone(served, "steps", STEPPED)
    assert len(score.steps) == 3
    each = [[step.score] for step in score.steps]
    body = {"model": "steps", "messages": STEPPED}
    for task in ({}, {"task": "token_classify"}):
        assert ask(served, "/pooling", {**body, **task})["data"][0]["data"] == each
    assert ask(served, "/pooling", {**body, "task": "classify"})["data"][0]["data"] == [score.score]
    assert ask(served, "/classify", body)["data"][0]["probs"] == [score.score]
    [line] = lines(served, json.dumps(STEPPED), "?model=steps")
    assert (line["score"], [step["score"] for step in line["steps"]]) == (score.score, [step.score for step in score.steps])
    assert "".join(STEPS)[line["steps"][1]["char_start"] : line["steps"][1]["char_end"]] == STEPS[1]
    refused = post(served, "/pooling", {"model": MODEL, "messages": CHAT, "task": "token_classify"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "task")


# --- which model ------------------------------------------------------------------------------------------------------


def test_a_model_is_named_in_the_body_the_query_or_the_path(served: ServerThread) -> None:
    wanted = [[alone(served, model, CHAT).score] for model in (MODEL, "arithmetic-classifier")]
    assert wanted[0] != wanted[1]
    for at, model in enumerate((MODEL, "arithmetic-classifier")):
        for path, body in (
            ("/classify", {"model": model}),
            (f"/classify?model={model}", {}),
            (f"/models/{model}/classify", {}),
            (f"/models/{model}/classify", {"model": None}),
        ):
            assert ask(served, path, {"messages": CHAT, **body})["data"][0]["probs"] == wanted[at], path
        with openai.OpenAI(
            base_url=f"{url_of(served)}/models/{model}/v1", api_key="x", http_client=openai.DefaultHttpxClient(trust_env=False)
        ) as client:
            completion = client.chat.completions.create(model=model, messages=CHAT)  # type: ignore[arg-type]
        assert completion.model == model


def test_a_model_is_found_by_what_it_was_loaded_from(served: ServerThread, labelled: LocalModel) -> None:
    source = labelled.info.source
    assert source.startswith("/")
    expected = list(alone(served, "labels", CHAT).attributes.values())
    answer = ask(served, "/classify", {"model": source, "messages": CHAT})
    assert (answer["model"], answer["data"][0]["probs"]) == ("labels", expected)
    with official(served) as client:
        assert client.models.retrieve(source).id == "labels"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": CHAT, "model": "nobody"}),
        ("/classify", {"messages": CHAT, "model": "nobody"}),
        ("/classify", {"messages": CHAT}),
        ("/classify", {"text": "a", "model": "nobody"}),
        ("/pooling", {"input": "a", "model": "nobody"}),
        ("/score", {"text_1": "a", "text_2": "b", "model": "nobody"}),
        ("/rerank", {"query": "a", "documents": ["b"], "model": "nobody"}),
        ("/rerank?model=nobody", {"query": "a", "texts": ["b"]}),
        ("/v1/embeddings", {"input": "a", "model": "nobody"}),
        ("/predict?model=nobody", {"inputs": "a"}),
        ("/predict", {"inputs": "a"}),
        ("/get_reward?model=nobody", {"query": ["a"]}),
        ("/get_reward?model=nobody", {"query": []}),
        ("/slime?model=nobody", {"prompt": "a", "response": "b"}),
        ("/verify?model=nobody", {"responses_create_params": {"input": "a"}, "response": responses("b")}),
        ("/compare?model=nobody", {"conversation_history": CHAT[:1], "response_objs": [responses("b")]}),
        ("/v1/score_batch?model=nobody", CHAT),
        ("/models/nobody/classify", {"messages": CHAT}),
    ],
)
def test_a_model_that_is_not_served_is_404(served: ServerThread, path: str, body: Any) -> None:
    response = post(served, path, body)
    assert response.status_code == 404, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.json()


# --- what was recorded of other servers -------------------------------------------------------------------------------

ANSWERS_DIFFER = {"extra_logs", "comparison_results", "metrics", "function_call", "tool_calls"}
"""Keys whose values are what a server has to tell: components of the reward, comparisons, or nothing."""
REQUESTS: dict[str, tuple[str, dict[str, Any]]] = {
    # Ours are named; the placeholders of a recording are conversations.
    "nim: five attributes": ("", {"model": "labels"}),
    "nim: one reward": ("", {"model": MODEL}),
    "sglang: native classify": ("", {"model": MODEL}),
    "slime: a number": (f"/slime?model={MODEL}", {}),
    "slime: an object": (f"/slime?model={MODEL}&answer=object", {}),
    "tei: many labels": ("/predict?model=labels", {}),
    "verl: vllm": ("", {"model": MODEL}),
    "verl: sglang": ("", {"model": MODEL}),
    "verl: sglang native": (f"/classify?model={MODEL}", {}),
    "vllm: classify": ("", {"model": "labels"}),
    "vllm: score": ("", {"model": MODEL}),
    "vllm: rerank": ("", {"model": MODEL}),
    "vllm: truncation refused": ("", {"model": MODEL}),
    "vllm: task refused": ("", {"model": MODEL}),
}
NOT_SO = {
    "nemo-gym: one response without messages": 400,  # a response that says nothing is no number there
    "nemo-gym: one response verified": 400,  # neither is its test's empty output
    "tei: overloaded": 0,  # in test_http_faults.py, where there is a server whose queue is full
}


def shapes_agree(recorded: Any, ours: Any, where: str = "answer") -> None:
    """That what a client of the recorded answer reads is there, of the same type."""
    if isinstance(recorded, dict):
        assert isinstance(ours, dict), where
        assert recorded.keys() - ours.keys() <= ANSWERS_DIFFER, where
        for key in recorded.keys() & ours.keys() - ANSWERS_DIFFER:
            shapes_agree(recorded[key], ours[key], f"{where}.{key}")
    elif isinstance(recorded, list):
        assert isinstance(ours, list), where
        assert bool(ours) is bool(recorded), where
        for at, one in enumerate(ours):
            shapes_agree(recorded[min(at, len(recorded) - 1)], one, f"{where}[{at}]")
    elif isinstance(recorded, (int, float)):
        assert isinstance(ours, (int, float)), where
        assert math.isfinite(ours), where
    elif recorded is not None:
        assert type(ours) is type(recorded), where


@pytest.mark.parametrize("record", [one for one in RECORDED if one["name"] not in NOT_SO], ids=lambda one: str(one["name"]))
def test_answers_have_the_shape_of_what_was_recorded(served: ServerThread, record: dict[str, Any]) -> None:
    path, changes = REQUESTS.get(record["name"], (f"{record['path']}?model={MODEL}", {}))
    body = {**record["body"], **changes}
    if record["name"].startswith("openrlhf"):
        body["query"] = ["What is 1+1? 2"]
    response = post(served, path or record["path"], body)
    assert response.status_code == record["status"], response.text
    recorded = record["answer"]
    if record["name"] == "nim: five attributes":  # the hosted endpoint of 2024 gave the message in a list; documents do not
        recorded["choices"][0]["message"] = recorded["choices"][0]["message"][0]
    shapes_agree(recorded, response.json())
    if isinstance(recorded, list):
        assert len(response.json()) == (3 if record["name"] == "tei: many labels" else len(recorded))


@pytest.mark.parametrize("name", [name for name, status in NOT_SO.items() if status])
def test_what_other_servers_give_a_number_for_and_we_do_not(single: ServerThread, name: str) -> None:
    record = next(one for one in RECORDED if one["name"] == name)
    response = post(single, record["path"], record["body"])
    assert response.status_code == NOT_SO[name]
    assert "NO_RESPONSE" in response.headers["x-rm-grpc-reason"]


# --- the description --------------------------------------------------------------------------------------------------


def test_the_description_is_openapi_and_lists_every_path(served: ServerThread) -> None:
    with caller(served) as client:
        described = client.get("/openapi.json").json()
        listed = {path for path, item in described["paths"].items()}
        for path in ("/health", "/v1/health/ready", "/v1/health/live", "/v1/models", f"/info?model={MODEL}"):
            assert client.get(path).status_code == 200, path
    assert described["openapi"].startswith("3.1")
    assert {"title", "version"} <= described["info"].keys()
    for path in (
        "/v1/chat/completions", "/v1/models", "/v1/models/{name}", "/classify", "/pooling", "/score", "/rerank",
        "/v1/embeddings", "/predict", "/info", "/get_reward", "/slime", "/verify", "/compare", "/v1/score_batch", "/health",
    ):  # fmt: skip
        assert path in listed, path
    for schema in described["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
    names = set(described["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(described))) <= names
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["responses"], (method, path)
            assert operation.get("description") or operation.get("summary"), (method, path)


def test_a_path_that_is_not_there_is_an_error_in_json(served: ServerThread) -> None:
    with caller(served) as client:
        for response in (
            client.get("/nope"),
            client.post("/v1/nope", json={}),
            client.get("/classify"),
            client.delete("/health"),
        ):
            assert response.status_code in (404, 405)
            assert "/openapi.json" in response.json()["error"]["message"]
        assert client.get("/classify").headers["allow"] == "POST"


def test_calls_may_share_a_connection(single: ServerThread) -> None:
    with caller(single, limits=httpx.Limits(max_connections=1)) as client:
        for at in range(5):
            bad = client.post("/classify", json={"input": []})
            good = client.post("/classify", json={"messages": exchange("?", str(at))})
            assert (bad.status_code, good.status_code) == (400, 200)
