r"""The six pre-tokenizers as plain loops, each with the alternative of the regular expression that it stands for.

A rule answers where its match from `at` ends, or None. A pattern is its rules in order: the first that matches wins, as
alternatives of a regular expression do. A rule whose expression has to give characters back tries the longest match first,
as the engine does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

from native.characters import folds_to, in_class, matches

Rule = Callable[[str, int], int | None]
Test = Callable[[str], bool]

ENDINGS = ("s", "t", "re", "ve", "m", "ll", "d")
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
UPPER, LOWER = "Lu Lt Lm Lo M", "Ll Lm Lo M"


def pieces(text: str, rules: Sequence[Rule], *, keep_gaps: bool = True) -> Iterator[str]:
    """The matches in order; between them, characters that nothing matches, in runs."""
    at = gap = 0
    while at < len(text):
        end = next((end for rule in rules if (end := rule(text, at)) is not None), None)
        if end is None:
            at += 1
            continue
        if keep_gaps and gap < at:
            yield text[gap:at]
        yield text[at:end]
        at = gap = end
    if keep_gaps and gap < at:
        yield text[gap:at]


def run(test: Test, text: str, at: int, most: int | None = None) -> int:
    """Where the characters that pass the test end."""
    end = at
    while end < len(text) and test(text[end]) and (most is None or end - at < most):
        end += 1
    return end


def some(test: Test, text: str, at: int, most: int | None = None) -> int | None:
    """Where a run of at least one character ends."""
    end = run(test, text, at, most)
    return end if end > at else None


def of(classes: str) -> Test:
    return partial(in_class, classes)


def outside(classes: str, but: str = "") -> Test:
    return lambda character: character not in but and not in_class(classes, character)


def among(characters: str) -> Test:
    return lambda character: character in characters


def contraction(text: str, at: int) -> int | None:
    """(?i:'s|'t|'re|'ve|'m|'ll|'d)"""
    for ending in ENDINGS:
        follow = text[at + 1 : at + 1 + len(ending)]
        if text[at : at + 1] == "'" and len(follow) == len(ending) and all(map(folds_to, follow, ending)):
            return at + 1 + len(ending)
    return None


def small_contraction(text: str, at: int) -> int | None:
    """'s|'t|'re|'ve|'m|'ll|'d"""
    return next((at + 1 + len(ending) for ending in ENDINGS if text.startswith("'" + ending, at)), None)


def led(first: Test, rest: Rule, text: str, at: int) -> int | None:
    """`first? rest`: with the leading character when that leads to a match, else without."""
    if first(text[at]) and at + 1 < len(text) and (end := rest(text, at + 1)) is not None:
        return end
    return rest(text, at)


def signs(test: Test, trailing: str, text: str, at: int) -> int | None:
    r"""` ?[signs]+[\r\n]*`, or whichever characters trail"""
    end = led(among(" "), partial(some, test), text, at)
    return None if end is None else run(among(trailing), text, end)


def lines(text: str, at: int) -> int | None:
    r"""\s*[\r\n]+"""
    for end in range(run(of("s"), text, at), at, -1):
        if text[end - 1] in "\r\n":
            return end
    return None


def spaces_but_one(text: str, at: int) -> int | None:
    r"""\s+(?!\S)"""
    end = run(of("s"), text, at)
    if end < len(text):  # a character that is no space follows: give one back
        end -= 1
    return end if end > at else None


def spaces(text: str, at: int) -> int | None:
    r"""\s+"""
    return some(of("s"), text, at)


def upper_lower(text: str, at: int) -> int | None:
    r"""[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"""
    for start in range(run(of(UPPER), text, at), at - 1, -1):
        if (end := some(of(LOWER), text, start)) is not None:
            return end
    return None


def upper(text: str, at: int) -> int | None:
    r"""[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"""
    end = some(of(UPPER), text, at)
    return None if end is None else run(of(LOWER), text, end)


def contracted(rule: Rule, text: str, at: int) -> int | None:
    """`rule(?i:'s|'t|...)?`"""
    end = rule(text, at)
    return None if end is None else contraction(text, end) or end


def punctuated_letters(text: str, at: int) -> int | None:
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"""
    return some(lambda letter: letter.isascii() and letter.isalpha(), text, at + 1) if text[at] in PUNCTUATION else None


NUMBER = {most: partial(some, of("N"), most=most) for most in (1, 3)}
SPACES = (lines, spaces_but_one, spaces)


def gpt2() -> tuple[Rule, ...]:
    r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
    runs = [partial(led, among(" "), partial(some, test)) for test in (of("L"), of("N"), outside("s L N"))]
    return small_contraction, *runs, spaces_but_one, spaces


def cl100k(digits: int, letters: str = "L", no_signs: str = "s L N") -> tuple[Rule, ...]:
    r"""contraction|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    word = partial(led, outside("L N", but="\r\n"), partial(some, of(letters)))
    return contraction, word, NUMBER[digits], partial(signs, outside(no_signs), "\r\n"), *SPACES


def o200k(digits: int, finish: Callable[[Rule], Rule] = lambda rule: rule) -> tuple[Rule, ...]:
    r"""[^\r\n\p{L}\p{N}]?upper_lower|[^\r\n\p{L}\p{N}]?upper|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    words = [finish(partial(led, outside("L N", but="\r\n"), letters)) for letters in (upper_lower, upper)]
    return *words, NUMBER[digits], partial(signs, outside("s L N"), "\r\n/"), *SPACES


def deepseek() -> tuple[Rule, ...]:
    r"""punctuated_letters|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
    word = partial(led, outside("L P S", but="\r\n"), partial(some, of("L M")))
    return punctuated_letters, word, partial(signs, of("P S"), "\r\n"), *SPACES


def _cl100k_text(letters: str, number: str, no_signs: str) -> str:
    endings = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    return rf"{endings}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{number}| ?[^{no_signs}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def _o200k_text(number: str, endings: str) -> str:
    first, high, low = r"[^\r\n\p{L}\p{N}]?", r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    words = f"{first}{high}*{low}+{endings}|{first}{high}+{low}*{endings}"
    return rf"{words}|{number}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"


HAN_AND_KANA = "[一-龥\u3040-ゟ゠-ヿ]"
PATTERNS: Mapping[str, tuple[Rule, ...]] = {
    _cl100k_text(r"\p{L}", r"\p{N}{1,3}", r"\s\p{L}\p{N}"): cl100k(3),
    _cl100k_text(r"\p{L}", r"\p{N}", r"\s\p{L}\p{N}"): cl100k(1),
    _cl100k_text(r"[\p{L}\p{M}]", r"\p{N}", r"\s\p{L}\p{M}\p{N}"): cl100k(1, "L M", "s L M N"),
    _o200k_text(r"\p{N}{1,3}", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"): o200k(3, lambda rule: partial(contracted, rule)),
    _o200k_text(r"\p{N}", ""): o200k(1),
    r"\p{N}{1,3}": (NUMBER[3],),
    f"{HAN_AND_KANA}+": (partial(some, partial(matches, HAN_AND_KANA)),),
    r"[!"
    + '"'
    + r"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^"
    + "\r\n"
    + r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["
    "\r\n" + r"]*|\s*[" + "\r\n" + r"]+|\s+(?!\S)|\s+": deepseek(),
}
