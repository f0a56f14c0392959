"""An environment whose templates run on stand-ins for texts, which record what is done with them.

Filters, tests, calls and operators are let near a stand-in only where they are known to come down to what `tracing` records, or
to hand it on untouched. The others fail, and so does all that nobody thought of, for a stand-in is no string.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import jinja2
import jinja2.compiler
import jinja2.nodes
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from rm_grpc_server.text.tracing import TEXT_METHODS, Length, Parts, StandIn, Text, UntraceableError, concat

_CONSTANTS = (str, int, bool, float, type(None))
# What is asked of a stand-in for a string is answered as for a string.
_TESTS_OF_TEXT = {
    **dict.fromkeys(("string", "iterable", "sequence", "defined"), True),
    **dict.fromkeys(("undefined", "none", "mapping", "number", "integer", "float", "boolean", "true", "false"), False),
}
# These come down to comparisons, which are questions.
_TESTS_BY_COMPARISON = {"eq", "equalto", "==", "ne", "!=", "in"}
_FILTERS_OF_TEXT: dict[str, Callable[..., Any]] = {
    "trim": lambda text, *chars: text.apply("strip", *chars),
    "replace": lambda text, *arguments: text.apply("replace", *arguments),
    "upper": lambda text: text.apply("upper"),
    "lower": lambda text: text.apply("lower"),
    "string": lambda text: text,
    "length": lambda text: Length(text.trace, text.source),
}
_FILTERS_OF_TEXT["count"] = _FILTERS_OF_TEXT["length"]
_FILTERS_OF_PARTS: dict[str, Callable[..., Any]] = {
    "first": lambda parts: parts[0],
    "last": lambda parts: parts[-1],
    "length": lambda parts: Length(parts.trace, parts.source),
}
_FILTERS_OF_PARTS["count"] = _FILTERS_OF_PARTS["length"]
# They hand on what they are given, and look at it as templates do: by attributes, tests, truth and comparisons.
_FILTERS_OF_ANY = {"default", "d"}
_FILTERS_OF_CONTAINERS = {
    *("length", "count", "list", "first", "last", "reverse", "items"),
    *("select", "reject", "selectattr", "rejectattr", "map"),
}
_IMPURE_FILTERS = {"random"}
# Jinja's generated code hands its variables to every call, for functions that ask for the context.
_JINJAS_OWN = ("_loop_vars", "_block_vars")
_PURE_GLOBALS = ("range", "dict", "raise_exception", "strftime_now")


def _holds_texts(value: object) -> bool:
    """Whether a text may be reached from a value; what is not known may hold one."""
    if type(value) in _CONSTANTS or isinstance(value, jinja2.Undefined):
        return False
    if type(value) in (list, tuple):
        return any(map(_holds_texts, value))  # type: ignore[call-overload]
    if type(value) is dict:
        return any(map(_holds_texts, value.values()))
    return True


def _guarded_filter(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    # Jinja gives some filters its context, environment or evaluation context first; `wraps` keeps the mark that says so.
    skipped = int(hasattr(function, "jinja_pass_arg"))

    @functools.wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        value, *others = arguments[skipped:]
        own = {Text: _FILTERS_OF_TEXT, Parts: _FILTERS_OF_PARTS}.get(type(value), {})
        if name in own:
            return own[name](value, *others, **named)
        known = name in _FILTERS_OF_ANY or (name in _FILTERS_OF_CONTAINERS and not isinstance(value, StandIn))
        if name in _IMPURE_FILTERS or (not known and any(map(_holds_texts, (value, *others, *named.values())))):
            raise UntraceableError(f"the filter {name} is applied in a way that is not known")
        return function(*arguments, **named)

    return guarded


def _guarded_test(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    skipped = int(hasattr(function, "jinja_pass_arg"))

    @functools.wraps(function)
    def guarded(*arguments: Any, **named: Any) -> Any:
        value = arguments[skipped]
        if isinstance(value, Text) and name in _TESTS_OF_TEXT:
            return _TESTS_OF_TEXT[name]
        if name not in _TESTS_BY_COMPARISON and any(isinstance(one, StandIn) for one in (*arguments, *named.values())):
            raise UntraceableError(f"the test {name} is applied to a text")
        return function(*arguments, **named)

    return guarded


class _CodeGenerator(jinja2.compiler.CodeGenerator):
    def visit_Concat(self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame) -> None:  # noqa: N802 - jinja2's name
        """`~` by the environment's own `concat`; Jinja's is a function that cannot be replaced."""
        self.write("environment.concat((")
        for part in node.nodes:
            self.write("str(")
            self.visit(part, frame)
            self.write("), ")
        self.write("))")


class TracingEnvironment(ImmutableSandboxedEnvironment):
    """Compiles templates that run on stand-ins. To be guarded once its filters, tests and globals are set."""

    code_generator_class = _CodeGenerator
    intercepted_binops = frozenset(ImmutableSandboxedEnvironment.default_binop_table)
    concat = staticmethod(concat)  # type: ignore[assignment]

    def guard(self) -> None:
        """Lets filters, tests and globals near texts only where that is known to be recorded."""
        self.filters.update({name: _guarded_filter(name, one) for name, one in self.filters.items()})
        self.tests.update({name: _guarded_test(name, cast("Callable[..., Any]", one)) for name, one in self.tests.items()})
        self._pure = [self.globals[name] for name in _PURE_GLOBALS if name in self.globals]

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`+` of strings is recorded, and that of lists hands on what they hold; the rest is for constants."""
        if operator == "+" and {type(left), type(right)} in ({Text, str}, {Text}):
            return concat((left, right))
        lists = operator == "+" and type(left) is list and type(right) is list
        if not lists and (_holds_texts(left) or _holds_texts(right)):
            raise UntraceableError(f"the template computes {operator} with a text")
        return super().call_binop(context, operator, left, right)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Macros are templates; methods of texts are recorded; others must be pure, and get constants."""
        if isinstance(obj, (Macro, functools.partial)) or obj is Namespace:
            return super().call(context, obj, *args, **kwargs)
        pure = isinstance(getattr(obj, "__self__", None), (str, dict, list)) or any(obj is one for one in self._pure)
        if not pure or _holds_texts((*args, *(value for name, value in kwargs.items() if name not in _JINJAS_OWN))):
            raise UntraceableError(f"the template calls {type(obj).__name__} in a way that is not known")
        return super().call(context, obj, *args, **kwargs)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A text has the methods that are recorded."""
        if not isinstance(obj, StandIn):
            return super().getattr(obj, attribute)
        if not isinstance(obj, Text) or attribute not in TEXT_METHODS:
            raise UntraceableError(f"the template uses {attribute} of a text")
        return functools.partial(obj.apply, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Jinja falls back to other ways where an index does not fit, which a text must not fall into."""
        if isinstance(argument, StandIn):
            raise UntraceableError("the template looks a text up")
        return obj[argument] if isinstance(obj, StandIn) else super().getitem(obj, argument)
