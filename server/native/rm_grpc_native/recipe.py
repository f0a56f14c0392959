"""What a tokenizer.json says, if all of it is known here exactly; whatever else it says is refused by name.

The list is a white one: an unknown key, step or regular expression makes the tokenizer unsupported, and is never guessed at.
What changes no ids is left aside: truncation, padding, the decoder and the post-processor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Step = Mapping[str, Any] | None
"""A normalizer, pre-tokenizer or post-processor as it stands in the file."""

_SPACE = "▁"
_KEYS = {
    "version", "truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder", "model"
}  # fmt: skip

_CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN3_5 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+CONTRACTION"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*CONTRACTION"
    r"|DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {
    _CL100K.replace("DIGITS", r"\p{N}{1,3}"): "cl100k",
    _CL100K.replace("DIGITS", r"\p{N}"): "qwen2",
    _QWEN3_5: "qwen3_5",
    _O200K.replace("DIGITS", r"\p{N}{1,3}").replace("CONTRACTION", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"): "o200k",
    _O200K.replace("DIGITS", r"\p{N}").replace("CONTRACTION", ""): "tekken",
}
_DEEPSEEK = (
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|"""
    "[^\r\n"
    r"\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+["
    "\r\n"
    r"]*|\s*["
    "\r\n"
    r"]+|\s+(?!\S)|\s+",
)


class UnsupportedTokenizer(ValueError):  # noqa: N818  an unsupported tokenizer is no error of anybody's
    """A tokenizer that is not known exactly. Its text says what was met and where; encode it with `tokenizers`."""


class MalformedTokenizer(ValueError):  # noqa: N818
    """A text that is no tokenizer.json, or one that contradicts itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """All that ids depend on.

    Attributes:
        words: how text is cut into words, by the names of src/recipe.h.
        nfc: whether text is normalised to NFC.
        ignore_merges: whether a word that is a token is that token, whatever the merges say.
        prepend_space: whether a segment begins with a space more.
        vocabulary: tokens as the file writes them, with their ids.
        merges: pairs in the order of their rank.
        added: texts of added tokens, their ids, whether they are found after normalisation, and whether they take the white
            space before and behind them.
        trims_spans: whether the post-processor takes blanks out of the characters that a token stands for.
    """

    words: str
    nfc: bool
    ignore_merges: bool
    prepend_space: bool
    vocabulary: list[tuple[str, int]]
    merges: list[tuple[str, str]]
    added: list[tuple[str, int, bool, bool, bool]]
    trims_spans: bool


def parse(text: str) -> Recipe:
    """Reads a tokenizer.json.

    Raises:
        MalformedTokenizer: it is none.
        UnsupportedTokenizer: something in it is not known here.
    """
    try:
        parsed = json.loads(text)
    except ValueError as error:
        raise MalformedTokenizer(f"no JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise MalformedTokenizer("no JSON object")
    try:
        return _recipe(parsed)
    except (KeyError, TypeError, AttributeError) as error:
        raise MalformedTokenizer(f"not the shape of a tokenizer.json: {type(error).__name__}: {error}") from error


def _recipe(parsed: Mapping[str, Any]) -> Recipe:
    _refuse(set(parsed) - _KEYS, "key")
    normalizer = _steps(parsed.get("normalizer"), "normalizers")
    pre_tokenizer = _steps(parsed.get("pre_tokenizer"), "pretokenizers")
    model = parsed["model"]
    if _is_sentence_pieces(normalizer):
        prepend_space = len(normalizer) == 2
        words, nfc = _sentence_pieces(pre_tokenizer), False
    else:
        prepend_space = False
        words, nfc = _words(pre_tokenizer), _is_nfc(normalizer)
    ignore_merges = _check_model(model, pieces=words == "sentence_pieces")
    return Recipe(
        words=words,
        nfc=nfc,
        ignore_merges=ignore_merges,
        prepend_space=prepend_space,
        vocabulary=[(str(token), _id(at)) for token, at in model["vocab"].items()],
        merges=[_pair(merge) for merge in model["merges"]],
        added=_added(parsed.get("added_tokens") or [], model["vocab"], pieces=words == "sentence_pieces"),
        trims_spans=any(step.get("trim_offsets") for step in _steps(parsed.get("post_processor"), "processors")),
    )


def _refuse(unknown: set[str], what: str) -> None:
    if unknown:
        raise UnsupportedTokenizer(f"{what} {', '.join(sorted(map(str, unknown)))}")


def _steps(step: Step, inner: str) -> list[Mapping[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or post-processor, one after the other."""
    if step is None:
        return []
    if step["type"] != "Sequence":
        return [step]
    return [deep for one in step[inner] for deep in _steps(one, inner)]


def _is_nfc(normalizer: Sequence[Mapping[str, Any]]) -> bool:
    unknown = {step["type"] for step in normalizer} - {"NFC"}
    _refuse(unknown, "normalizer")
    return bool(normalizer)


def _is_sentence_pieces(normalizer: Sequence[Mapping[str, Any]]) -> bool:
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
    prepend = {"type": "Prepend", "prepend": _SPACE}
    return list(normalizer) in ([replace], [prepend, replace])


def _sentence_pieces(pre_tokenizer: Sequence[Mapping[str, Any]]) -> str:
    # Splits at spaces, of which the normalizer has left none.
    idle = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    if list(pre_tokenizer) not in ([], [idle]):
        raise UnsupportedTokenizer(f"pre_tokenizer {_described(pre_tokenizer)} behind a normalizer of spaces")
    return "sentence_pieces"


def _words(pre_tokenizer: Sequence[Mapping[str, Any]]) -> str:
    if not pre_tokenizer or pre_tokenizer[-1]["type"] != "ByteLevel":
        raise UnsupportedTokenizer(f"pre_tokenizer {_described(pre_tokenizer)}")
    *splits, bytes_ = pre_tokenizer
    _refuse(set(bytes_) - {"type", "add_prefix_space", "trim_offsets", "use_regex"}, "pre_tokenizer ByteLevel with")
    if bytes_["add_prefix_space"]:
        raise UnsupportedTokenizer("pre_tokenizer ByteLevel with add_prefix_space")
    if bytes_.get("use_regex", True):
        return _gpt2(splits)
    patterns = tuple(_split_pattern(step) for step in splits)
    if patterns == _DEEPSEEK and all(step["behavior"] == "Isolated" for step in splits):
        return "deepseek"
    if len(patterns) == 1 and patterns[0] in _SPLITS:
        return _SPLITS[patterns[0]]
    raise UnsupportedTokenizer(f"pre_tokenizer {_described(pre_tokenizer)}")


def _gpt2(before: Sequence[Mapping[str, Any]]) -> str:
    if not before:
        return "gpt2"
    if list(before) == [{"type": "Digits", "individual_digits": True}]:
        return "gpt2_digits"
    raise UnsupportedTokenizer(f"pre_tokenizer {_described(before)} before ByteLevel")


def _split_pattern(step: Mapping[str, Any]) -> str | None:
    """The regular expression of a split that leaves every match a word of its own, or None."""
    if step["type"] != "Split" or set(step) != {"type", "pattern", "behavior", "invert"}:
        return None
    # The known expressions match every character, so that removing what they do not match removes nothing.
    if (step["behavior"], step["invert"]) not in (("Isolated", False), ("Removed", True)):
        return None
    pattern = step["pattern"].get("Regex")
    return None if pattern is None else str(pattern)


def _described(steps: Sequence[Mapping[str, Any]]) -> str:
    text = json.dumps(list(steps), ensure_ascii=False)
    return text if len(text) <= 300 else text[:300] + " ..."


def _check_model(model: Mapping[str, Any], *, pieces: bool) -> bool:
    """Whether merges are ignored for words that are tokens."""
    if model.get("type", "BPE") != "BPE":
        raise UnsupportedTokenizer(f"model {model['type']}")
    known = {"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback"}
    _refuse(set(model) - known - {"ignore_merges", "vocab", "merges"}, "model key")
    for name in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(name):
            raise UnsupportedTokenizer(f"model.{name} {model[name]!r}")
    ignore_merges = bool(model.get("ignore_merges"))
    if bool(model.get("byte_fallback")) != pieces:
        raise UnsupportedTokenizer(f"model.byte_fallback {model.get('byte_fallback')} with these words")
    if pieces and ignore_merges:
        raise UnsupportedTokenizer("model.ignore_merges with sentence pieces")
    return ignore_merges


def _id(at: Any) -> int:
    if not isinstance(at, int) or isinstance(at, bool) or not 0 <= at < 2**31:
        raise MalformedTokenizer(f"{at!r} is no id")
    return at


def _pair(merge: Any) -> tuple[str, str]:
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        raise MalformedTokenizer(f"merge {merge!r} is no pair")
    return parts[0], parts[1]


def _added(
    tokens: Sequence[Mapping[str, Any]], vocabulary: Mapping[str, int], *, pieces: bool
) -> list[tuple[str, int, bool, bool, bool]]:
    """Added tokens with the ids that `tokenizers` gives them: their own in the vocabulary, or else the next."""
    added: dict[str, tuple[str, int, bool, bool, bool]] = {}
    largest = -1
    for token in tokens:
        content = str(token["content"])
        if token.get("single_word"):
            raise UnsupportedTokenizer(f"added token {content!r} with single_word")
        if not content or content in added:
            raise UnsupportedTokenizer(f"added token {content!r}, which is empty or stands there twice")
        if token["normalized"] and pieces:
            raise UnsupportedTokenizer(f"added token {content!r}, normalized, with sentence pieces")
        given = vocabulary.get(content, max(largest + 1, len(vocabulary)))
        if _id(token["id"]) != given:
            raise UnsupportedTokenizer(f"added token {content!r} has id {token['id']}, and tokenizers gives it {given}")
        largest = max(largest, given)
        added[content] = (content, given, bool(token["normalized"]), bool(token.get("lstrip")), bool(token.get("rstrip")))
    return list(added.values())
