#!/usr/bin/env python3
"""Writes `unicode_tables.h`, asking Hugging Face `tokenizers` about every code point.

The native encoder has to give the ids of `tokenizers`, whose tables are of several Unicode versions at once:
its regular expressions are newer than its normalizers, and both differ from Python's `unicodedata`. So
nothing here comes from a Unicode file or from Python: each entry is an answer of the library.

    python make_unicode_tables.py            write the header
    python make_unicode_tables.py --check    exit 1 where the committed header differs
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path

from tokenizers import Regex, normalizers

HEADER = Path(__file__).resolve().parent.parent / "src" / "unicode_tables.h"
CODE_POINTS = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
BATCH = 4096
PAGE = 128
WIDTH = 110
KINDS = {"std::uint8_t": 0x100, "std::uint16_t": 0x10000, "char32_t": 0x110000}

# In the order of the header's `enum class Class`, from 1; what nothing matches is `other`, 0.
CLASSES = {
    "upper": r"\p{Lu}",
    "lower": r"\p{Ll}",
    "title": r"\p{Lt}",
    "modifier": r"\p{Lm}",
    "letter": r"\p{Lo}",
    "mark": r"\p{M}",
    "number": r"\p{N}",
    "punctuation": r"\p{P}",
    "symbol": r"\p{S}",
    "space": r"[^\S\r\n]",
    "newline": r"[\r\n]",
}

CHANGES, SECOND, OPEN = 0x40, 0x80, 0x100
L_JAMO, V_JAMO, T_JAMO = range(0x1100, 0x1113), range(0x1161, 0x1176), range(0x11A8, 0x11C3)
SYLLABLES = range(0xAC00, 0xD7A4)

TEMPLATE = """\
// Written by tools/make_unicode_tables.py from the answers of tokenizers @VERSION@. Do not edit.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace rm_grpc::unicode {

inline constexpr std::string_view kTablesVersion = "tokenizers @VERSION@";

enum class Class : std::uint8_t {
    other,
    upper,  // Lu
    lower,  // Ll
    title,  // Lt
    modifier,  // Lm
    letter,  // Lo
    mark,  // M
    number,  // N
    punctuation,  // P
    symbol,  // S
    space,  // \\s but for the two of newline
    newline,  // \\r and \\n
};

// Traits of a code point under NFC: its combining class in the low bits, as a rank, and these.
inline constexpr std::uint16_t kOrderMask = 0x3F;
inline constexpr std::uint16_t kChanges = 0x40;  // standing alone, it is not NFC
inline constexpr std::uint16_t kSecond = 0x80;   // may compose with what precedes it
inline constexpr std::uint16_t kOpen = 0x100;    // may compose with what follows it, or decomposes

@TABLES@
constexpr Class class_of(char32_t code) noexcept {
    if (code >= 0x110000) return Class::other;
    return static_cast<Class>(class_rows[class_pages[code / 128] * 128u + code % 128]);
}

constexpr std::uint16_t traits_of(char32_t code) noexcept {
    if (code >= 0x110000) return 0;
    return trait_rows[trait_pages[code / 128] * 128u + code % 128];
}

// Whether text may be cut before it: whatever precedes it, it stands as it is; what follows may change it.
constexpr bool nfc_inert(char32_t code) noexcept {
    return (traits_of(code) & (kOrderMask | kChanges | kSecond)) == 0;
}

}  // namespace rm_grpc::unicode
"""


class OracleError(Exception):
    """The library answers in a way that the encoder's design rules out."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise OracleError(what)


def matching(pattern: str) -> set[int]:
    remove = normalizers.Replace(Regex(pattern), "")
    found: set[int] = set()
    for start in range(0, len(CODE_POINTS), BATCH):
        part = CODE_POINTS[start : start + BATCH]
        found.update(set(part) - {ord(left) for left in remove.normalize_str("".join(map(chr, part)))})
    return found


def classes() -> list[int]:
    table = [0] * 0x110000
    members = {name: matching(pattern) for name, pattern in CLASSES.items()}
    for number, (name, found) in enumerate(members.items(), start=1):
        for code in found:
            require(table[code] == 0, f"U+{code:04X} is {name} and something else too")
            table[code] = number
    letters = set().union(*(members[name] for name in ("upper", "lower", "title", "modifier", "letter")))
    require(letters == matching(r"\p{L}"), r"\p{L} is not Lu, Ll, Lt, Lm and Lo")
    require(members["space"] | members["newline"] == matching(r"\s"), r"\s is not space and newline")
    known = letters | members["space"] | members["newline"] | members["number"]
    rest = matching(r"[^\s\p{L}\p{N}]")
    require(set(CODE_POINTS) - known == rest, r"[^\s\p{L}\p{N}] is not what the classes leave")
    return table


def asked(normalize: Callable[[str], str], texts: Iterable[str]) -> Iterator[str]:
    """Answers to many short texts at once; a line feed between two keeps them apart."""
    texts = list(texts)
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        answers = normalize("\n".join(part)).split("\n")
        require(len(answers) == len(part), "a line feed does not keep texts apart")
        yield from answers


@dataclass
class Normalization:
    traits: list[int]
    decompositions: dict[int, str]
    compositions: dict[tuple[int, int], int]


def orders(decompose: Callable[[str], str], plain: list[str]) -> dict[str, int]:
    """Combining classes as dense ranks from 1: only their order shows in who passes whom, or matters."""
    # U+0334 is of the lowest class, U+0345 of the highest: each mark passes the one or lets the other pass.
    lowest, highest = "\u0334", "\u0345"
    passing = asked(decompose, [mark + lowest for mark in plain])
    passed = asked(decompose, [highest + mark for mark in plain])
    beside = zip(plain, passing, passed, strict=True)
    marks = [mark for mark, over, under in beside if over != mark + lowest or under != highest + mark]
    pairs = list(product(marks, marks))
    answers = zip(pairs, asked(decompose, map("".join, pairs)), strict=True)
    swapped = [answer != a + b for (a, b), answer in answers]
    lower = dict.fromkeys(marks, 0)
    for (a, _), passes in zip(pairs, swapped, strict=True):
        lower[a] += passes
    rank = {count: number for number, count in enumerate(sorted(set(lower.values())), start=1)}
    order = {mark: rank[count] for mark, count in lower.items()}
    for (a, b), passes in zip(pairs, swapped, strict=True):
        require(passes == (order[a] > order[b]), f"U+{ord(a):04X} and U+{ord(b):04X} are of no fixed order")
    require(max(order.values()) < CHANGES, "more combining classes than six bits hold")
    return order


def check_hangul(decomposed: dict[str, str], compose: Callable[[str], str]) -> None:
    expected = {}
    for (lead, vowel), lv in zip(product(L_JAMO, V_JAMO), SYLLABLES[::28], strict=True):
        expected[chr(lead) + chr(vowel)] = chr(lv)
        require(decomposed[chr(lv)] == chr(lead) + chr(vowel), f"U+{lv:04X} does not decompose by arithmetic")
        for tail, lvt in zip(T_JAMO, range(lv + 1, lv + 28), strict=True):
            require(decomposed[chr(lvt)] == chr(lead) + chr(vowel) + chr(tail), f"U+{lvt:04X} as well")
    jamo = [chr(code) for code in range(0x1100, 0x1200)]
    syllables = [chr(code) for code in SYLLABLES]
    for lv, tail in product(SYLLABLES[::28], T_JAMO):
        expected[chr(lv) + chr(tail)] = chr(lv + tail - 0x11A7)
    pairs = [a + b for a, b in product(jamo + syllables[::28] + syllables[1::28], jamo)]
    for pair, answer in zip(pairs, asked(compose, pairs), strict=True):
        require(answer == expected.get(pair, pair), f"{pair!a} does not compose by arithmetic")


def normalization() -> Normalization:
    decompose, compose = normalizers.NFD().normalize_str, normalizers.NFC().normalize_str
    texts = [chr(code) for code in CODE_POINTS if code != 0x0A]
    decomposed = dict(zip(texts, asked(decompose, texts), strict=True))
    changing = {text for text, answer in zip(texts, asked(compose, texts), strict=True) if answer != text}
    plain = [text for text in texts if decomposed[text] == text]
    check_hangul(decomposed, compose)
    order = orders(decompose, plain)

    syllables = set(map(chr, SYLLABLES))
    listed = [text for text in texts if decomposed[text] != text and text not in syllables]
    decompositions = {ord(text): decomposed[text] for text in listed}
    composites = [text for text in listed if text not in changing]
    heads = asked(compose, [decomposed[text][:-1] for text in composites])
    pairs = {head + decomposed[text][-1]: text for text, head in zip(composites, heads, strict=True)}
    firsts, seconds = ({pair[at] for pair in pairs} for at in range(2))
    every = [a + b for a, b in product(sorted(firsts), sorted(seconds))]
    # Where the second goes before parts of the first, the answer says nothing about the two as a pair.
    apart = zip(every, asked(decompose, every), strict=True)
    every = [pair for pair, parts in apart if parts[-1] == pair[-1]]
    for pair, answer in zip(every, asked(compose, every), strict=True):
        require(answer == pairs.get(pair, pair), f"{pair!a} composes to {answer!a}")
    require(set(pairs) <= set(every), "a composite is not in the order that decomposition gives")

    firsts |= set(map(chr, L_JAMO))
    seconds |= set(map(chr, [*V_JAMO, *T_JAMO]))
    traits = [0] * 0x110000
    for text in texts:
        value = order.get(text, 0) | CHANGES * (text in changing) | SECOND * (text in seconds)
        opening = decomposed[text][0]
        # What `normalize.cpp` rests on.
        if value == 0:
            require(opening not in order and opening not in seconds, f"{text!a} does not start inertly")
        if text in order:
            require(text not in firsts, f"the mark {text!a} comes first in a composition")
        if text in seconds:
            require(decomposed[text] == text, f"{text!a} comes second in a composition and decomposes")
        traits[ord(text)] = value | OPEN * (text in firsts or decomposed[text] != text)
    compositions = {(ord(pair[1]), ord(pair[0])): ord(text) for pair, text in pairs.items()}
    return Normalization(traits, decompositions, compositions)


def numbers(values: Iterable[int]) -> str:
    lines: list[str] = []
    for number in map(str, values):
        if lines and len(lines[-1]) + len(number) < WIDTH:
            lines[-1] += f"{number},"
        else:
            lines.append(f"{number},")
    return "\n".join(lines)


def paged(values: list[int]) -> tuple[list[int], list[int]]:
    rows: dict[tuple[int, ...], int] = {}
    pages = [rows.setdefault(tuple(values[at : at + PAGE]), len(rows)) for at in range(0, len(values), PAGE)]
    return pages, [value for row in rows for value in row]


def array(name: str, values: Iterable[int]) -> str:
    values = list(values)
    kind = next(kind for kind, limit in KINDS.items() if max(values) < limit)
    return f"inline constexpr std::array<{kind}, {len(values)}> {name}{{\n{numbers(values)}}};\n"


def header() -> str:
    class_pages, class_rows = paged(classes())
    found = normalization()
    trait_pages, trait_rows = paged(found.traits)
    decompositions = sorted(found.decompositions.items())
    offsets = [0]
    for _, parts in decompositions:
        offsets.append(offsets[-1] + len(parts))
    compositions = sorted(found.compositions.items())
    tables = [
        array("class_pages", class_pages),
        array("class_rows", class_rows),
        array("trait_pages", trait_pages),
        array("trait_rows", trait_rows),
        array("decomposing", [code for code, _ in decompositions]),
        array("part_offsets", offsets),
        array("parts", [ord(part) for _, parts in decompositions for part in parts]),
        array("pair_seconds", [second for (second, _), _ in compositions]),
        array("pair_firsts", [first for (_, first), _ in compositions]),
        array("pair_composites", [composite for _, composite in compositions]),
    ]
    return TEMPLATE.replace("@VERSION@", version("tokenizers")).replace("@TABLES@", "\n".join(tables))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the Unicode tables of the native encoder.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the header differs")
    check = parser.parse_args().check
    text = header()
    if not check:
        HEADER.write_text(text, encoding="utf-8", newline="\n")
        return 0
    if HEADER.exists() and HEADER.read_text(encoding="utf-8") == text:
        return 0
    print(f"{HEADER} is not what tokenizers {version('tokenizers')} gives; write it anew", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
