"""Runs a scorer of an encoder over padded batches, and proves at load that padding and neighbours change nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from rm_grpc.types import Verdict
from rm_grpc_server.models.encoder import PaddedBatch
from rm_grpc_server.models.streams import Mark, Streams
from rm_grpc_server.scoring.proof import largest_difference, probes
from rm_grpc_server.scoring.protocols import BatchOutcome, EncoderScorer, Outcome, ScorerDescription
from rm_grpc_server.scoring.running import judged, within_memory
from rm_grpc_server.text.encoding import Tokens


@dataclass(frozen=True, slots=True)
class _Prepared:
    batch: PaddedBatch
    copied: Mark


@dataclass(frozen=True, slots=True)
class _Launched:
    values_BV: Tensor
    tokens: int
    there: Mark


class PaddedScorer:
    """A scorer of an encoder as a replica runs it; see `ReplicaScorer`."""

    def __init__(self, scorer: EncoderScorer) -> None:
        self.scorer = scorer
        encoder = scorer.encoder
        self._streams = Streams(encoder.device)
        self.description = ScorerDescription(
            kind=scorer.kind,
            reading=scorer.reading,
            dtype=encoder.dtype,
            device=str(encoder.device),
            vocabulary_size=encoder.vocabulary_size,
            settings=scorer.settings,
            attribute_names=scorer.attribute_names,
            notes=encoder.notes,
        )

    def prepare(self, conversations: Sequence[Tokens], /) -> _Prepared:
        """Pads a batch and begins its copy to the device."""
        with self._streams.copy_in():
            batch = self.scorer.encoder.place([one.ids for one in conversations], [one.reads for one in conversations])
            return _Prepared(batch, self._streams.mark())

    def launch(self, prepared: _Prepared, /) -> _Launched:
        """The forward pass.

        Raises:
            MemoryError: the device has not enough memory for this batch.
        """
        return within_memory(lambda: self._launch(prepared))

    def _launch(self, prepared: _Prepared) -> _Launched:
        with self._streams.compute():
            prepared.copied.hold_back()
            batch = prepared.batch
            for tensor in (batch.input_ids_BT, batch.mask_BT, batch.reads_R2):
                self._streams.lend(tensor)
            values_BV = self.scorer.encoder.values(batch)
            computed = self._streams.mark()
        with self._streams.copy_out():
            computed.hold_back()
            return _Launched(self._streams.to_host(values_BV), batch.tokens, self._streams.mark())

    def finish(self, launched: _Launched, /) -> BatchOutcome:
        """Waits for the values and reads them; a score that is not finite is that conversation's error."""
        launched.there.reached()
        judge, dtype = self.scorer.judge, self.scorer.encoder.dtype
        outcomes = [judged(judge, [row], dtype) for row in launched.values_BV.tolist()]
        return BatchOutcome(outcomes, [0] * len(outcomes), launched.tokens)

    def score(self, conversations: Sequence[Tokens]) -> list[Outcome]:
        """One outcome a conversation; all three stages in turn."""
        return list(self.finish(self.launch(self.prepare(conversations))).outcomes)

    def reference(self, tokens: Tokens) -> Verdict:
        """The verdict of a conversation by itself, without any padding; its score may be no finite number."""
        encoder = self.scorer.encoder
        return self.scorer.judge(encoder.values(encoder.place([tokens.ids], [tokens.reads])).tolist())

    def check_against_reference(self) -> float:
        """Scores a few random conversations together and one at a time.

        Returns:
            The largest difference, relative to the score, or to the spread of the probes' scores, where these are above 1.

        Raises:
            ModelLoadError: the numbers differ by more than rounding: padding is not masked out rightly.
        """
        encoder = self.scorer.encoder
        given = probes(self.scorer.reading, encoder.vocabulary_size, encoder.model.config)
        expected = [value for one in given for value in self._values([one])]
        fault = f"this architecture ({type(encoder.model).__name__}) does not mask padding rightly, and is not served"
        return largest_difference(self._values(given), expected, dtype=encoder.dtype, fault=fault)

    def _values(self, conversations: Sequence[Tokens]) -> list[float]:
        launched = self.launch(self.prepare(conversations))
        launched.there.reached()
        values: list[float] = launched.values_BV.flatten().tolist()
        return values
