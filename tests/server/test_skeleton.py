"""What skeletons render is what Jinja renders, and they render what is common."""

from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services.checkpoints import DEFAULTS

from rm_grpc.errors import RewardError, TemplateRefusedError
from rm_grpc.types import Conversation, Message, ToolCall
from rm_grpc_server.text import skeleton
from rm_grpc_server.text.template import ChatTemplate
from rm_grpc_server.text.tokenizer import TokenizerFiles

VARIABLES = {"bos_token": "<s>", "eos_token": "</s>", "names": ["a", "b"]}
# The variants for training differ from these by their marks around what is learned.
PUBLIC = {
    path.name.removesuffix(".jinja"): path
    for path in (files("trl") / "chat_templates").iterdir()
    if path.name.endswith(".jinja") and not path.name.endswith("_training.jinja")
}

# Each does something of its own with content; those of the second table are not to have skeletons where it is done.
RECORDED = {
    "concatenated": "{% for m in messages %}{{ '[' ~ m.role ~ ']' ~ m.content ~ '!' }}{% endfor %}",
    "trimmed": "{% for m in messages %}{{ m.content | trim }}{{ m.content.strip('x') }}{{ m.content.lstrip() }}|{% endfor %}",
    "searched": "{% for m in messages %}{{ 'ab' in m.content }}{{ 'a' in m.content }}{{ 'abab' not in m.content }}{% endfor %}",
    "sliced": "{% for m in messages %}{{ m.content[1:] }}|{{ m.content[:-2] }}|{{ m.content[::-1] }}{% endfor %}",
    "split": "{% for m in messages %}{{ m.content.split('ab')[0] }}|{{ m.content.split('ab')[-1] }}|"
    "{% if 'ab' in m.content %}{{ m.content.split('ab', 1)[1] }}{% endif %}{% endfor %}",
    "words": "{% for m in messages %}{{ m.content.split() | first }}{{ m.content.split() | length > 2 }}{% endfor %}",
    "parts": "{% for m in messages %}{% for p in m.content.split('ab') %}{{ loop.index }}{{ p }}{% endfor %}{% endfor %}",
    "macro": "{% macro f(x) %} {{ x }} {% endmacro %}{% for m in messages %}{{ f(m.content) | trim }}{{ f('a') }}{% endfor %}",
    "blocks": "{% for m in messages %}{% set c %}<{{ m.content }}>{% endset %}{% if c.endswith('ab>') %}!{% endif %}"
    "{% filter upper %}{{ c }}{% endfilter %}{% endfor %}",
    "compared": "{% for m in messages %}{% if m.content == 'ab' or m.content in ['x', ''] %}{{ m.role }}{% endif %}"
    "{{ m.content if m.content is string and m.content is not none else 'none' }}{% endfor %}",
    "lengths": "{% for m in messages %}{{ 'long' if m.content | length > 5 }}"
    "{{ 0 < m.content | trim | length <= 2 }}{% endfor %}",
    "selected": "{% for m in messages | selectattr('role', 'equalto', 'user') %}{{ m.content }}{% endfor %}"
    "{{ (messages | map(attribute='content') | list)[0] }}{{ messages | selectattr('content') | list | length }}",
    "namespaces": "{% set ns = namespace(all='', n=0) %}{% for m in messages %}{% set ns.all = ns.all + m.content %}"
    "{% if m.content.startswith('ab') %}{% set ns.n = ns.n + 1 %}{% endif %}{% endfor %}"
    "{{ ns.n }}{{ ns.all.replace('ab', 'x') }}",
    "defaults": "{% for m in messages %}{{ m.content or 'nothing' }}{{ m.thinking | default('-') }}"
    "{{ m.content | default('empty', true) }}{{ m.get('reasoning_content', '') | upper }}{% endfor %}",
    "itself": "{% set first = messages[0].content %}{{ first == messages[0]['content'] }}{{ first }}{{ names | join(',') }}",
}
BY_JINJA = {
    "json": "{% for m in messages %}{{ m.content | tojson }}{% endfor %}",
    "whole": "{{ messages | tojson }}",
    "shown": "{{ messages[0] }}",
    "formatted": "{% for m in messages %}{{ '%s' % m.content }}{{ '{}'.format(m.content) }}{% endfor %}",
    "formatted length": "{{ ('%s' % messages[0].content) | length > 5 }}",
    "formatted list": "{{ '%s' % [messages[0].content] }}",
    "joined": "{{ messages | map(attribute='content') | join('-') }}",
    "joined by string": "{{ '-'.join([messages[0].content]) }}",
    "characters": "{% for c in messages[0].content %}{{ c }}.{% endfor %}",
    "first character": "{{ messages[0].content[0] }}",
    "escaped": "{% for m in messages %}{{ m.content | e }}{% endfor %}",
    "autoescape": "{% autoescape true %}{{ messages[0].content }}{% endautoescape %}",
    "compared": "{{ messages[0].content == messages[-1].content }}",
    "contained": "{{ messages[0].content in 'an abstract' }}{{ messages[0].content in messages[-1].content }}",
    "length": "{{ messages[0].content | length }}",
    "times": "{{ messages[0].content * 2 }}",
    "key": "{{ {'ab': 1}[messages[0].content] }}",
    "key of dict": "{{ messages[0].content in {'ab': 1} }}",
    "attribute": "{{ messages[0].content.nothing }}|{{ messages[0].content['nothing'] }}",
    "title": "{{ messages[0].content | title }}{{ messages[0].content.title() }}",
    "lower": "{{ messages[0].content is lower }}",
    "sorted": "{{ messages | sort(attribute='content') | map(attribute='role') | list }}",
    "cycled": "{% for m in messages %}{{ loop.cycle(m.content, 'x') }}{% endfor %}",
    "random": "{{ ['a', 'a'] | random }}",
    "lipsum": "{{ lipsum(n=0) }}",
}

LOADED = ["qwen3", "qwen3_5_think", "deepseek_r1_distill", "llama3_1", "gemma3", "gptoss", "phi3", "nemotron_3_nano", "glm4moe"]


class Counting(ChatTemplate):
    """Counts what Jinja rendered."""

    count = 0

    def _by_jinja(self, conversation: Conversation, generation_prompt: bool) -> str:
        self.count += 1
        return super()._by_jinja(conversation, generation_prompt)


def counting(source: str, **arguments: Any) -> Counting:
    return Counting(source, VARIABLES, date_string="26 Jul 2024", **arguments)


@cache
def public(name: str) -> Counting:
    return counting(PUBLIC[name].read_text(encoding="utf-8"))


def outcome(render: Any, *arguments: object) -> tuple[str, str]:
    try:
        return "text", render(*arguments)
    except RewardError as error:
        return type(error).__name__, str(error)


def assert_equal_jinja(template: Counting, conversation: Conversation) -> None:
    """Twice, since the first may be Jinja's own."""
    expected = outcome(ChatTemplate._by_jinja, template, conversation, False)
    for _ in range(2):
        assert outcome(template.render, conversation) == expected


def chat(*contents: str, system: str | None = "Be brief.") -> Conversation:
    """Turns that begin with the user's."""
    turns = [Message(("user", "assistant")[at % 2], content) for at, content in enumerate(contents)]
    return Conversation((*([] if system is None else [Message("system", system)]), *turns))


# --- contents -----------------------------------------------------------------------------------------------------------

_SPACES = ["", " ", "\n", "\n\n", "\t", "\r\n", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u200b"]
_PIECES = [
    "ab",
    "a",
    "abab",
    "x",
    "Straße ",
    "日本語",
    "🙂",
    "\ue000",
    "\U0010fffe",
    "\U0010fdd0",
    "{{ x }}",
    "{% raw %}",
    "'\"\\",
    "<&>",
]
_THINK = ["</think>", "<think>", "<think>\n", "\n</think>\n\n", "</think></think>", "</thi", "nk>", "<tool_response>"]


def constants(source: str) -> list[str]:
    """What the template writes and asks for, whole, cut and doubled."""
    kept = sorted({one for pair in re.findall(r"'([^'\n]{1,40})'|\"([^\"\n]{1,40})\"", source) for one in pair if one})
    return [piece for one in kept for piece in (one, one[: len(one) // 2], one[len(one) // 2 :], one * 2)]


def texts(source: str) -> st.SearchStrategy[str]:
    pieces = st.sampled_from([*_SPACES, *_PIECES, *_THINK, *constants(source)])
    return st.lists(pieces | st.text(max_size=4), max_size=6).map("".join)


def conversations(source: str) -> st.SearchStrategy[Conversation]:
    text = texts(source)
    turns = st.lists(text, min_size=1, max_size=5)
    usual = st.builds(lambda contents, system: chat(*contents, system=system), turns, st.none() | text)
    roles = st.sampled_from(["system", "user", "assistant", "tool", "developer"])
    content = text | st.tuples(text, text)
    message = st.builds(Message, role=roles, content=content, reasoning_content=st.just("") | text)
    return usual | st.lists(message, min_size=1, max_size=4).map(lambda messages: Conversation(tuple(messages)))


_FEW = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_public_templates_render_as_by_jinja(name: str) -> None:
    @_FEW
    @given(conversations(public(name).source))
    def check(conversation: Conversation) -> None:
        assert_equal_jinja(public(name), conversation)

    check()


@pytest.mark.parametrize(
    "source", [*RECORDED.values(), *BY_JINJA.values()], ids=[*RECORDED, *(f"not {name}" for name in BY_JINJA)]
)
@pytest.mark.parametrize("content", ["text", "parts"])
def test_any_template_renders_as_by_jinja(source: str, content: Any) -> None:
    template = counting(source, content=content)

    @settings(_FEW, max_examples=40)
    @given(conversations(source))
    def check(conversation: Conversation) -> None:
        assert_equal_jinja(template, conversation)

    check()


@pytest.mark.parametrize("name", ["arithmetic-classifier", "arithmetic-logit"])
def test_embedded_models_have_skeletons(name: str) -> None:
    tokenizer = TokenizerFiles(DEFAULTS / name)
    template = Counting(tokenizer.chat_template, tokenizer.special_tokens)
    for number in range(5):
        assert_equal_jinja(template, chat(f"{number}+1?", f" {number + 1} "))
    assert template.count == 1


# --- what is rendered by skeletons ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", RECORDED.values(), ids=RECORDED)
def test_known_operations_are_recorded(source: str) -> None:
    template = counting(source)
    for content in ("one ab two", "four ab five"):
        assert_equal_jinja(template, chat(content, content, system=None))
    assert template.count == 1


@pytest.mark.parametrize("source", BY_JINJA.values(), ids=BY_JINJA)
def test_unknown_operations_are_not_recorded(source: str) -> None:
    template = counting(source)
    for content in ("one ab two", "four ab five"):
        assert_equal_jinja(template, chat(content, content, system=None))
    assert template.count == 4


@pytest.mark.parametrize("name", LOADED)
def test_rollouts_are_rendered_by_skeletons(name: str) -> None:
    template = counting(PUBLIC[name].read_text(encoding="utf-8"))
    plain = [chat(f"Question {at}?", f"Answer {at}.") for at in range(50)]
    reasoning = [
        chat(f" What is {at}?\n", f"<think>\n{at}, hm{end}</think>{end}{at} it is.{end}")
        for at in range(50)
        for end in ("", " ", "\n", "\n\n")
    ]
    for conversation in plain + reasoning:
        assert_equal_jinja(template, conversation)
    assert template.count <= 4  # a path for each kind, and some templates ask whether there is a newline


def test_reasoning_content_has_its_own_skeletons() -> None:
    template = counting(PUBLIC["qwen3"].read_text(encoding="utf-8"))
    for at in range(9):
        answer = Message("assistant", f"{at}", reasoning_content=f"\nhm {at}\n" if at % 2 else "")
        assert_equal_jinja(template, Conversation((Message("user", "?"), answer)))
    assert template.count == 2


def test_pieces_alternate_between_the_template_and_content() -> None:
    template = counting("{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ m.content }}{% endfor %}.")
    conversation = chat(" a ", "b", system=None)
    assert template._skeletons.pieces(conversation, False) == ["", "[user]a a [assistant]bb."]
    assert template._skeletons.pieces(conversation, False) == ["[user]", "a", "", " a ", "[assistant]", "b", "", "b", "."]


# --- what is not ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conversation",
    [
        Conversation((Message("user", "hi", name="bob"),)),
        Conversation((Message("assistant", "", tool_calls=(ToolCall("f", "{}", "1"),)),)),
        Conversation((Message("tool", "rain", tool_call_id="1"),)),
        Conversation((Message("user", "hi"),), tools="[]"),
        Conversation((Message("user", "hi"),) * 65),
    ],
    ids=["name", "tool call", "tool call id", "tools", "many"],
)
def test_more_than_texts_is_rendered_by_jinja(conversation: Conversation) -> None:
    template = counting("{% for m in messages %}{{ m.content }}{{ m.name }}{{ m.tool_calls }}{{ tools }}{% endfor %}")
    assert_equal_jinja(template, conversation)
    assert template.count == 2


def test_the_date_is_the_pinned_one() -> None:
    source = "{{ strftime_now('%Y-%m-%d') }}{{ messages[0].content }}"
    for date in ("26 Jul 2024", "2 Jan 2025"):
        template = ChatTemplate(source, {}, date_string=date)
        assert len({template.render(chat("a", system=None)) for _ in range(3)}) == 1
    assert template.render(chat("b", system=None)) == "2025-01-02b"


def test_errors_are_jinjas() -> None:
    template = counting("{% for m in messages %}{% if 'bad' in m.content %}{{ raise_exception('no') }}{% endif %}{% endfor %}")
    for content, refused in (("good", False), ("bad", True), ("fine", False), ("bad", True)):
        if refused:
            with pytest.raises(TemplateRefusedError, match="refuses: no"):
                template.render(chat(content))
        else:
            assert template.render(chat(content)) == ""
    assert template.count == 3


def test_a_wrong_recording_ends_skeletons(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(skeleton, "alternating", lambda _: (["wrong", ""], [0]))
    template = counting("{{ messages[0].content }}")
    for content in ("a", "b", "c"):
        assert template.render(chat(content, system=None)) == content
    assert template.count == 3
    assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 1


def test_the_number_of_skeletons_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(skeleton, "_MOST_SKELETONS", 8)
    template = counting("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}")
    for at in range(100):
        assert_equal_jinja(template, Conversation((Message(f"role {at}", "x"),)))
    assert len(template._skeletons._roots) <= 8


def test_threads_share_skeletons() -> None:
    template = counting(PUBLIC["qwen3"].read_text(encoding="utf-8"))
    many = [
        chat(*(f"{'<think>' * (at % 2)}{at}{'</think>' * (at >> turn & 1)} so" for turn in range(at % 5 + 1)))
        for at in range(400)
    ]
    expected = [ChatTemplate._by_jinja(template, one, False) for one in many]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(template.render, many)) == expected
