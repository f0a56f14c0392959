"""Runs two models over the same packed batch: how much likelier the policy finds each response than the reference does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from rm_grpc.errors import ScoreNotFiniteError
from rm_grpc.types import Verdict
from rm_grpc_server.models.backbone import Backbone, PlacedBatch
from rm_grpc_server.models.packed import pack
from rm_grpc_server.models.readout import LanguageHead, one_conversation
from rm_grpc_server.scoring.packing import Packing
from rm_grpc_server.scoring.proof import largest_difference, probes
from rm_grpc_server.scoring.protocols import BatchOutcome, ImplicitPair, Outcome, ScorerDescription
from rm_grpc_server.scoring.running import not_packed_rightly, within_memory
from rm_grpc_server.text.encoding import Tokens

_ROWS = 256
"""Positions whose logits are at hand at a time: each row is as long as the vocabulary."""
POLICY_LOGP, REFERENCE_LOGP = "policy_logp", "reference_logp"


@dataclass(frozen=True, slots=True)
class _Prepared:
    placed: tuple[PlacedBatch, PlacedBatch]
    targets_R: Tensor


@dataclass(frozen=True, slots=True)
class _Launched:
    prepared: _Prepared
    sums_2C: Tensor


class ImplicitScorer:
    """See `ReplicaScorer`: score = beta * (log p(response | policy) - log p(response | reference)).

    The formula is DPO's implicit reward (Rafailov et al., Direct Preference Optimization, 2023, equation 5, without the term
    that depends on the prompt alone).
    """

    def __init__(self, pair: ImplicitPair, packing: Packing) -> None:
        self.scorer = pair
        self._packing = packing
        self._heads = [LanguageHead(backbone) for backbone in pair.backbones]
        policy = pair.backbones[0]
        self.description = ScorerDescription(
            kind=pair.kind,
            reading=pair.reading,
            dtype=policy.dtype,
            device=str(policy.device),
            vocabulary_size=min(one.vocabulary_size for one in pair.backbones),
            settings=pair.settings,
            attribute_names=(POLICY_LOGP, REFERENCE_LOGP),
            notes=policy.notes,
        )

    def prepare(self, conversations: Sequence[Tokens], /) -> _Prepared:
        """Packs a batch and begins its copy to the device."""
        batch = pack([one.ids for one in conversations], [one.reads for one in conversations], share=self._packing.share)
        targets = np.concatenate([one.ids[np.array(one.reads) + 1] for one in conversations])
        policy, reference = (backbone.place(batch) for backbone in self.scorer.backbones)
        return _Prepared((policy, reference), torch.from_numpy(targets.astype(np.int64)))

    def launch(self, prepared: _Prepared, /) -> _Launched:
        """Both forward passes.

        Raises:
            MemoryError: the device has not enough memory for this batch.
        """
        return within_memory(lambda: self._launch(prepared))

    def _launch(self, prepared: _Prepared) -> _Launched:
        both = zip(self.scorer.backbones, self._heads, prepared.placed, strict=True)
        return _Launched(prepared, torch.stack([self._sums(*one, prepared.targets_R) for one in both]))

    @torch.inference_mode()
    def _sums(self, backbone: Backbone, head: LanguageHead, placed: PlacedBatch, targets_R: Tensor) -> Tensor:
        """The summed log-probability of each conversation's response, [conversations]; the packed row's states are shared."""
        batch = placed.batch
        hidden_UH = backbone.hidden_rows(placed)
        reads_R = torch.from_numpy(batch.reads_R).to(hidden_UH.device)
        targets_R = targets_R.to(hidden_UH.device)
        parts = []
        for start in range(0, len(reads_R), _ROWS):
            rows = slice(start, start + _ROWS)
            parts.append(head.log_probs(hidden_UH[reads_R[rows]], targets_R[rows]))
        values_R = torch.cat(parts).double()
        ends = list(accumulate(batch.reads_per_conversation, initial=0))
        return torch.stack([values_R[start:end].sum() for start, end in pairwise(ends)]).cpu()

    def finish(self, launched: _Launched, /) -> BatchOutcome:
        """The verdicts."""
        batch = launched.prepared.placed[0].batch
        policies, references = launched.sums_2C.tolist()
        outcomes = [self._judged(*both) for both in zip(policies, references, strict=True)]
        return BatchOutcome(outcomes, batch.shared_tokens, batch.tokens)

    def score(self, conversations: Sequence[Tokens]) -> list[Outcome]:
        """One outcome a conversation; all three stages in turn."""
        return list(self.finish(self.launch(self.prepare(conversations))).outcomes)

    def reference(self, tokens: Tokens) -> Verdict:
        """The verdict as it is computed the plain way: both whole models on one conversation, unpacked."""
        targets = torch.from_numpy(tokens.ids[np.array(tokens.reads) + 1].astype(np.int64))[:, None]
        sums = []
        for backbone in self.scorer.backbones:
            with backbone.plain_attention() as model:
                logits = model(input_ids=one_conversation(tokens.ids, backbone), use_cache=False).logits[0, list(tokens.reads)]
                sums.append(float(logits.float().cpu().log_softmax(dim=1).gather(1, targets).double().sum()))
        return self._verdict(*sums)

    def check_against_reference(self) -> float:
        """See `PackedScorer.check_against_reference`.

        Raises:
            ModelLoadError: the packed numbers differ from the plain ones by more than rounding.
        """
        policy = self.scorer.backbones[0]
        given = probes(self.scorer.reading, self.description.vocabulary_size, policy.model.config)
        expected = [value for one in given for value in self.reference(one).attributes.values()]
        found = self.launch(self.prepare(given)).sums_2C.T.flatten().tolist()
        return largest_difference(found, expected, dtype=policy.dtype, fault=not_packed_rightly(policy))

    def _judged(self, policy: float, reference: float) -> Outcome:
        if math.isfinite(policy) and math.isfinite(reference):
            return self._verdict(policy, reference)
        return ScoreNotFiniteError(f"the policy gave {policy} and the reference {reference}")

    def _verdict(self, policy: float, reference: float) -> Verdict:
        return Verdict(self.scorer.beta * (policy - reference), {POLICY_LOGP: policy, REFERENCE_LOGP: reference})
