"""Renders chat templates as Transformers does, without torch and without today's date.

The environment has the globals, filters and extensions that `transformers.utils.chat_template_utils` gives to templates; the
tests hold the two against each other on real templates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, TypeVar

import jinja2
import jinja2.ext
import jinja2.meta
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from rm_grpc.errors import TemplateRefusedError
from rm_grpc.types import Conversation, Message, ToolCall
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.text.skeleton import Skeletons
from rm_grpc_server.text.tracing_environment import TracingEnvironment

_Environment = TypeVar("_Environment", bound=ImmutableSandboxedEnvironment)

_RESERVED = {"messages", "tools", "documents", "add_generation_prompt"}
_DATE_FORMATS = ("%d %b %Y", "%d %B %Y", "%Y-%m-%d")


class ChatTemplate:
    """A compiled chat template with its fixed arguments. Rendering is pure and safe from several threads.

    Args:
        source: the Jinja template.
        variables: what every rendering sees: special tokens and the model's template arguments.
        date_string: the date that the template prints, if it prints one.
        add_generation_prompt: whether the text ends with the opening of another assistant message.
        content: what a message's content is to the template: text, or a list of text parts.
        tool_arguments: what a tool call's arguments are to the template: an object, or JSON text.

    Raises:
        ConfigError: the template does not compile, prints today's date while `date_string` is not given, or a variable has a
            reserved name.
    """

    def __init__(
        self,
        source: str,
        variables: Mapping[str, Any],
        *,
        date_string: str | None = None,
        add_generation_prompt: bool = False,
        content: Literal["text", "parts"] = "text",
        tool_arguments: Literal["object", "text"] = "object",
    ) -> None:
        if reserved := sorted(_RESERVED & set(variables)):
            raise ConfigError(
                f"text.template_kwargs: {', '.join(reserved)} cannot be given here; each has its own setting or source"
            )
        environment = _environment(ImmutableSandboxedEnvironment, date_string)
        try:
            names = jinja2.meta.find_undeclared_variables(environment.parse(source))
            self._template = environment.from_string(source)
        except jinja2.TemplateError as error:
            raise ConfigError(f"the chat template does not compile: {error}") from error
        if "strftime_now" in names and date_string is None:
            raise ConfigError(
                "the chat template prints today's date, so that scores would change with the calendar: "
                "set text.date_string, for example to '26 Jul 2024'"
            )
        self.source = source
        self._content = content
        self._tool_arguments = tool_arguments
        self._variables = dict(variables)
        if date_string is not None:
            self._variables["date_string"] = date_string
        self._add_generation_prompt = add_generation_prompt
        self._skeletons = Skeletons(
            by_jinja=self._by_jinja,
            arguments=self._arguments,
            compiled=lambda: _tracing_environment(date_string).from_string(source),
            parts=content == "parts",
        )

    def render(self, conversation: Conversation, *, generation_prompt: bool | None = None) -> str:
        """The text of a conversation.

        Args:
            generation_prompt: whether it ends with the opening of another assistant message; None as the settings say.

        Raises:
            TemplateRefusedError: the template raised, or cannot handle these messages.
        """
        opens = self._add_generation_prompt if generation_prompt is None else generation_prompt
        return "".join(self._skeletons.pieces(conversation, opens))

    def _by_jinja(self, conversation: Conversation, generation_prompt: bool) -> str:
        try:
            return self._template.render(self._arguments(conversation, generation_prompt))
        except jinja2.TemplateError as error:
            raise TemplateRefusedError(f"the chat template refuses: {error}", field="conversation.messages") from error
        except (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, RecursionError) as error:
            # Raised by the template's own expressions, on messages of a shape that it does not expect.
            raise TemplateRefusedError(f"the chat template fails: {error}", field="conversation.messages") from error

    def _arguments(self, conversation: Conversation, generation_prompt: bool) -> dict[str, Any]:
        return {
            **self._variables,
            "messages": [self._message(message) for message in conversation.messages],
            "tools": json.loads(conversation.tools) if conversation.tools else None,
            "documents": None,
            "add_generation_prompt": generation_prompt,
        }

    def _message(self, message: Message) -> dict[str, Any]:
        parts = (message.content,) if isinstance(message.content, str) else message.content
        content = message.text if self._content == "text" else [{"type": "text", "text": part} for part in parts]
        rendered: dict[str, Any] = {"role": message.role, "content": content}
        if message.name:
            rendered["name"] = message.name
        if message.reasoning_content:
            # gpt-oss templates read it as thinking.
            rendered |= {"reasoning_content": message.reasoning_content, "thinking": message.reasoning_content}
        if message.tool_call_id:
            rendered["tool_call_id"] = message.tool_call_id
        if message.tool_calls:
            rendered["tool_calls"] = [self._tool_call(call) for call in message.tool_calls]
        return rendered

    def _tool_call(self, call: ToolCall) -> dict[str, Any]:
        arguments = call.arguments if self._tool_arguments == "text" else _parsed(call.arguments)
        rendered: dict[str, Any] = {"type": "function", "function": {"name": call.name, "arguments": arguments}}
        return {"id": call.id, **rendered} if call.id else rendered


def _parsed(text: str) -> Any:
    """Most templates print arguments with `tojson`, so that JSON text must reach them as what it tells of."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, (dict, list)) else text


def _environment(kind: type[_Environment], date_string: str | None) -> _Environment:
    environment = kind(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols])
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    if date_string is not None:
        environment.globals["strftime_now"] = _PinnedDate(date_string)
    return environment


def _tracing_environment(date_string: str | None) -> TracingEnvironment:
    environment = _environment(TracingEnvironment, date_string)
    environment.guard()
    return environment


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks assistant text for training; a score needs the text alone."""

    tags = {"generation"}  # noqa: RUF012 - the name and type that jinja2 declares

    def parse(self, parser: jinja2.parser.Parser) -> jinja2.nodes.Node:
        line = next(parser.stream).lineno
        return jinja2.nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


class _PinnedDate:
    def __init__(self, date_string: str) -> None:
        self._text = date_string
        self._date: datetime | None = None
        for pattern in _DATE_FORMATS:
            try:
                self._date = datetime.strptime(date_string, pattern)
            except ValueError:
                continue
            break

    def __call__(self, pattern: str) -> str:
        if self._date is None:
            raise jinja2.TemplateError(
                f"the template prints the date as {pattern!r}, and text.date_string {self._text!r} is no date; "
                "write it like '26 Jul 2024' or '2024-07-26'"
            )
        return self._date.strftime(pattern)


def _raise_exception(message: str) -> None:
    raise jinja2.TemplateError(message)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
