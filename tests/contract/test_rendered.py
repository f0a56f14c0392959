"""Messages come back out of what the chat templates of the families write, or the text is an error; never other messages."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rm_grpc.errors import InvalidRequestError, NoResponseError
from rm_grpc.rendered import conversation_of, messages_of, without_end
from rm_grpc.types import Message


@dataclass(frozen=True)
class Family:
    """A chat template as the family has it, without what concerns tools and pictures.

    Attributes:
        template: its source.
        ends: what a policy of the family ends its answers with, as text.
        system: whether it has a place for a system message that can be told from the rest.
        trims: whether white space around contents is lost.
    """

    template: str
    ends: tuple[str, ...]
    system: bool = True
    trims: bool = False
    bos: str = ""
    eos: str = ""


FAMILIES = {
    "qwen": Family(  # Qwen/Qwen2.5-7B-Instruct
        "{%- if messages[0]['role'] == 'system' %}{{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}"
        "{%- else %}{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{%- endif %}"
        "{%- for message in messages %}{%- if message.role == 'user' or (message.role == 'system' and not loop.first)"
        " or message.role == 'assistant' %}"
        "{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}",
        ("<|im_end|>", "<|im_end|>\n", "<|endoftext|>"),
    ),
    "chatml": Family(
        "{{ bos_token }}{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
        ("<|im_end|>", "<|im_end|>\n"),
        bos="<s>",
    ),
    "llama-3": Family(  # meta-llama/Meta-Llama-3-8B-Instruct
        "{% for message in messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
        " + message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}"
        "{% endif %}{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
        ("<|eot_id|>", "<|end_of_text|>"),
        trims=True,
        bos="<|begin_of_text|>",
    ),
    "llama-3.1": Family(  # meta-llama/Llama-3.1-8B-Instruct: a system turn with two dates, whatever the caller gave
        "{{- bos_token }}{%- if messages[0]['role'] == 'system' %}{%- set system_message = messages[0]['content']|trim %}"
        "{%- set messages = messages[1:] %}{%- else %}{%- set system_message = '' %}{%- endif %}"
        "{{- '<|start_header_id|>system<|end_header_id|>\n\n' }}{%- if tools %}{{- 'Environment: ipython\n' }}{%- endif %}"
        "{{- 'Cutting Knowledge Date: December 2023\n' }}{{- 'Today Date: 26 Jul 2024\n\n' }}{{- system_message }}"
        "{{- '<|eot_id|>' }}{%- for message in messages %}{%- if message.role == 'tool' or message.role == 'ipython' %}"
        "{{- '<|start_header_id|>ipython<|end_header_id|>\n\n' }}{{- message.content }}{{- '<|eot_id|>' }}{%- else %}"
        "{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' }}"
        "{%- endif %}{%- endfor %}"
        "{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{%- endif %}",
        ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>"),
        trims=True,
        bos="<|begin_of_text|>",
    ),
    "gemma": Family(  # google/gemma-2-9b-it
        "{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
        "{% else %}{% set role = message['role'] %}{% endif %}"
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
        ("<end_of_turn>", "<end_of_turn>\n", "<eos>"),
        system=False,
        trims=True,
        bos="<bos>",
    ),
    "deepseek-v3": Family(  # deepseek-ai/DeepSeek-V3
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}"
        "{{ '<｜User｜>' + m.content }}{% else %}{{ '<｜Assistant｜>' + m.content + '<｜end▁of▁sentence｜>' }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif %}",
        ("<｜end▁of▁sentence｜>",),
        bos="<｜begin▁of▁sentence｜>",
    ),
    "glm-4": Family(  # THUDM/glm-4-9b-chat: turns have no end
        "[gMASK]<sop>{% for item in messages %}{{ '<|' + item['role'] + '|>\n' + item['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}",
        ("<|user|>", "<|endoftext|>"),
    ),
    "phi-3": Family(  # microsoft/Phi-3-mini-4k-instruct
        "{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
        ("<|end|>", "<|end|><|endoftext|>", "<|end|>\n<|endoftext|>"),
        eos="<|endoftext|>",
    ),
    "phi-4": Family(  # microsoft/phi-4
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant<|im_sep|>' }}{% endif %}",
        ("<|im_end|>",),
    ),
    "zephyr": Family(  # HuggingFaceH4/zephyr-7b-beta
        "{% for message in messages %}\n{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token }}\n"
        "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}",
        ("</s>", "</s>\n"),
        eos="</s>",
    ),
    "mistral-v1": Family(  # mistralai/Mistral-7B-Instruct-v0.2
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}"
        "{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
        ("</s>",),
        system=False,
        bos="<s>",
        eos="</s>",
    ),
    "mistral-v3": Family(  # mistralai/Mistral-7B-Instruct-v0.3
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + '[/INST]' }}{% else %}"
        "{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}",
        ("</s>",),
        system=False,
        bos="<s>",
        eos="</s>",
    ),
    "mistral-v7": Family(  # mistralai/Mistral-Small-24B-Instruct-2501
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'system' %}"
        "{{ '[SYSTEM_PROMPT]' + m.content + '[/SYSTEM_PROMPT]' }}{% elif m.role == 'user' %}"
        "{{ '[INST]' + m.content + '[/INST]' }}{% else %}{{ m.content + eos_token }}{% endif %}{% endfor %}",
        ("</s>",),
        bos="<s>",
        eos="</s>",
    ),
}
NO_PROMPT_MARK = ("mistral-v1", "mistral-v3", "mistral-v7")
"""Families that open an answer with the end of the question."""
_ENVIRONMENT = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
"""As Transformers compiles templates."""

SYSTEM = Message("system", "Be brief.\nVery brief.")
USER = Message("user", "What is 1+1?\n\nTell me.")
ANSWER = Message("assistant", "1+1=2, for **one** and one is two;\nsee `f(x)`.")
AGAIN = Message("user", "And 2+2?")
LAST = Message("assistant", "4")


def render(name: str, *messages: Message, add_generation_prompt: bool = False, **more: Any) -> str:
    """What the family's template writes."""
    family = FAMILIES[name]
    template = _ENVIRONMENT.from_string(family.template)
    raw = [{"role": message.role, "content": message.text} for message in messages]
    tokens = {"bos_token": family.bos, "eos_token": family.eos}
    return template.render(messages=raw, add_generation_prompt=add_generation_prompt, **tokens, **more)


def opened(name: str) -> tuple[Message, ...]:
    """What the template itself puts before a conversation without a system message."""
    return (Message("system", "You are a helpful assistant."),) if name == "qwen" else ()


# --- round trips ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("turns", [(USER, LAST), (USER, ANSWER, AGAIN, LAST), (AGAIN, LAST, USER, ANSWER, AGAIN, ANSWER)])
def test_conversations_come_back(name: str, turns: tuple[Message, ...]) -> None:
    assert conversation_of(render(name, *turns)).messages == (*opened(name), *turns)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.system])
def test_system_messages_come_back(name: str) -> None:
    assert conversation_of(render(name, SYSTEM, USER, ANSWER)).messages == (SYSTEM, USER, ANSWER)
    assert messages_of(render(name, SYSTEM, USER, add_generation_prompt=True)) == (SYSTEM, USER)


@pytest.mark.parametrize("name", FAMILIES)
def test_the_opening_of_an_answer_is_no_message(name: str) -> None:
    prompt = render(name, USER, ANSWER, AGAIN, add_generation_prompt=True)
    assert messages_of(prompt) == (*opened(name), USER, ANSWER, AGAIN)


@pytest.mark.parametrize("name", [name for name in FAMILIES if name not in NO_PROMPT_MARK])
def test_a_prompt_without_the_opening_of_an_answer(name: str) -> None:
    assert messages_of(render(name, USER, ANSWER, AGAIN)) == (*opened(name), USER, ANSWER, AGAIN)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_rollout_is_its_prompt_and_its_response(name: str) -> None:
    """What trainers send: the rendered prompt, and the generated text behind it with or without what ended it."""
    prompt = render(name, USER, add_generation_prompt=True)
    for end in ("", *FAMILIES[name].ends):
        found = conversation_of(prompt + ANSWER.text + end).messages
        assert (found[:-1], found[-1].role, found[-1].text.strip()) == ((*opened(name), USER), "assistant", ANSWER.text), end


@pytest.mark.parametrize("name", FAMILIES)
def test_what_ends_a_response_is_taken_off(name: str) -> None:
    for end in ("", *FAMILIES[name].ends):
        assert without_end(ANSWER.text + end) == ANSWER.text, end


def test_an_answer_that_ended_at_once_is_an_empty_answer() -> None:
    """The policy gave its end and nothing else: that is a response, and a server that is sent messages scores it."""
    empty = Message("assistant", "")
    assert conversation_of("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n").messages[-1] == empty
    assert conversation_of("<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n<end_of_turn>").messages[-1] == empty
    assert conversation_of("<s>[INST] hi[/INST]</s>").messages[-1] == empty


def test_think_blocks_stay_in_the_answer() -> None:
    thought = Message("assistant", "<think>\nOne and one.\n</think>\n\nIt is 2.")
    for name in ("qwen", "chatml", "deepseek-v3", "glm-4", "phi-3"):
        assert conversation_of(render(name, USER, thought)).messages == (*opened(name), USER, thought), name


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n", "hm\n</think>\n\nhello"),  # QwQ, Qwen3-Thinking
        ("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n", "hello"),  # Qwen3 without thinking
        ("<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜><think>\n", "hm\n</think>\n\nhello"),  # DeepSeek-R1
        ("<｜begin▁of▁sentence｜><｜User｜>hi<｜Assistant｜></think>", "hello"),  # DeepSeek-V3.1 without thinking
        ("[gMASK]<sop><|user|>\nhi<|assistant|>\n<think></think>\n", "hello"),  # GLM-4.5 without thinking
    ],
)
def test_templates_that_open_the_thought_too(prompt: str, response: str) -> None:
    """The opened thought is no message of the prompt, and belongs to the response."""
    assert messages_of(prompt) == (Message("user", "hi"),)
    found = conversation_of(prompt + response).messages
    assert found[:-1] == (Message("user", "hi"),)
    assert found[-1].role == "assistant"
    assert found[-1].text.endswith(response)


# --- what templates add ------------------------------------------------------------------------------------------------


def test_llama_dates_are_no_system_message() -> None:
    assert messages_of(render("llama-3.1", USER, add_generation_prompt=True)) == (USER,)
    assert messages_of(render("llama-3.1", USER, add_generation_prompt=True, tools=[{}])) == (USER,)
    assert messages_of(render("llama-3.1", SYSTEM, USER)) == (SYSTEM, USER)
    dated = Message("system", "Today Date: unknown\n\nBe brief.")
    assert messages_of(render("llama-3.1", dated, USER)) == (dated, USER), "only the template's own dates are taken away"


def test_llama_tool_turns_come_back_as_tool_messages() -> None:
    call = Message("assistant", '<|python_tag|>{"name": "get", "parameters": {}}')
    tool = Message("tool", '{"output": "rain"}')
    messages = (USER, call, tool, Message("assistant", "It rains."))
    assert conversation_of(render("llama-3.1", *messages)).messages == messages


def test_qwen_tool_results_come_back_as_the_user_turn_that_they_are() -> None:
    """Qwen's template writes a tool's result into a turn of the user."""
    text = "<|im_start|>user\nweather?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n{}\n</tool_call><|im_end|>\n"
    text += "<|im_start|>user\n<tool_response>\nrain\n</tool_response><|im_end|>\n<|im_start|>assistant\nIt rains.<|im_end|>\n"
    found = conversation_of(text).messages
    assert [message.role for message in found] == ["user", "assistant", "user", "assistant"]
    assert found[2].text == "<tool_response>\nrain\n</tool_response>"


def test_glm_observations_come_back_as_tool_messages() -> None:
    text = "[gMASK]<sop><|user|>\nweather?<|assistant|>get\n{}<|observation|>\nrain<|assistant|>\nIt rains."
    found = conversation_of(text).messages
    assert [(message.role, message.text) for message in found[2:]] == [("tool", "rain"), ("assistant", "It rains.")]


def test_deepseek_tool_turns_are_never_taken_for_what_the_assistant_said() -> None:
    text = "<｜begin▁of▁sentence｜><｜User｜>weather?<｜Assistant｜><｜tool▁calls▁begin｜>get<｜tool▁calls▁end｜>"
    text += "<｜end▁of▁sentence｜>"
    text += "<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>rain<｜tool▁output▁end｜><｜tool▁outputs▁end｜>It rains."
    text += "<｜end▁of▁sentence｜>"
    try:
        found = conversation_of(text).messages
    except InvalidRequestError:
        return
    assert (found[-1].role, found[-1].text) == ("assistant", "It rains.")


# --- any contents -----------------------------------------------------------------------------------------------------


MARKS = (
    "<|",
    "|>",
    "<｜",
    "｜>",
    "[INST",
    "INST]",
    "</s>",
    "<s>",
    "_turn>",
    "<eos>",
    "<bos>",
    "gMASK",
    "_PROMPT]",
    "<sop>",
    "think>",
)
contents = st.text(st.characters(exclude_categories=("Cs",)), max_size=60).filter(
    lambda text: not any(mark in text for mark in MARKS) and bool(text.strip())
)


@pytest.mark.parametrize("name", FAMILIES)
@given(st.lists(contents, min_size=2, max_size=4), st.booleans())
@settings(max_examples=60, deadline=None)
def test_any_contents_come_back(name: str, texts: list[str], has_system: bool) -> None:
    """But for the white space that a template trims, and that around a turn where the format has white space of its own."""
    texts = texts[: len(texts) // 2 * 2]
    turns = [Message("user" if at % 2 == 0 else "assistant", text) for at, text in enumerate(texts)]
    system = [Message("system", texts[0])] if has_system and FAMILIES[name].system else list(opened(name))
    if name in ("chatml", "qwen", "phi-4"):
        expected = [*system, *turns]
        assert list(conversation_of(render(name, *system, *turns)).messages) == expected
        return
    found = conversation_of(render(name, *system, *turns)).messages
    assert [(m.role, m.text.strip()) for m in found] == [(m.role, m.text.strip()) for m in [*system, *turns]]


@given(contents, st.sampled_from([end for family in FAMILIES.values() for end in family.ends]))
def test_a_response_is_the_same_with_its_end_and_without(text: str, end: str) -> None:
    """To the last character: a space before the end is the policy's."""
    assert without_end(text + end) == text
    assert without_end(text) == text


@given(contents)
def test_a_response_is_the_same_alone_and_behind_its_prompt(text: str) -> None:
    prompt = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    for end in ("", "<|im_end|>", "<|im_end|>\n"):
        assert conversation_of(prompt + text + end).messages[-1].text == without_end(text + end)


@given(
    st.lists(st.sampled_from(["<|im_start|>", "user\n", "assistant\n", "<|im_end|>", "\n", "<s>", "[INST]", "hi", "<|user|>"]))
)
def test_any_order_of_marks_is_messages_or_a_typed_error(parts: list[str]) -> None:
    try:
        messages = messages_of("".join(parts))
    except InvalidRequestError:
        return
    assert all(message.role in ("system", "developer", "user", "assistant", "tool") for message in messages)


# --- texts that are none ----------------------------------------------------------------------------------------------


@given(contents)
def test_text_without_marks_is_a_message_of_the_user_and_has_no_response(text: str) -> None:
    assert messages_of(text) == (Message("user", text),)
    with pytest.raises(NoResponseError, match="send messages"):
        conversation_of(text)


def test_a_prompt_alone_has_no_response() -> None:
    for name in FAMILIES:
        with pytest.raises(NoResponseError):
            conversation_of(render(name, USER, add_generation_prompt=True))


def test_text_that_belongs_to_no_turn_is_an_error() -> None:
    with pytest.raises(InvalidRequestError, match="before the first turn belongs to none, in the format of ChatML: 'Hello'"):
        messages_of("Hello<|im_start|>user\nhi<|im_end|>\n")
    for first in ("<|im_start|>user\n", "<start_of_turn>user\n", "<|user|>\n", "[INST] "):
        with pytest.raises(InvalidRequestError):
            messages_of(f"A part of something {first}hi")


def test_a_role_that_a_format_has_not_is_an_error() -> None:
    with pytest.raises(InvalidRequestError, match="a turn of 'robot', which the format of ChatML has not"):
        messages_of("<|im_start|>robot\nhi<|im_end|>\n")
    with pytest.raises(InvalidRequestError, match="a turn of 'tool', which the format of Gemma has not"):
        messages_of("<start_of_turn>tool\nhi<end_of_turn>\n")


@pytest.mark.parametrize("text", [" " * 50_000, "\n" * 50_000 + "x", "<|im_start|>user\nhi<|im_end|>\n" + " \n" * 25_000])
def test_a_policy_that_runs_wild_costs_no_more_than_its_length(text: str) -> None:
    started = time.monotonic()
    without_end(text)
    messages_of(text)
    assert time.monotonic() - started < 2
