"""A model that asks other models of the same server, and makes one score of theirs."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace

from rm_grpc import errors
from rm_grpc.types import Activation, Item, ModelInfo, Score, ScoreOptions, TokenizeResult, Verdict
from rm_grpc_server.config import Normalization
from rm_grpc_server.engine.engine import STOPPED, Engine
from rm_grpc_server.engine.entry import Entry, Outcome
from rm_grpc_server.engine.parts import join
from rm_grpc_server.engine.scores import Scoring
from rm_grpc_server.scoring.kinds.ensemble import Options


class EnsembleEngine:
    """See `Engine`.

    Args:
        info: the ensemble's description.
        options: its components and how they are combined.
        engines: those of the components' models, by the components' names; owned by whoever made them.
        normalization: turns its raw scores into scores.
    """

    def __init__(
        self, info: ModelInfo, options: Options, engines: Mapping[str, Engine], normalization: Normalization | None = None
    ) -> None:
        self.info = info
        self.on_health: Callable[[bool], None] = lambda _: None
        self._options = options
        self._engines = engines
        self._scoring = Scoring(info.model_digest, normalization)
        self._open: set[Entry] = set()
        self._is_closed = False

    @property
    def is_healthy(self) -> bool:
        """Whether all components are."""
        return all(engine.is_healthy for engine in self._engines.values())

    @property
    def fill(self) -> float:
        """That of the fullest component."""
        return max(engine.fill for engine in self._engines.values())

    def submit(
        self,
        items: Sequence[Item],
        options: ScoreOptions,
        *,
        timeout: float | None = None,
        stream: Hashable = None,
        sizes: Sequence[int] = (),
    ) -> list[Entry]:
        """See `Engine`."""
        now = time.monotonic()
        entries = [Entry(item, options, None, now, stream) for item in items]
        if self._is_closed:
            for entry in entries:
                entry.resolve(STOPPED)
            return entries
        raw = replace(options, activation=Activation.NONE)
        # A model is asked once, however often it counts; its first component tells of its errors.
        distinct = {engine: name for name, engine in reversed(list(self._engines.items()))}
        asked = [engine.submit(items, raw, timeout=timeout, stream=stream, sizes=sizes) for engine in distinct]
        names = list(distinct.values())
        places = [list(distinct).index(engine) for engine in self._engines.values()]
        for entry, children in zip(entries, zip(*asked, strict=True), strict=True):
            self._open.add(entry)
            entry.watch(self._over)
            join(entry, children, lambda scores, entry=entry: self._together(entry, [scores[at] for at in places]), names=names)  # type: ignore[misc]  # mypy cannot infer lambdas with defaults
        return entries

    async def tokenize(self, items: Sequence[Item], options: ScoreOptions) -> list[TokenizeResult]:
        """See `Engine`: each component reads its own tokens, and is asked for them by its own name."""
        del options
        names = ", ".join(engine.info.name for engine in self._engines.values())
        told = errors.InvalidRequestError(f"an ensemble reads nothing itself; ask {names}", field="model")
        return [TokenizeResult(item.id, None, told) for item in items]

    async def close(self) -> None:
        """See `Engine`; the components are closed by whoever made them."""
        self._is_closed = True
        for entry in list(self._open):
            entry.resolve(STOPPED)

    def _over(self, entry: Entry, outcome: Outcome) -> None:
        del outcome
        self._open.discard(entry)

    def _together(self, entry: Entry, scores: Sequence[Score]) -> Score | errors.RewardError:
        used = [replace(score, raw_score=score.score) for score in scores]
        return self._scoring.together(entry.options, used, self._combined)

    def _combined(self, verdicts: Sequence[Verdict]) -> Verdict:
        """See `Parts.combine`; here the verdicts' raw scores are the components' scores."""
        scores: dict[str, float] = {}
        attributes: dict[str, float] = {}
        for (name, component), verdict in zip(self._options.components.items(), verdicts, strict=True):
            normalize = component.normalize
            scores[name] = attributes[name] = normalize.of(verdict.raw_score) if normalize else verdict.raw_score
            attributes |= {f"{name}.{key}": value for key, value in verdict.attributes.items()}
        return Verdict(self._options.combined(scores), attributes)
