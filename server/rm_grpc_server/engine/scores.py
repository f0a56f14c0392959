"""From what a scorer says to the score that a caller gets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from rm_grpc.errors import RewardError, ScoreNotFiniteError
from rm_grpc.types import Score, ScoreOptions, StepScore, Timing, Verdict
from rm_grpc_server.config import Normalization
from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.messages import Stages
from rm_grpc_server.scoring.arithmetic import activate, is_float32
from rm_grpc_server.text.encoding import Encoding


@dataclass(frozen=True, slots=True)
class Scoring:
    """How the verdicts of one model become scores."""

    model_digest: str
    normalization: Normalization | None = None

    def of(self, entry: Entry, verdict: Verdict, shared_tokens: int, stages: Stages) -> Score | RewardError:
        """An entry's score."""
        encoding = entry.encoding
        assert encoding is not None
        used = self._used(verdict.raw_score, entry.options)
        if (wrong := _not_finite(used, verdict)) is not None:
            return wrong
        return Score(
            score=used,
            raw_score=verdict.raw_score,
            model_digest=self.model_digest,
            token_count=len(encoding.ids) if encoding.request is None else 0,
            activation=entry.options.activation,
            truncated=encoding.truncated,
            shared_prefix_tokens=shared_tokens,
            attributes=verdict.attributes,
            steps=_placed(verdict.steps, encoding),
            timing=Timing(
                text_queue=entry.text_started - entry.accepted,
                render=encoding.render_seconds,
                encode=encoding.encode_seconds,
                queue=max(0.0, stages.started - entry.queued),
                forward=stages.ended - stages.started,
            ),
        )

    def together(
        self, options: ScoreOptions, parts: Sequence[Score], combine: Callable[[Sequence[Verdict]], Verdict]
    ) -> Score | RewardError:
        """The score of an item that was read in several parts."""
        verdict = combine([Verdict(part.raw_score, part.attributes, part.steps) for part in parts])
        used = self._used(verdict.raw_score, options)
        if (wrong := _not_finite(used, verdict)) is not None:
            return wrong
        slowest = max(parts, key=lambda part: part.timing.queue + part.timing.forward)
        return replace(
            slowest,
            model_digest=self.model_digest,
            score=used,
            raw_score=verdict.raw_score,
            token_count=sum(part.token_count for part in parts),
            activation=options.activation,
            truncated=any(part.truncated for part in parts),
            shared_prefix_tokens=sum(part.shared_prefix_tokens for part in parts),
            attributes=verdict.attributes,
            steps=verdict.steps,
        )

    def _used(self, raw_score: float, options: ScoreOptions) -> float:
        normalised: float = self.normalization.of(raw_score) if self.normalization else raw_score
        return activate(normalised, options.activation)


def _not_finite(used: float, verdict: Verdict) -> ScoreNotFiniteError | None:
    """The error where a number would not arrive as one."""
    if is_float32(used) and is_float32(verdict.raw_score) and not (verdict.attributes or verdict.steps):
        return None
    wrong = next(((name, value) for name, value in _numbers(used, verdict) if not is_float32(value)), None)
    return None if wrong is None else ScoreNotFiniteError(f"{wrong[0]} is {wrong[1]}, which is no finite float32")


def _numbers(used: float, verdict: Verdict) -> Iterator[tuple[str, float]]:
    yield "the score", used
    yield "the raw score", verdict.raw_score
    yield from verdict.attributes.items()
    for at, step in enumerate(verdict.steps):
        yield f"step {at}", step.score


def _placed(steps: tuple[StepScore, ...], encoding: Encoding) -> tuple[StepScore, ...]:
    """The steps with where each was read and the characters that it judges, which the replica does not know."""
    if not steps or encoding.request is not None:
        return steps
    spans = encoding.steps or ((0, 0),) * len(steps)
    return tuple(
        replace(step, token_offset=at, char_start=start, char_end=end)
        for step, at, (start, end) in zip(steps, encoding.reads, spans, strict=True)
    )
