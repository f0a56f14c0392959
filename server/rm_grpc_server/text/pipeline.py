"""Items to encodings: check, render, encode, in one pure step that runs on a text thread.

Everything here is read-only after construction, so that any number of threads may share one pipeline.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

import numpy as np

from rm_grpc import errors
from rm_grpc.types import (
    ControlTokens,
    Conversation,
    ForeignMarkers,
    Item,
    ScoreOptions,
    SpecialTokens,
    TokenIds,
    Tokenization,
    TokenizeResult,
)
from rm_grpc_server.config import TextSettings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.text import checks
from rm_grpc_server.text.encoders import Encoder, open_encoder
from rm_grpc_server.text.encoding import Encoded, Encoding, Parts, Reading, TokenArray
from rm_grpc_server.text.markers import CHAT_MARKERS, MarkerScan
from rm_grpc_server.text.template import ChatTemplate
from rm_grpc_server.text.tokenizer import TokenizerFiles

# Stand around a control token that is content while it is rendered: private use, where no tokenizer puts anything. A template
# may split the text between them; then they stand alone, and are dropped.
_MARK_OPEN, _MARK_CLOSE = "\U0010fdd0", "\U0010fdd1"


def _encodable(text: str, field: str) -> str:
    if text.isascii():  # known without a look at it
        return text
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise errors.InvalidRequestError(f"holds a character that is none: {error.reason}", field=field) from error
    return text


def _check_scope(settings: TextSettings, reading: Reading) -> None:
    """Refuses settings that the kind would not follow."""
    if reading.scope == "rendered":
        return
    unfollowed = {
        "user_suffix": bool(settings.user_suffix),
        "response_prefix": bool(settings.response_prefix),
        "overlong": settings.overlong != "error",
        "default_system": reading.scope == "texts" and settings.default_system is not None,
    }
    if given := [name for name, is_given in unfollowed.items() if is_given]:
        raise ConfigError(
            f"text.{given[0]}: goes with kinds that read the rendered conversation as it is, which this one does not"
        )


def _template_source(files: TokenizerFiles, settings: TextSettings) -> str:
    if settings.template is not None:
        return settings.template
    if settings.template_file is None:
        return files.chat_template
    try:
        return settings.template_file.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"text.template_file: cannot be read: {error}") from error


@dataclass(frozen=True, slots=True)
class _Rendered:
    text: str
    seconds: float
    conversation: Conversation | None = None
    marked: bool = False
    """Whether control tokens of the content are marked in `text`."""
    unframed: bool = False
    """Whether the tokenizer's own special tokens are still to be put around it."""


class TextPipeline:
    """The text side of one model.

    Args:
        files: the checkpoint's tokenizer.
        settings: the model's text settings.
        reading: how its kind reads.
        model_max_length: most tokens by the model's own config, used where the settings give none.
        vocabulary_size: rows of the model's embedding; ids must be below it.

    Raises:
        ConfigError: settings that the tokenizer cannot follow.
    """

    def __init__(
        self,
        files: TokenizerFiles,
        settings: TextSettings,
        reading: Reading,
        *,
        model_max_length: int | None,
        vocabulary_size: int,
        encoder: Encoder | None = None,
    ) -> None:
        self.files = files
        self.settings = settings
        self.reading = reading
        self.encoder = encoder or open_encoder(files.serialized, settings.encoder)
        max_length = settings.max_length or model_max_length or files.model_max_length
        self.vocabulary_size = vocabulary_size
        if settings.bos in ("single", "double") and files.bos_id is None:
            raise ConfigError(f"text.bos: {settings.bos} needs a tokenizer with a bos_token, and this one has none")
        if max_length is None:
            raise ConfigError("text.max_length: the checkpoint does not say how long a conversation may be; set it")
        if model_max_length is not None and max_length > model_max_length:
            raise ConfigError(f"text.max_length: {max_length} is more than the {model_max_length} positions of the model")
        self.max_length = max_length
        _check_scope(settings, reading)
        source = _template_source(files, settings)
        self.template_digest = f"sha256:{hashlib.sha256(source.encode()).hexdigest()}" if source else ""
        self.template = (
            ChatTemplate(
                source,
                {**files.special_tokens, **settings.template_kwargs},
                date_string=settings.date_string,
                add_generation_prompt=settings.add_generation_prompt,
                content=settings.content_format,
                tool_arguments=settings.tool_arguments,
            )
            if source
            else None
        )
        control = files.control_tokens.union(files.added_tokens.keys() & set(CHAT_MARKERS))
        # As text means every added token that the template writes, as Transformers' sanitize_control_tokens has it: a
        # reasoning or tool mark may stand in content, but whoever asks for text gets text.
        written = {token for token in files.added_tokens if token in source and not token.isspace()}
        self.control_scan = MarkerScan(control)
        self.as_text_scan = MarkerScan(control | written)
        self._marked = re.compile(f"{_MARK_OPEN}({self.as_text_scan.pattern.pattern}){_MARK_CLOSE}|[{_MARK_OPEN}{_MARK_CLOSE}]")
        self.marker_scan = MarkerScan(marker for marker in CHAT_MARKERS if marker not in control)
        # Rendered text rightly holds the markers of the model's own template.
        self.rendered_marker_scan = MarkerScan(
            marker for marker in CHAT_MARKERS if marker not in control and marker not in source
        )

    def encode(self, items: Sequence[Item], options: ScoreOptions) -> list[Encoded]:
        """See `Reader`."""
        outcomes: list[Encoded | _Rendered] = [self._render(item, options) for item in items]
        texts = [outcome for outcome in outcomes if isinstance(outcome, _Rendered)]
        if not texts:
            return [outcome for outcome in outcomes if not isinstance(outcome, _Rendered)]
        start = time.perf_counter()
        ids = iter(self._ids_of(texts))
        seconds = time.perf_counter() - start
        return [
            self._fitted_or_error(outcome, next(ids), seconds) if isinstance(outcome, _Rendered) else outcome
            for outcome in outcomes
        ]

    def check(self, conversation: Conversation, options: ScoreOptions, *, may_ask: bool = False) -> None:
        """Whether a conversation may be read at all.

        Args:
            may_ask: it need not end with a response.

        Raises:
            RewardError: it may not; the field names the message.
        """
        checks.check_conversation(conversation, self.settings, may_ask=may_ask)
        checks.check_content(conversation, options, self.control_scan, self.marker_scan)

    def read(
        self,
        conversation: Conversation,
        options: ScoreOptions,
        *,
        may_ask: bool = False,
        generation_prompt: bool | None = None,
    ) -> Encoding:
        """What the model reads of a conversation, for a `Reading` that makes its own; it says itself at which positions.

        Args:
            may_ask: it need not end with a response.
            generation_prompt: whether the opening of another assistant message ends it; None as the settings say.

        Raises:
            RewardError: as `check`, or the conversation is too long.
        """
        rendered = self._render_conversation(conversation, options, may_ask=may_ask, generation_prompt=generation_prompt)
        start = time.perf_counter()
        ids = self._ids_of([rendered])[0]
        return self._fitted(rendered, ids, time.perf_counter() - start)

    def content_ids(self, content: str, options: ScoreOptions) -> TokenArray:
        """The ids of a piece of content by itself; control tokens are characters where the caller asked for that."""
        marked, count = self._with_marks(content) if options.control_tokens is ControlTokens.AS_TEXT else (content, 0)
        if not count:
            return self.ids_of(content)
        self._check_independent()
        return self._ids_with_marks(_encodable(marked, "conversation"))

    def read_marked(
        self, conversation: Conversation, options: ScoreOptions, sign: str, mark: str
    ) -> tuple[Encoding, tuple[int, ...]]:
        """What the model reads of a conversation with marks in it, and where each mark's first token is.

        Args:
            sign: stands in the content for each mark, so that content with the mark's own text is content all the same.
            mark: text that is written there.

        Raises:
            RewardError: as `read`; or a mark cannot be told among the tokens.
        """
        rendered = self._render_conversation(conversation, options)
        pieces = rendered.text.split(sign)
        start = time.perf_counter()
        ids = self._ids_of([replace(rendered, text=mark.join(pieces))])[0]
        encoding = self.assembled(self.with_bos(ids), mark.join(pieces), ())  # too long is told before marks are looked for
        shift = len(encoding.ids) - len(ids)
        places = tuple(at + shift for at in self._marks(ids, rendered, pieces, mark))
        seconds = time.perf_counter() - start
        return replace(encoding, render_seconds=rendered.seconds, encode_seconds=seconds), places

    def _marks(self, ids: TokenArray, rendered: _Rendered, pieces: Sequence[str], mark: str) -> list[int]:
        """The position of each mark between the pieces."""
        token = self.files.added_tokens.get(mark)
        if token is not None and not any(mark in piece for piece in pieces):
            places: list[int] = np.flatnonzero(ids == token).tolist()  # an added token is cut out of any text
            if len(places) == len(pieces) - 1:
                return places
        if not rendered.marked and (found := self._marks_by_span(ids, pieces, mark)) is not None:
            return found
        return [self._mark_after(ids, replace(rendered, text=mark.join(pieces[:at]))) for at in range(1, len(pieces))]

    def _marks_by_span(self, ids: TokenArray, pieces: Sequence[str], mark: str) -> list[int] | None:
        """The same by the characters of each token, in one pass; None where these do not tell."""
        whole, starts, ends = self.encoder.encode_spans(mark.join(pieces))
        if not np.array_equal(whole, ids):
            return None
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        by_end = {end: at for at, (start, end) in enumerate(spans) if end > start}
        places, end = [], 0
        for piece in pieces[:-1]:
            start, end = end + len(piece), end + len(piece) + len(mark)
            at = by_end.get(end)
            # One token for all of the mark; tokenizers may leave its leading space out of the span.
            if at is None or not start <= spans[at][0] <= start + len(mark) - len(mark.lstrip()):
                return None
            if at and spans[at - 1][1] > start:
                return None
            places.append(at)
        return places

    def _mark_after(self, ids: TokenArray, before: _Rendered) -> int:
        """The position behind a text that the ids begin with."""
        prefix = self._ids_of([before])[0]
        if len(prefix) >= len(ids) or not np.array_equal(ids[: len(prefix)], prefix):
            raise errors.InvalidRequestError(
                "a step's end merges with the mark behind it into one token; end the step otherwise, or "
                "have scorer.strip_steps set",
                field="conversation.messages[-1].content",
            )
        return len(prefix)

    def assembled(self, ids: TokenArray, text: str, reads: Sequence[int], steps: Sequence[tuple[int, int]] = ()) -> Encoding:
        """An encoding out of ids that a `Reading` put together.

        Raises:
            RewardError: too many of them, or some that the model has no embedding for.
        """
        if len(ids) > self.max_length:
            raise self._too_long(len(ids), "conversation")
        self._check_embedded(ids)
        return Encoding(ids, text, tuple(reads), tuple(steps))

    def tokenize(self, item: Item, options: ScoreOptions) -> TokenizeResult:
        """See `Reader`. Where scoring would refuse content that may be let through, it is shown all the same."""
        (outcome,) = self.encode([item], options)
        error = outcome if isinstance(outcome, errors.RewardError) else None
        if error is not None:
            lenient = replace(options, control_tokens=ControlTokens.ALLOW, foreign_markers=ForeignMarkers.ALLOW)
            (outcome,) = self.encode([item], lenient)
        return TokenizeResult(item.id, self._tokenization(item, outcome), error)

    def _tokenization(self, item: Item, outcome: Encoded) -> Tokenization | None:
        if isinstance(outcome, Parts):
            outcome = outcome.encodings[0]
        if isinstance(outcome, errors.RewardError):
            return None
        return Tokenization(
            rendered_text=outcome.text,
            ids=tuple(outcome.ids.tolist()),
            bos_count=self.bos_count(outcome.ids),
            control_tokens_in_content=self.control_tokens_in(item),
            foreign_markers_in_content=self.foreign_markers_in(item),
            truncated=outcome.truncated,
            read_positions=outcome.reads,
        )

    def notes(self) -> tuple[str, ...]:
        """See `Reader`."""
        notes = []
        if self.template is None and self.reading.scope != "texts":
            notes.append("the checkpoint has no chat template: only text and token ids can be scored")
        bos = self.files.special_tokens.get("bos_token")
        source = self.template.source if self.template is not None else ""
        if source and bos and self.settings.bos == "as_is" and "bos_token" not in source and bos not in source:
            notes.append(f"the template writes no {bos} and text.bos is as_is: the model reads none")
        if self.files.largest_id >= self.vocabulary_size:
            notes.append(f"the tokenizer has ids up to {self.files.largest_id}, the model {self.vocabulary_size} embeddings")
        if self.files.homeless_tokens:
            notes.append(f"tokens without a place in tokenizer.json, read as text: {', '.join(self.files.homeless_tokens[:5])}")
        if self.settings.bos == "double":
            notes.append(f"two {bos} tokens are read on purpose, as the model card's snippet does")
        return tuple(notes)

    def control_tokens_in(self, item: Item) -> tuple[str, ...]:
        """Control tokens inside the content of an item's messages, each once."""
        return self._scan_content(item, self.control_scan)

    def foreign_markers_in(self, item: Item) -> tuple[str, ...]:
        """Chat markers inside the content of an item's messages, each once."""
        if isinstance(item.input, str):
            return self.rendered_marker_scan.found(item.input)
        return self._scan_content(item, self.marker_scan)

    def bos_count(self, ids: Sequence[int] | TokenArray) -> int:
        """How many of the leading ids are the beginning-of-sequence token."""
        count = 0
        while count < len(ids) and ids[count] == self.files.bos_id:
            count += 1
        return count

    def _scan_content(self, item: Item, scan: MarkerScan) -> tuple[str, ...]:
        if not isinstance(item.input, Conversation):
            return ()
        return scan.found("\n".join(checks.spoken(message) for message in item.input.messages))

    # --- rendering ----------------------------------------------------------------------------------------------------

    def _render(self, item: Item, options: ScoreOptions) -> _Rendered | Encoded:
        try:
            if isinstance(item.input, Conversation):
                laid_out = self.reading.lay_out(item, self, options)
                return laid_out if laid_out is not None else self._render_conversation(item.input, options)
            if isinstance(item.input, TokenIds):
                return self._token_ids(item.input)
            if item.input:
                return self._rendered_text(item.input, options)
            raise errors.NoInputError("an item needs a conversation, text or token ids", field="input")
        except errors.RewardError as error:
            return error

    def _rendered_text(self, text: str, options: ScoreOptions) -> _Rendered:
        if options.control_tokens is ControlTokens.AS_TEXT:
            raise errors.InvalidRequestError(
                "control_tokens as_text concerns the content of messages; rendered text has its control tokens on purpose",
                field="options.control_tokens",
            )
        if options.foreign_markers is ForeignMarkers.REFUSE and (found := self.rendered_marker_scan.found(text)):
            raise errors.ForeignMarkersError(
                f"the text holds chat markers that this model's template does not write: {', '.join(found)}. Send messages, "
                "or set foreign_markers to allow",
                field="text",
            )
        return _Rendered(_encodable(text, "text"), 0.0, unframed=options.special_tokens is SpecialTokens.ADD)

    def _render_conversation(
        self,
        conversation: Conversation,
        options: ScoreOptions,
        *,
        may_ask: bool = False,
        generation_prompt: bool | None = None,
    ) -> _Rendered:
        if self.template is None:
            raise errors.TemplateRefusedError(
                "this model has no chat template; send text, or have text.template_file set", field="conversation"
            )
        self.check(conversation, options, may_ask=may_ask)
        start = time.perf_counter()
        marked = False
        if options.control_tokens is ControlTokens.AS_TEXT:
            conversation, marked = self._mark(conversation)
        conversation = checks.with_model_texts(conversation, self.settings)
        text = _encodable(self.template.render(conversation, generation_prompt=generation_prompt), "conversation")
        return _Rendered(text, time.perf_counter() - start, conversation, marked)

    def _mark(self, conversation: Conversation) -> tuple[Conversation, bool]:
        """Marks control tokens of the content; whether there were any."""
        found = False

        def mark(text: str) -> str:
            nonlocal found
            changed, count = self._with_marks(text)
            found = found or count > 0
            return changed

        marked = checks.map_texts(conversation, mark)
        if not found:
            return conversation, False
        self._check_independent()
        return marked, True

    def _with_marks(self, text: str) -> tuple[str, int]:
        """A text with its control tokens marked, and how many there are."""
        if _MARK_OPEN in text or _MARK_CLOSE in text:
            raise errors.ControlTokensError(
                "the content holds U+10FDD0 or U+10FDD1, which as_text needs for itself", field="conversation.messages"
            )
        return self.as_text_scan.pattern.subn(f"{_MARK_OPEN}\\g<0>{_MARK_CLOSE}", text)

    def _check_independent(self) -> None:
        if not self.files.segments_are_independent:
            raise errors.ControlTokensError(
                "this model's tokenizer cannot encode control tokens as text exactly; take them out of the content",
                field="options.control_tokens",
            )

    # --- encoding -----------------------------------------------------------------------------------------------------

    def ids_of(self, text: str) -> TokenArray:
        """The ids of a piece of text, as it stands: nothing added, control tokens recognised."""
        return self.encoder.encode([_encodable(text, "conversation")])[0]

    def _ids_of(self, rendered: Sequence[_Rendered]) -> list[TokenArray]:
        plain = iter(self.encoder.encode([one.text for one in rendered if not one.marked]))
        return [self._ids_with_marks(one.text) if one.marked else next(plain) for one in rendered]

    def _ids_with_marks(self, text: str) -> TokenArray:
        """Ids of a text with marks: what stands between a pair is characters, the rest is encoded as ever."""
        pieces = [piece or "" for piece in self._marked.split(text)]
        around = self.encoder.encode(pieces[::2])
        marked = [self.encoder.encode_plain(piece) for piece in pieces[1::2]]
        return np.concatenate([part for pair in zip_longest(around, marked) for part in pair if part is not None])

    def _fitted_or_error(self, rendered: _Rendered, ids: TokenArray, encode_seconds: float) -> Encoded:
        try:
            if rendered.unframed:
                ids = self.files.framed(ids)
            return self._fitted(rendered, ids, encode_seconds, read=True)
        except errors.RewardError as error:
            return error

    def _fitted(self, rendered: _Rendered, ids: TokenArray, encode_seconds: float, *, read: bool = False) -> Encoding:
        """The encoding after the BOS rule and the rule for what is too long.

        Args:
            read: whether the kind says which positions are read; else whoever asked does.
        """
        truncated = False
        ids = self.with_bos(ids)
        if len(ids) > self.max_length:
            rendered, ids = self._shortened(rendered, len(ids))
            truncated = True
        if not len(ids):
            raise errors.NoInputError("nothing is left to read after encoding", field="input")
        self._check_embedded(ids)
        reads = self.reading.positions(ids) if read else ()
        return Encoding(ids, rendered.text, reads, (), truncated, rendered.seconds, encode_seconds)

    def _check_embedded(self, ids: TokenArray) -> None:
        if self.files.largest_id >= self.vocabulary_size and ids.max() >= self.vocabulary_size:
            raise errors.TokenIdError(f"the text holds token {ids.max()}, and the model has {self.vocabulary_size} embeddings")

    def _too_long(self, length: int, field: str) -> errors.ConversationTooLongError:
        return errors.ConversationTooLongError(
            f"{length} tokens, and the model reads at most {self.max_length}",
            field=field,
            metadata={"token_count": str(length), "max_length": str(self.max_length)},
        )

    def _shortened(self, rendered: _Rendered, length: int) -> tuple[_Rendered, TokenArray]:
        """The conversation without as few of its oldest turns as make it fit, by bisection."""
        found: tuple[_Rendered, TokenArray] | None = None
        if self.settings.overlong == "drop_oldest_turns" and rendered.conversation is not None:
            few, many = 1, checks.turns(rendered.conversation) - 1
            while few <= many:
                middle = (few + many) // 2
                shorter = self._rendered_without(rendered, rendered.conversation, middle)
                ids = self.with_bos(self._ids_of([shorter])[0])
                if len(ids) <= self.max_length:
                    found, many = (shorter, ids), middle - 1
                else:
                    few = middle + 1
        if found is None:
            raise self._too_long(length, "conversation" if rendered.conversation is not None else "text")
        return found

    def _rendered_without(self, rendered: _Rendered, conversation: Conversation, turns: int) -> _Rendered:
        assert self.template is not None  # it rendered the whole conversation
        start = time.perf_counter()
        text = _encodable(self.template.render(checks.without_oldest_turns(conversation, turns)), "conversation")
        return replace(rendered, text=text, seconds=rendered.seconds + time.perf_counter() - start)

    def with_bos(self, ids: TokenArray) -> TokenArray:
        """The ids with as many leading BOS tokens as the settings say."""
        rule = self.settings.bos
        if rule == "as_is" or self.files.bos_id is None:
            return ids
        body = ids[self.bos_count(ids) :]
        wanted = {"none": 0, "single": 1, "double": 2}[rule]
        return np.concatenate([np.full(wanted, self.files.bos_id, dtype=np.int32), body])

    def _token_ids(self, tokens: TokenIds) -> Encoding:
        if tokens.tokenizer_digest != self.files.digest:
            raise errors.TokenizerMismatchError(
                f"the ids are of tokenizer {tokens.tokenizer_digest or '(none given)'}, this model's is {self.files.digest}",
                field="tokens.tokenizer_digest",
            )
        if not tokens.ids:
            raise errors.NoInputError("no token ids", field="tokens.ids")
        try:
            ids = np.asarray(tokens.ids, dtype=np.int32)
        except OverflowError as error:
            raise errors.TokenIdError(f"an id that has no place in 32 bits: {error}", field="tokens.ids") from error
        if ids.view(np.uint32).max() >= self.vocabulary_size:  # a negative id is a large unsigned one
            wrong = int(np.flatnonzero((ids < 0) | (ids >= self.vocabulary_size))[0])
            raise errors.TokenIdError(
                f"{tokens.ids[wrong]} is no id of this vocabulary of {self.vocabulary_size}", field=f"tokens.ids[{wrong}]"
            )
        if len(tokens.ids) > self.max_length:
            raise self._too_long(len(tokens.ids), "tokens.ids")
        return Encoding(ids, "", self.reading.positions(ids))
