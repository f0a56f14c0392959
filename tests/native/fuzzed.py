"""Fuzz documents: what breaks tokenizers, put together at random, always the same for a seed.

A document is a few fragments in a row, for the boundaries between them are where encoders go wrong: whitespace of all kinds,
contractions, digits of many scripts, marks with nothing to stand on, control tokens whole and broken, words without an end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from random import Random

LONG_EVERY = 250  # one document in so many is long, for buffers and for what must not be quadratic
LONGEST = 20_000

# Inclusive ranges of code points. Several hold letters of a newer Unicode than Python's own tables, and some hold nothing yet.
BLOCKS = (
    *(
        (0x20, 0x7E),
        (0xA0, 0xFF),
        (0x100, 0x24F),
        (0x250, 0x2FF),
        (0x300, 0x36F),
        (0x370, 0x3FF),
        (0x400, 0x52F),
        (0x530, 0x58F),
    ),
    *((0x590, 0x5FF), (0x600, 0x6FF), (0x700, 0x8FF), (0x900, 0x97F), (0x980, 0xDFF), (0xE00, 0xEFF), (0xF00, 0xFFF)),
    *((0x1000, 0x109F), (0x10A0, 0x10FF), (0x1100, 0x11FF), (0x1200, 0x139F), (0x13A0, 0x17FF), (0x1800, 0x1AFF)),
    *((0x1B00, 0x1CFF), (0x1D00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x20FF), (0x2100, 0x218F), (0x2190, 0x2BFF)),
    *((0x2C00, 0x2FFF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x3100, 0x4DBF), (0x4DC0, 0x9FFF), (0xA000, 0xABFF)),
    *((0xAC00, 0xD7FF), (0xE000, 0xF8FF), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFE70, 0xFFFF)),
    *((0x10000, 0x10FFF), (0x11000, 0x11FFF), (0x12000, 0x16FFF), (0x17000, 0x1AFFF), (0x1B000, 0x1CFFF), (0x1D000, 0x1D7FF)),
    *((0x1D800, 0x1DFFF), (0x1E000, 0x1EFFF), (0x1F000, 0x1FAFF), (0x1FB00, 0x1FFFF), (0x20000, 0x323AF), (0x323B0, 0x33FFF)),
    *((0xE0000, 0xE01EF), (0xF0000, 0xFFFFF), (0x100000, 0x10FFFF)),
)
SPACES = "    \t\n\r\v\f\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2000\u2003\u2009\u200a\u200b\u2028\u2029\u202f\u205f\u3000\ufeff\u180e"
NEWLINES = ("\n", "\r", "\r\n", "\n\n", "\n\r", "\n \n", " \n", "\n ", "\t\n", "\n\n\n\n", "\u2028\n", "\x85\n", "\x0b\r")
APOSTROPHES = "''''’ʼ＇`"
ENDINGS = (
    "s",
    "t",
    "re",
    "ve",
    "m",
    "ll",
    "d",
    "S",
    "T",
    "RE",
    "Ve",
    "vE",
    "M",
    "LL",
    "lL",
    "D",
    "ſ",
    "ſs",
    "sſ",
    "x",
    "ré",
    "",
)
WORDS = (
    *("the", "don", "We", "IT", "McDonald", "iPhone", "HTTPServer", "naïve", "straße", "ΣΊΣΥΦΟΣ", "слово", "Мир", "שלום"),
    *(
        "مرحبا",
        "हिन्दी",
        "ภาษาไทย",
        "tiếng",
        "Việt",
        "한국어",
        "日本語テキスト",
        "中文字符",
        "ǅungla",
        "ŉ",
        "ﬆop",
        "İstanbul",
        "ıI",
    ),
)
SIGNS = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~¡«»—–…、。「」·§©€₹×÷≤∞→■☃¬´'
DIGIT_STARTS = (0x30, 0x660, 0x6F0, 0x966, 0x9E6, 0xE50, 0x1040, 0x17E0, 0xFF10, 0x104A0, 0x11066, 0x1D7CE, 0x1E950, 0x1FBF0)
NUMBERS = "²³¹¼½Ⅷⅻ①⑳㊿〇〡六৷𐄇𐏑𝟙𞱱🄂"
MARKS = (
    "\u0300\u0301\u0308\u0323\u0327\u0345\u05b0\u064b\u093c\u094d\u09be\u0bd7\u0e31\u0e48\u1161\u11a8"
    "\u200d\u20dd\u3099\ufe0f\U0001d165\U000110ba"
)
BASES = "aeoEOuKdDqnN가각ㄱक़नরெ\u212b\u2126\u1100\u1112\u1161\u11a8ＡȦǭが"
EMOJI = ("👨‍👩‍👧‍👦", "👩🏽‍🚀", "🏳️‍🌈", "🇩🇪", "🇯🇵🇰", "☺️", "1️⃣", "🧑‍💻", "🫠", "🏴\U000e0067\U000e0062\U000e007f", "❤️‍🔥", "👍🏿")
RARE = (
    "\x00\x01\x7f\x80\x9f\xad\u034f\u061c\u180e\u200b\u200e\u2060\ufdd0\ufeff\ufff9\ufffc\ufffd\ufffe\uffff\U0001fffe"
    "\U000e0001\U0010fffe\U0010ffff\ue000\uf8ff\U000f0000\u0378\u2fe0\u1c89\ua7cb\U00016d40\u2581\u2581"
)
SURROGATES = (0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0xDC80, 0xD83D)

Maker = Callable[[Random], str]


def documents(seed: int, count: int, added: Sequence[str]) -> Iterator[str]:
    """Fuzz documents with fragments of these added tokens; mostly 1 to 400 characters, a few up to 20,000."""
    random = Random(seed)
    # Hundreds of reserved tokens would crowd out the few that matter.
    chosen = [*added[:60], *random.sample(added[60:], min(20, len(added[60:])))]
    makers: list[Maker] = [*MAKERS, *([lambda random: _token(random, chosen)] * 4 if chosen else [])]
    for at in range(count):
        yield _long(random, makers) if at % LONG_EVERY == LONG_EVERY - 1 else _short(random, makers)


def surrogates(seed: int, count: int, added: Sequence[str]) -> Iterator[str]:
    """Fuzz documents with a lone surrogate somewhere, which are no text: an encoder refuses them."""
    random = Random(~seed)
    for text in documents(seed, count, added):
        at = random.randint(0, len(text))
        yield text[:at] + chr(random.choice(SURROGATES)) + text[at:]


def _short(random: Random, makers: Sequence[Maker]) -> str:
    few = random.choice((1, 2, 3, 5, 8, 13, 21, 34))
    return "".join(random.choice(makers)(random) for _ in range(few))[:400]


def _long(random: Random, makers: Sequence[Maker]) -> str:
    length = random.choice((600, 2_000, 5_000, LONGEST))
    kind = random.randrange(4)
    if kind == 0:  # one character, over and over
        return (random.choice(makers)(random) or "a")[0] * length
    if kind == 1:  # a word without an end
        low, high = random.choice(BLOCKS)
        letters = [_character(random, low, high) for _ in range(random.choice((2, 10, 60)))]
        return "".join(random.choices(letters, k=length))
    if kind == 2:  # one fragment, over and over
        fragment = random.choice(makers)(random) or " "
        return (fragment * (length // len(fragment) + 1))[:length]
    parts: list[str] = []
    while sum(map(len, parts[-1:])) + 8 * len(parts) < length:
        parts.append(random.choice(makers)(random))
    return "".join(parts)[:length]


def _character(random: Random, low: int, high: int) -> str:
    return chr(random.randint(low, high))


def _block(random: Random) -> str:
    low, high = random.choice(BLOCKS)
    return "".join(_character(random, low, high) for _ in range(random.randint(1, 8)))


def _anywhere(random: Random) -> str:
    return "".join(_character(random, *random.choice(BLOCKS)) for _ in range(random.randint(1, 6)))


def _spaces(random: Random) -> str:
    if random.random() < 0.5:
        return random.choice(" \n\t\r\xa0\u3000") * random.choice((1, 1, 2, 3, 4, 7, 8, 16, 40))
    return "".join(random.choices(SPACES, k=random.randint(1, 6)))


def _newlines(random: Random) -> str:
    return "".join(random.choices(NEWLINES, k=random.randint(1, 3)))


def _word(random: Random) -> str:
    word: str = random.choice(WORDS)
    return random.choice(
        (word, word, word.upper(), word.lower(), word.title(), word.swapcase(), " " + word, word + random.choice(WORDS))
    )


def _contraction(random: Random) -> str:
    stem = random.choice((*WORDS, "", " ", "1", "\n", "é"))
    return stem + random.choice(APOSTROPHES) + random.choice(ENDINGS)


def _digits(random: Random) -> str:
    start = random.choice(DIGIT_STARTS)
    run = "".join(chr(start + random.randrange(10)) for _ in range(random.choice((1, 2, 3, 4, 5, 6, 7, 12, 30))))
    return run + random.choice(("", "", ".", ",", " ", random.choice(NUMBERS)))


def _signs(random: Random) -> str:
    run = "".join(random.choices(SIGNS, k=random.randint(1, 6)))
    return random.choice(("", "", " ", "  ")) + run + random.choice(("", "/", "//\n", "\n/", "\r\n", "/\r/", "\n\n", " \n"))


def _marks(random: Random) -> str:
    base: str = random.choice(("", "", *BASES))
    return base + "".join(random.choices(MARKS, k=random.randint(1, 4)))


def _decomposed(random: Random) -> str:
    return "".join(random.choice(BASES) + random.choice(("", *MARKS)) for _ in range(random.randint(1, 6)))


def _jamo(random: Random) -> str:
    low, high = random.choice(((0x1100, 0x1112), (0x1161, 0x1175), (0x11A8, 0x11C2), (0xA960, 0xA97C), (0xD7B0, 0xD7FB)))
    return chr(random.randint(0x1100, 0x1112)) + chr(random.randint(0x1161, 0x1175)) + _character(random, low, high)


def _cases(random: Random) -> str:
    letters = ("a", "B", "z", "Q", "ǅ", "ᾈ", "ʰ", "ª", "ñ", "Ñ", "ж", "Ж", "字", "א", "\u0301", "ﬁ", "Ⓐ", "ꟲ", "𝐀", "𐐨")
    return "".join(random.choices(letters, k=random.randint(1, 9)))


def _rare(random: Random) -> str:
    return "".join(random.choices(RARE, k=random.randint(1, 3)))


def _emoji(random: Random) -> str:
    emoji = random.choice(EMOJI)
    return emoji[: random.randint(1, len(emoji))] if random.random() < 0.3 else emoji


def _ascii(random: Random) -> str:
    return "".join(_character(random, 0x20, 0x7E) for _ in range(random.randint(1, 70)))


def _token(random: Random, added: Sequence[str]) -> str:
    """An added token: whole, doubled, cut, with a piece of another, glued to words and spaces."""
    token, other = random.choice(added), random.choice(added)
    cut, other_cut = random.randint(0, len(token)), random.randint(0, len(other))
    broken = (token[:cut], token[cut:], token[:cut] + other, token[:cut] + other[other_cut:], token[:cut] + " " + token[cut:])
    whole = (token, token + token, token + other, f" {token} ", f"\n{token}\n", f"  {token}", f"{token}  \t")
    worded = (random.choice(WORDS) + token, token + random.choice(WORDS), token.upper(), token + random.choice(MARKS))
    return random.choice((token, token, *whole, *broken, *worded))


MAKERS: tuple[Maker, ...] = (
    *(_block, _anywhere, _spaces, _spaces, _newlines, _word, _word, _contraction, _digits, _signs, _signs),
    *(_marks, _decomposed, _jamo, _cases, _rare, _emoji, _ascii),
)
