"""From a model's settings to its naive path, for whoever wants to hold the service's numbers against it.

Nothing of the engine takes part, so that a fault there cannot hide itself. The text side is made anew from the same settings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from rm_grpc.errors import RewardError
from rm_grpc.types import Item, ModelInfo, ScoreOptions, Verdict
from rm_grpc_server.config import ModelSettings, ServerSettings
from rm_grpc_server.engine.devices import CPU, count_gpus, plan_replicas
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.opening.packed import ModelSource
from rm_grpc_server.presets import resolve
from rm_grpc_server.scoring.registry import ENSEMBLE, takes_requests
from rm_grpc_server.text.encoding import Encoding, Parts
from rm_grpc_server.text.pipeline import TextPipeline

if TYPE_CHECKING:
    from rm_grpc_server.scoring.naive import NaiveScorer


class NaiveModel:
    """A model that scores one conversation at a time.

    Attributes:
        info: what it is, with the same digests as a server's model of the same files and settings.
    """

    def __init__(self, info: ModelInfo, text: TextPipeline, scorer: NaiveScorer) -> None:
        self.info = info
        self._text = text
        self._scorer = scorer

    @classmethod
    def open(
        cls, settings: ModelSettings, server: ServerSettings, devices: tuple[str, ...], *, in_double: bool = False
    ) -> NaiveModel:
        """Loads the model here. Blocking.

        Args:
            devices: cpu, or all GPUs that this process sees.
            in_double: see `load_naive`.

        Raises:
            StartupError: there is no naive path for its kind, or it cannot be loaded.
        """
        from rm_grpc_server.scoring.naive import load_naive  # imports torch, which `check_naive` must not wait for

        check_naive(settings)
        source = ModelSource.open(settings)
        scorer = load_naive(source.checkpoint, source.settings, devices, in_double=in_double)
        info, text = source.described(scorer.description, server)
        return cls(info, text, scorer)

    def outcomes(self, items: Iterable[Item]) -> Iterator[Verdict | RewardError]:
        """One outcome an item, in order."""
        for item in items:
            (encoded,) = self._text.encode([item], ScoreOptions())
            yield encoded if isinstance(encoded, RewardError) else self._outcome(encoded)

    def _outcome(self, encoded: Encoding | Parts) -> Verdict | RewardError:
        if isinstance(encoded, Parts):
            return self._together(encoded)
        work = encoded.work
        assert not isinstance(work, Item)  # kinds of whole items were refused
        return self._scorer.verdict(work)

    def _together(self, parts: Parts) -> Verdict | RewardError:
        verdicts: list[Verdict] = []
        for encoding in parts.encodings:
            outcome = self._outcome(encoding)
            if isinstance(outcome, RewardError):
                return outcome
            verdicts.append(outcome)
        return parts.combine(verdicts)


def naive_devices(settings: ModelSettings) -> tuple[str, ...]:
    """Where the naive path of a model runs: on its first replica's devices, with whole layers on each. Nothing is claimed, for
    whoever verifies a running server may have them share a device; what has not enough room is refused when it loads.

    Raises:
        StartupError: there are no such devices here.
    """
    devices = plan_replicas(settings.devices, 0, count_gpus())[0]
    return CPU if devices[0] == "cpu" else devices  # several of the CPU are for tensor parallelism


def check_naive(settings: ModelSettings) -> None:
    """Whether a model has a naive path at all; nothing is loaded.

    Raises:
        ConfigError: its kind reads no tokens here, so that there is nothing to compute another way.
    """
    resolved, _ = resolve(settings)
    kind = resolved.scorer.kind
    if kind == ENSEMBLE or takes_requests(resolved):
        told = "asks other models" if kind == ENSEMBLE else "takes whole items"
        advice = "verify the models that it asks, one by one" if kind == ENSEMBLE else "it is right when its own tests say so"
        raise ConfigError(
            f"scorer.kind: {kind} {told} and computes no forward pass here, so that {settings.served_name} has no naive path "
            f"to be held against; {advice}"
        )
    if not resolved.path:
        raise ConfigError(f"path: {settings.served_name} needs a checkpoint")
