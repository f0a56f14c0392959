"""Records what a chat template does with the texts of a conversation, without showing it the texts.

A template runs on stand-ins for texts (in a `TracingEnvironment`). A stand-in is no string: it knows the operations of this
module and fails on every other, so that whatever is not known to be recorded ends the recording. Two things are recorded: which
strings are made out of the texts (`strip`, `split`, ...: steps) and what is asked about them (`'</think>' in content`,
`if content`, ...: questions). All that a template sees of texts is the answers, and nothing else that it may reach changes from
one rendering to the next. So for conversations of one shape that give the same answers, a template makes the same steps, and
writes the same around what they give. A step is the `str` method itself, run on the real text: what texts hold is not assumed.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

Step: TypeAlias = "tuple[Callable[[Any], Any], int | None]"
"""A function and which value it takes; None for the list of all values so far."""

_QUESTIONS = {"startswith", "endswith"}
TEXT_METHODS = {
    *("strip", "lstrip", "rstrip", "replace", "removeprefix", "removesuffix", "upper", "lower", "split"),
    *_QUESTIONS,
}
"""Methods of `str` that depend on nothing but the string and their arguments."""

_MOST_PARTS = 8
_MISUSED = "the template takes a text for something else"
# Stands in the output for a text until the output is put together; anywhere else it is a stand-in that escaped.
_ESCAPED = "\U0010fffe"


class UntraceableError(Exception):
    """The template does something with a text that is not recorded here."""


@dataclass(frozen=True, slots=True)
class Question:
    """Steps, and then a question about one of the values, with its answer."""

    steps: tuple[Step, ...]
    ask: Callable[[Any], Any]
    source: int
    answer: Any


class Trace:
    """What one rendering did, in order.

    Args:
        texts: the texts of the conversation. They are the first values, each step makes one more.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.values: list[Any] = list(texts)
        self.steps: list[Step] = []
        self.questions: list[Question] = []
        self._known: dict[object, Any] = {}

    def make(self, name: object, function: Callable[[Any], Any], source: int | None) -> int:
        """The value that a step makes; the same step is made once."""
        key = ("make", name, source)
        if key not in self._known:
            made = function(self.values if source is None else self.values[source])
            self._known[key] = len(self.values)
            self.values.append(made)
            self.steps.append((function, source))
        return int(self._known[key])

    def ask(self, name: object, function: Callable[[Any], Any], source: int) -> Any:
        """The answer to a question; the same question is asked once."""
        key = ("ask", name, source)
        if key not in self._known:
            answer = self._known[key] = function(self.values[source])
            self.questions.append(Question(tuple(self.steps), function, source, answer))
            self.steps.clear()
        return self._known[key]


class StandIn:
    """What is no string and can do nothing. Arithmetic and order fail by not being defined."""

    __slots__ = ()

    def __getattr__(self, name: str) -> NoReturn:
        raise UntraceableError(f"the template uses {name} of a text")

    def __hash__(self) -> int:
        raise UntraceableError(_MISUSED)

    def __eq__(self, other: object) -> bool:
        raise UntraceableError(_MISUSED)

    def __bool__(self) -> bool:
        raise UntraceableError(_MISUSED)

    def __len__(self) -> int:
        raise UntraceableError(_MISUSED)

    def __iter__(self) -> Iterator[Any]:
        raise UntraceableError(_MISUSED)

    def __str__(self) -> str:
        raise UntraceableError(_MISUSED)

    def __repr__(self) -> str:
        raise UntraceableError(_MISUSED)

    def __format__(self, specification: str) -> str:
        raise UntraceableError(_MISUSED)

    def __getitem__(self, index: object) -> Any:
        raise UntraceableError(_MISUSED)


class Text(StandIn):
    """Stands for a string: constants, and values of the trace by their numbers."""

    __slots__ = ("atoms", "trace")
    __hash__ = StandIn.__hash__

    def __init__(self, trace: Trace, atoms: tuple[str | int, ...]) -> None:
        self.trace = trace
        self.atoms = atoms

    @property
    def source(self) -> int:
        """The value that is this string."""
        if len(self.atoms) == 1 and isinstance(self.atoms[0], int):
            return self.atoms[0]
        return self.trace.make(self.atoms, functools.partial(_joined, self.atoms), None)

    def apply(self, method: str, *arguments: object) -> Any:
        """A method of `str` with constants as arguments."""
        if not all(type(argument) in (str, int, type(None)) for argument in arguments):
            raise UntraceableError(f"{method} has arguments that are no constants")
        function = operator.methodcaller(method, *arguments)
        if method in _QUESTIONS:
            return self.trace.ask((method, arguments), function, self.source)
        made = self.trace.make((method, arguments), function, self.source)
        if method != "split":
            return Text(self.trace, (made,))
        return Parts(self.trace, made, at_least=1 if arguments and arguments[0] is not None else 0)

    def __str__(self) -> str:
        return _Shown(self)

    def __bool__(self) -> bool:
        return bool(self.trace.ask("bool", bool, self.source))

    def __contains__(self, part: object) -> bool:
        if type(part) is not str:
            raise UntraceableError("a text is searched for what is no constant")
        return bool(self.trace.ask(("in", part), _search(part), self.source))

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Text) and other.atoms == self.atoms:
            return True
        if isinstance(other, StandIn):
            raise UntraceableError("a text is compared with another")
        if not isinstance(other, str):
            return False
        return bool(self.trace.ask(("==", other), operator.methodcaller("__eq__", other), self.source))

    def __getitem__(self, index: object) -> Text:
        if not isinstance(index, slice) or not all(type(end) in (int, type(None)) for end in _ends(index)):
            raise UntraceableError("a text is indexed")
        return Text(self.trace, (self.trace.make(("slice", _ends(index)), operator.itemgetter(index), self.source),))


class Parts(StandIn):
    """Stands for what `split` gives. Whether there is such a part is asked before one is taken, unless it is sure."""

    __slots__ = ("at_least", "source", "trace")

    def __init__(self, trace: Trace, source: int, *, at_least: int) -> None:
        self.trace = trace
        self.source = source
        self.at_least = at_least

    def __getitem__(self, index: object) -> Text:
        if type(index) is not int:
            raise UntraceableError("parts of a text are indexed by what is no number")
        enough = index + 1 if index >= 0 else -index
        asked = enough > self.at_least
        if asked and not self.trace.ask(("parts", enough), lambda parts: len(parts) >= enough, self.source):
            raise UntraceableError("a text has fewer parts than are taken")
        return Text(self.trace, (self.trace.make(("part", index), operator.itemgetter(index), self.source),))

    def __iter__(self) -> Iterator[Text]:
        count = self.trace.ask("count", len, self.source)
        if count > _MOST_PARTS:
            raise UntraceableError("a text has many parts, and the template goes over all")
        return map(self.__getitem__, range(count))


class Length(StandIn):
    """Stands for a length, which may be compared with constants."""

    __slots__ = ("source", "trace")
    __hash__ = StandIn.__hash__

    def __init__(self, trace: Trace, source: int) -> None:
        self.trace = trace
        self.source = source

    def _compare(self, comparison: Callable[[Any, Any], bool], other: object) -> bool:
        if type(other) is not int:
            raise UntraceableError("a length is compared with what is no constant")
        name = ("length", comparison.__name__, other)
        return bool(self.trace.ask(name, lambda value: comparison(len(value), other), self.source))

    def __bool__(self) -> bool:
        return self._compare(operator.ne, 0)

    def __eq__(self, other: object) -> bool:
        return self._compare(operator.eq, other)

    def __lt__(self, other: object) -> bool:
        return self._compare(operator.lt, other)

    def __le__(self, other: object) -> bool:
        return self._compare(operator.le, other)

    def __gt__(self, other: object) -> bool:
        return self._compare(operator.gt, other)

    def __ge__(self, other: object) -> bool:
        return self._compare(operator.ge, other)


class _Shown(str):
    """How a text stands among the pieces of an output: `str()` must give a string."""

    __slots__ = ("text",)
    text: Text

    def __new__(cls, text: Text) -> _Shown:
        shown = super().__new__(cls, _ESCAPED)
        shown.text = text
        return shown


def alternating(result: str | Text) -> tuple[list[str], list[int]]:
    """An output as constants, and the values that stand between each two of them."""
    constants, values = [""], []
    for atom in (result,) if isinstance(result, str) else result.atoms:
        if isinstance(atom, int):
            values.append(atom)
            constants.append("")
        else:
            constants[-1] += atom
    if any(_ESCAPED in constant for constant in constants):
        raise UntraceableError("the template makes a string of a text in a way that is not recorded")
    return constants, values


def _search(part: str) -> Callable[[str], bool]:
    # One character is found by memchr, thirty times as fast as several, and most texts lack it.
    first = part[:1]
    return lambda text: first in text and part in text


def _joined(atoms: tuple[str | int, ...], values: Sequence[Any]) -> str:
    return "".join([values[atom] if isinstance(atom, int) else atom for atom in atoms])


def _ends(index: slice) -> tuple[Any, Any, Any]:
    return index.start, index.stop, index.step


def concat(pieces: Iterable[Any]) -> str | Text:
    """`"".join` for what may be texts."""
    atoms: list[str | int] = []
    trace = None
    for piece in pieces:
        if isinstance(piece, _Shown):
            piece = piece.text
        if isinstance(piece, Text):
            trace = piece.trace
            atoms += piece.atoms
        elif piece:
            atoms.append(piece)
    return "".join(map(str, atoms)) if trace is None else Text(trace, tuple(atoms))
