"""Text with the tokenizer's special tokens around it is what Transformers' `tokenizer(text)` gives, but has them once."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from services.checkpoints import DEFAULTS, TOKENIZER_FILES
from services.published import encoders
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from rm_grpc import convert, errors
from rm_grpc.types import (
    Activation,
    ControlTokens,
    Conversation,
    ForeignMarkers,
    Item,
    Message,
    ScoreOptions,
    SpecialTokens,
    TokenIds,
)
from rm_grpc.v1 import score_pb2
from rm_grpc_server.config import TextSettings
from rm_grpc_server.text.encoding import Encoding
from rm_grpc_server.text.pipeline import TextPipeline
from rm_grpc_server.text.reading import LastToken
from rm_grpc_server.text.tokenizer import TokenizerFiles

ADD = ScoreOptions(special_tokens=SpecialTokens.ADD)
AS_IS = ScoreOptions()
SOURCE = DEFAULTS / "arithmetic-classifier"
BOS, EOS = "<|begin_of_text|>", "<|eot_id|>"
TEXTS = ("What is 1+1?", "1", " 1+1=2 ", "line\n\nline", "ünïcödé 日本", "a" * 200)


def write(folder: Path, before: tuple[str, ...] = (), behind: tuple[str, ...] = ()) -> Path:
    """The embedded tokenizer, with these special tokens before and behind any text."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        (folder / name).write_bytes((SOURCE / name).read_bytes())
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    single = [*(f"{token}:0" for token in before), "$A:0", *(f"{token}:0" for token in behind)]
    named = [(token, tokenizer.token_to_id(token)) for token in dict.fromkeys((*before, *behind))]
    tokenizer.post_processor = TemplateProcessing(single=single, pair=[*single, "$B:1"], special_tokens=named)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def write_spaced(folder: Path) -> Path:
    """As SentencePiece's tokenizers of Llama 2 and Mistral: a space before any text, which is none of the special tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["<unk>", "<s>", "</s>", *(chr(at) for at in range(33, 127)), "▁", "▁a", "▁What", "▁is", "at"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<unk>", "<s>", "</s>"])
    tokenizer.post_processor = TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", 1)])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


FOLDERS: dict[str, Callable[[Path], Path]] = {
    "bos": lambda root: write(root, (BOS,)),
    "bos and eos": lambda root: write(root, (BOS,), (EOS,)),
    "eos": lambda root: write(root, (), (EOS,)),
    "two before": lambda root: write(root, (BOS, "<|start_header_id|>")),
    "nothing": write,
    "cls and sep": encoders.DEBERTA.save,
    "spaced": write_spaced,
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("tokenizers")
    return {name: save(root / name.replace(" ", "-")) for name, save in FOLDERS.items()}


def pipeline(folder: Path, *, max_length: int = 1024, **settings: Any) -> TextPipeline:
    text = TextSettings.model_validate(settings)
    return TextPipeline(TokenizerFiles(folder), text, LastToken(), model_max_length=max_length, vocabulary_size=1024)


def encode(text: TextPipeline, subject: Any, options: ScoreOptions = ADD) -> Encoding:
    [outcome] = text.encode([Item("0", subject)], options)
    if isinstance(outcome, errors.RewardError):
        raise outcome
    assert isinstance(outcome, Encoding)
    return outcome


def ids(text: TextPipeline, subject: Any, options: ScoreOptions = ADD) -> list[int]:
    found: list[int] = encode(text, subject, options).ids.tolist()
    return found


# --- what Transformers gives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FOLDERS)
def test_text_is_framed_as_transformers_frames_it(folders: dict[str, Path], name: str) -> None:
    text = pipeline(folders[name])
    reference = PreTrainedTokenizerFast.from_pretrained(folders[name])
    for one in TEXTS:
        assert ids(text, one) == reference(one)["input_ids"], one
        assert ids(text, one, AS_IS) == reference(one, add_special_tokens=False)["input_ids"], one


@given(st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_any_text_is_framed_as_transformers_frames_it(one: str) -> None:
    assume(not one.startswith(BOS))
    assert ids(_BOS_ADDED, one, replace(ADD, foreign_markers=ForeignMarkers.ALLOW)) == _REFERENCE(one)["input_ids"]


_BOS_ADDED = pipeline(SOURCE)
_REFERENCE = PreTrainedTokenizerFast.from_pretrained(SOURCE)


@pytest.mark.parametrize(
    ("name", "before", "behind"),
    [
        ("bos", BOS, ""),
        ("bos and eos", BOS, EOS),
        ("eos", "", EOS),
        ("two before", BOS + "<|start_header_id|>", ""),
        ("cls and sep", "[CLS]", "[SEP]"),
    ],
)
def test_what_the_text_has_already_is_not_added_again(folders: dict[str, Path], name: str, before: str, behind: str) -> None:
    """Unlike `tokenizer(text)`, which gives a templated text a second BOS."""
    text = pipeline(folders[name])
    for one in ("What is 1+1?", "a"):
        whole = ids(text, before + one + behind, AS_IS)
        for written in {before + one, one + behind, before + one + behind}:
            assert ids(text, written) == whole, written
    if before:
        twice = before * 2 + "a" + behind
        assert ids(text, twice) == ids(text, twice, AS_IS), "what the caller wrote twice is twice"


def test_a_text_that_begins_with_its_special_token_is_left_alone_where_a_space_would_come_first(
    folders: dict[str, Path],
) -> None:
    text = pipeline(folders["spaced"])
    assert ids(text, "<s>What is 1+1?") == ids(text, "<s>What is 1+1?", AS_IS)
    assert ids(text, "What is 1+1?")[1:] == ids(text, "What is 1+1?", AS_IS)


def test_a_bos_inside_the_text_is_no_beginning(folders: dict[str, Path]) -> None:
    text = pipeline(folders["bos"])
    [bos] = ids(text, BOS, AS_IS)
    assert ids(text, f"a{BOS}b") == [bos, *ids(text, f"a{BOS}b", AS_IS)]
    assert ids(text, BOS) == [bos]


def test_one_batch_of_texts_with_bos_and_without(folders: dict[str, Path]) -> None:
    text = pipeline(folders["bos"])
    conversation = Conversation((Message("user", "hi"), Message("assistant", "ho")))
    items = [Item("", one) for one in ("hi", BOS + "hi", conversation, "ho")]
    found = [outcome.ids.tolist() for outcome in text.encode(items, ADD) if isinstance(outcome, Encoding)]
    assert found == [ids(text, item.input) for item in items]
    assert found[0] == found[1]


# --- beside the settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rule", "count"), [("as_is", 1), ("single", 1), ("double", 2), ("none", 0)])
@pytest.mark.parametrize("written", [0, 1])
def test_the_model_s_rule_for_bos_has_the_last_word(folders: dict[str, Path], rule: str, count: int, written: int) -> None:
    text = pipeline(folders["bos and eos"], bos=rule)
    found = encode(text, BOS * written + "hi").ids
    assert text.bos_count(found) == count
    [eos] = ids(pipeline(folders["nothing"]), EOS, AS_IS)
    assert found.tolist().count(eos) == 1


def test_special_tokens_count_for_the_length(folders: dict[str, Path]) -> None:
    length = len(ids(pipeline(folders["bos"]), "What is 1+1?", AS_IS))
    exact = pipeline(folders["bos"], max_length=length)
    assert len(ids(exact, "What is 1+1?", AS_IS)) == length
    with pytest.raises(errors.ConversationTooLongError, match=f"{length + 1} tokens"):
        encode(exact, "What is 1+1?")


def test_only_text_is_framed(folders: dict[str, Path]) -> None:
    for name in ("bos", "bos and eos", "cls and sep"):
        text = pipeline(folders[name], **({} if name != "cls and sep" else {"template": "{{ messages[0].content }}"}))
        tokens = TokenIds((5, 6, 7), text.files.digest)
        assert ids(text, tokens) == [5, 6, 7]
        conversation = Conversation((Message("user", "hi"), Message("assistant", "ho")))
        assert ids(text, conversation) == ids(text, conversation, AS_IS)


def test_text_that_is_nothing_stays_an_error(folders: dict[str, Path]) -> None:
    for name in FOLDERS:
        with pytest.raises(errors.NoInputError):
            encode(pipeline(folders[name]), "")


def test_foreign_markers_are_refused_in_framed_text_too(folders: dict[str, Path]) -> None:
    text = pipeline(folders["bos"])
    with pytest.raises(errors.ForeignMarkersError):
        encode(text, "<|im_start|>user\nhi<|im_end|>\n")
    allowed = replace(ADD, foreign_markers=ForeignMarkers.ALLOW)
    assert text.bos_count(encode(text, "<|im_start|>user\nhi<|im_end|>\n", allowed).ids) == 1


def test_tokenize_shows_what_would_be_read(folders: dict[str, Path]) -> None:
    text = pipeline(folders["bos"])
    shown = text.tokenize(Item("0", "hi"), ADD).tokenization
    assert shown is not None
    assert (list(shown.ids), shown.bos_count) == (ids(text, "hi"), 1)
    refused = text.tokenize(Item("0", "<|im_start|>hi"), ADD)
    assert isinstance(refused.error, errors.ForeignMarkersError)
    assert refused.tokenization is not None
    assert refused.tokenization.bos_count == 1, "what is shown beside an error is what would be read if it were allowed"


# --- on the wire ------------------------------------------------------------------------------------------------------


@given(
    st.builds(
        ScoreOptions,
        control_tokens=st.sampled_from(ControlTokens),
        foreign_markers=st.sampled_from(ForeignMarkers),
        activation=st.sampled_from(Activation),
        special_tokens=st.sampled_from(SpecialTokens),
    )
)
def test_options_travel(options: ScoreOptions) -> None:
    sent = convert.options_to_proto(options).SerializeToString()
    assert convert.options_from_proto(score_pb2.ScoreOptions.FromString(sent)) == options


def test_an_unset_option_leaves_text_as_it_is_and_an_unknown_one_is_refused() -> None:
    assert convert.options_from_proto(score_pb2.ScoreOptions()).special_tokens is SpecialTokens.AS_IS
    unknown = score_pb2.ScoreOptions()
    unknown.MergeFromString(b"\x20\x63")  # field 4, 99
    with pytest.raises(errors.InvalidRequestError) as caught:
        convert.options_from_proto(unknown)
    assert caught.value.field == "options.special_tokens"
