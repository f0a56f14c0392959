"""Whether a line of output is what a case expects.

An expected object may have fewer keys than the line has. Numbers are the same where they are the same float32, so that -0.0 is
not 0.0. The YAML tags that stand for values: `!any`, `!absent`, `!has TEXT` (text with that in it), `!above NUMBER`, and `!json
VALUE` (text that is that value as JSON).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from conformance.failures import CaseFailedError


@dataclass(frozen=True, slots=True)
class Tag:
    """A value that is not written down, by what is known of it."""

    kind: str
    value: Any = None


class CaseLoader(yaml.SafeLoader):
    """YAML with the tags of the cases."""


def _construct(loader: CaseLoader, suffix: str, node: yaml.Node) -> Tag:
    value: Any
    if isinstance(node, yaml.MappingNode):
        value = loader.construct_mapping(node, deep=True)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = yaml.safe_load(node.value) if suffix == "above" else node.value
    if suffix not in ("any", "absent", "has", "above", "json"):
        raise ValueError(f"no such tag: !{suffix}")
    return Tag(suffix, value)


CaseLoader.add_multi_constructor("!", _construct)


def read_line(line: bytes) -> dict[str, Any]:
    """A line of output.

    Raises:
        CaseFailedError: it is no JSON object.
    """
    try:
        value = json.loads(line.decode(), parse_int=_integer, parse_constant=_refuse)
    except ValueError as error:
        raise CaseFailedError(f"a line of output is no JSON ({error}): {line[:300]!r}") from error
    if not isinstance(value, dict):
        raise CaseFailedError(f"a line of output is no object: {line[:300]!r}")
    return value


def _integer(text: str) -> int | float:
    return -0.0 if text == "-0" else int(text)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON value")


def difference(expected: Any, actual: Any, where: str = "line") -> str:
    """What is not as expected; empty where all is."""
    if isinstance(expected, Tag):
        return _tag_difference(expected, actual, where)
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            return f"{where} is {_short(actual)}, and an object is expected"
        differences = (difference(value, actual.get(key, ABSENT), f"{where}.{key}") for key, value in expected.items())
        return next(filter(None, differences), "")
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return f"{where} is {_short(actual)}, and {len(expected)} values are expected"
        pairs = enumerate(zip(expected, actual, strict=True))
        return next(filter(None, (difference(one, other, f"{where}[{at}]") for at, (one, other) in pairs)), "")
    same = _same_number(expected, actual) if _is_number(expected) and _is_number(actual) else _same(expected, actual)
    return "" if same else f"{where} is {_short(actual)}, and {_short(expected)} is expected"


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT = _Absent()


def _tag_difference(tag: Tag, actual: Any, where: str) -> str:
    if tag.kind == "absent":
        return "" if actual is ABSENT else f"{where} is {_short(actual)}, and should be absent"
    if actual is ABSENT:
        return f"{where} is absent"
    if tag.kind == "has" and tag.value not in str(actual):
        return f"{where} is {_short(actual)}, and does not hold {tag.value!r}"
    if tag.kind == "above" and not (_is_number(actual) and actual > tag.value):
        return f"{where} is {_short(actual)}, and should be above {tag.value}"
    if tag.kind == "json":
        try:
            return difference(tag.value, json.loads(actual), where)
        except (TypeError, ValueError):
            return f"{where} is {_short(actual)}, which is no JSON"
    return ""


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _same_number(one: float, other: float) -> bool:
    try:
        return struct.pack("<f", one) == struct.pack("<f", other)
    except OverflowError:
        return False


def _same(expected: Any, actual: Any) -> bool:
    return isinstance(expected, bool) == isinstance(actual, bool) and bool(expected == actual)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:300]}..."
