"""Runs a scorer over packed batches, and proves at load that it gives the reference's numbers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, islice

import torch
from torch import Tensor

from rm_grpc.types import Verdict
from rm_grpc_server.errors import ModelLoadError
from rm_grpc_server.models.backbone import PlacedBatch
from rm_grpc_server.models.packed import FixedShape, pack
from rm_grpc_server.models.prefix_store import Found, PrefixStore
from rm_grpc_server.models.streams import Mark, Streams
from rm_grpc_server.scoring.packing import Packing
from rm_grpc_server.scoring.proof import largest_difference, probes
from rm_grpc_server.scoring.protocols import BatchOutcome, BatchScorer, Outcome, ScorerDescription
from rm_grpc_server.scoring.running import judged, not_packed_rightly, within_memory
from rm_grpc_server.text.encoding import Tokens

_RESERVED_PER_WEIGHT = 8
"""Bytes of memory for stored prefixes that are made ready at load for each of the weights': small models need little speed."""
_MOST_RESERVED = 2**29
"""Bytes; a replica's malloc gives blocks of twice that back to the system."""


@dataclass(frozen=True, slots=True)
class _Prepared:
    placed: PlacedBatch
    copied: Mark
    found: Found


@dataclass(frozen=True, slots=True)
class _Launched:
    prepared: _Prepared
    values_UV: Tensor
    there: Mark


class PackedScorer:
    """A scorer as a replica runs it; see `ReplicaScorer`."""

    def __init__(self, scorer: BatchScorer, packing: Packing = Packing()) -> None:  # noqa: B008 - frozen
        self.scorer = scorer
        self._packing = packing
        self._streams = Streams(scorer.backbone.device, is_spread=scorer.backbone.is_spread)
        self._store = PrefixStore(packing.stored_prefix_bytes) if packing.stored_prefix_bytes else None
        backbone = scorer.backbone
        if self._store is not None and backbone.device.type == "cpu":
            self._store.reserve(min(_RESERVED_PER_WEIGHT * backbone.model.get_memory_footprint(), _MOST_RESERVED))
        self.description = ScorerDescription(
            kind=scorer.kind,
            reading=scorer.reading,
            dtype=backbone.dtype,
            device=str(backbone.device),
            vocabulary_size=backbone.vocabulary_size,
            settings=scorer.settings,
            attribute_names=scorer.attribute_names,
            notes=backbone.notes,
        )

    def prepare(self, conversations: Sequence[Tokens], /) -> _Prepared | Sequence[Tokens]:
        """Packs a batch and begins its copy to the device.

        Where prompts are kept, that waits for `launch`: the batch in work may be about to keep the one that this batch needs.
        """
        return conversations if self._store is not None else self._packed(conversations)

    def _packed(self, conversations: Sequence[Tokens]) -> _Prepared:
        ids, reads = [one.ids for one in conversations], [one.reads for one in conversations]
        fixed = self._packing.fixed_tokens
        shape = FixedShape.of(max(len(one) for one in ids), fixed) if fixed else None
        found = self._store.find(ids, [places[0] for places in reads]) if self._store else Found()
        batch = pack(ids, reads, share=self._packing.share, stored=found.prefixes, fixed=shape)
        with torch.inference_mode(), self._streams.copy_in():
            placed = self.scorer.backbone.place(batch, found.keys, keep=self._store is not None)
            return _Prepared(placed, self._streams.mark(), found)

    def launch(self, prepared: _Prepared | Sequence[Tokens], /) -> _Launched:
        """The forward pass. Where memory is short, stored prompts are given up for it.

        Raises:
            MemoryError: the device has not enough memory for this batch.
        """
        try:
            return self.launch_once(prepared)
        except MemoryError:
            if self._store is None or not self._store.clear():
                raise
        return self.launch_once(prepared)

    def launch_once(self, prepared: _Prepared | Sequence[Tokens], /) -> _Launched:
        """The same without a second try, for ranks that must stay in step."""
        return within_memory(lambda: self._launch(prepared if isinstance(prepared, _Prepared) else self._packed(prepared)))

    def _launch(self, prepared: _Prepared) -> _Launched:
        streams, placed = self._streams, prepared.placed
        with torch.inference_mode():
            with streams.compute():
                prepared.copied.hold_back()
                streams.lend(placed.input_ids_T)
                streams.lend(placed.position_ids_T)
                values_UV = self.scorer.readout(self.scorer.backbone.hidden_rows(placed))
                if self._store is not None:
                    self._store.keep(placed.batch, placed.attending.kept, prepared.found)
                computed = streams.mark()
            with streams.copy_out():
                computed.hold_back()
                return _Launched(prepared, streams.to_host(values_UV), streams.mark())

    def finish(self, launched: _Launched, /) -> BatchOutcome:
        """Waits for the values and reads them; a score that is not finite is that conversation's error."""
        batch = launched.prepared.placed.batch
        judge, dtype = self.scorer.judge, self.scorer.backbone.dtype
        outcomes = [judged(judge, values, dtype) for values in self._read(launched)]
        return BatchOutcome(outcomes, batch.shared_tokens, batch.tokens)

    @staticmethod
    def _read(launched: _Launched) -> list[list[list[float]]]:
        """What was read of each conversation: a row of values for each of its reads."""
        launched.there.reached()
        batch = launched.prepared.placed.batch
        rows = iter(launched.values_UV[torch.from_numpy(batch.reads_R)].tolist())
        return [list(islice(rows, count)) for count in batch.reads_per_conversation]

    def score(self, conversations: Sequence[Tokens]) -> list[Outcome]:
        """One outcome a conversation; all three stages in turn."""
        return list(self.finish(self.launch(self.prepare(conversations))).outcomes)

    def reference(self, tokens: Tokens) -> Verdict:
        """The verdict as the model card gets it; its score may be no finite number."""
        return self.scorer.judge(self.scorer.readout.reference(tokens.ids, tokens.reads).tolist())

    def check_against_reference(self) -> float:
        """Scores a few random conversations packed together and through the whole Transformers model one at a time.

        Half of them begin alike, so that the sharing is checked too. Where shapes are fixed they are scored as they
        would be.

        Returns:
            The largest difference, relative to the score, or to the spread of the probes' scores, where these are above 1.

        Raises:
            ModelLoadError: the numbers differ by more than rounding: this architecture is not computed rightly when packed.
        """
        backbone, given = self.scorer.backbone, self._probes()
        expected = [self.scorer.readout.reference(one.ids, one.reads).tolist() for one in given]
        fits = not self._packing.fixed_tokens or sum(len(one.ids) for one in given) < self._packing.fixed_tokens
        batches = [given] if fits else [[one] for one in given]
        found = chain.from_iterable(self._read(self.launch_once(self.prepare(batch))) for batch in batches)
        return largest_difference(_flat(found), _flat(expected), dtype=backbone.dtype, fault=not_packed_rightly(backbone))

    def _probes(self) -> list[Tokens]:
        backbone = self.scorer.backbone
        return probes(self.scorer.reading, backbone.vocabulary_size, backbone.model.config)

    def check_bits(self) -> None:
        """Proves, where shapes are fixed, that a probe's bits do not depend on its place in the row.

        Raises:
            ModelLoadError: they do. Mixtures of experts are such models: an expert's batch depends on the neighbours.
        """
        if not self._packing.fixed_tokens:
            return
        backbone = self.scorer.backbone
        probe, *others = self._probes()[:4]
        alone = self.score([probe])
        for place in range(1, 4):
            beside = self.score([*others[:place], probe, *others[place:]])
            if beside[place] != alone[0]:
                raise ModelLoadError(
                    f"deterministic: the bits of {type(backbone.model).__name__}'s scores depend on what they are batched "
                    "with, in spite of fixed shapes; it cannot be served deterministically here"
                )


def _flat(conversations: Iterable[Iterable[Iterable[float]]]) -> list[float]:
    return list(chain.from_iterable(chain.from_iterable(conversations)))
