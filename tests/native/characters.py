"""What a character is, asked of Hugging Face's tokenizers itself, one character at a time.

Python's `unicodedata`, its `re` and the `regex` package follow other versions of Unicode than the engine in tokenizers: a
reference built on them would be wrong on thousands of letters.
"""

from __future__ import annotations

from functools import cache

from tokenizers import Regex
from tokenizers.pre_tokenizers import Digits, Split


@cache
def _split(pattern: str) -> Split:
    return Split(Regex(pattern), "removed")


@cache
def matches(pattern: str, character: str) -> bool:
    """Whether the pattern matches this character alone."""
    return not _split(pattern).pre_tokenize_str(character)


def in_class(classes: str, character: str) -> bool:
    r"""Whether the character has one of the classes, as "L N" for `[\p{L}\p{N}]`; "s" is `\s`."""
    return any(matches(r"\s" if name == "s" else rf"\p{{{name}}}", character) for name in classes.split())


def folds_to(character: str, letter: str) -> bool:
    """Whether they are the same letter where case does not count: `ſ` is an `s`."""
    return matches(f"(?i:{letter})", character)


@cache
def is_digit(character: str) -> bool:
    """Whether the pre-tokenizer Digits cuts the character off; it has Unicode tables of its own."""
    return len(Digits(individual_digits=True).pre_tokenize_str(f"a{character}a")) == 3
