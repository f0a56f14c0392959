"""What a kind is loaded from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from transformers import PreTrainedModel

from rm_grpc_server.config import ModelSettings, Settings, parse
from rm_grpc_server.errors import ConfigError, ModelLoadError
from rm_grpc_server.models.backbone import Backbone, Loading, Placement, load_backbone, load_encoder
from rm_grpc_server.models.checkpoint import Checkpoint
from rm_grpc_server.models.head_names import find_heads
from rm_grpc_server.models.heads import Head, load_head
from rm_grpc_server.models.readout import ClassifierReadout, HeadReadout, LogitReadout, Readout
from rm_grpc_server.models.weights import WeightFiles
from rm_grpc_server.text.tokenizer import TokenizerFiles

_S = TypeVar("_S", bound=Settings)
_LINEAR_SCORE = "score.weight"


@dataclass(frozen=True)
class KindSource:
    """A checkpoint, where it goes, and what its settings say; the parts of a scorer are loaded from here."""

    checkpoint: Checkpoint
    settings: ModelSettings
    placement: Placement

    def options(self, declared: type[_S]) -> _S:
        """The kind's options.

        Raises:
            ConfigError: naming those that the kind does not have.
        """
        return parse(declared, self.settings.scorer.options, "scorer")

    @cached_property
    def files(self) -> WeightFiles:
        """The checkpoint's tensors."""
        return WeightFiles(self.checkpoint)

    @cached_property
    def tokenizer(self) -> TokenizerFiles:
        """The checkpoint's tokenizer."""
        return TokenizerFiles(self.checkpoint.folder)

    def backbone(self, head: str) -> Backbone:
        """The decoder with a head of Transformers', or `none`; raises as `load_backbone`."""
        return load_backbone(self.checkpoint, self._loading(head), self.files)

    def encoder(self, head: str) -> PreTrainedModel:
        """A whole encoder with a head of Transformers', or `none`; raises as `load_encoder`."""
        if self.settings.deterministic:
            raise ConfigError("deterministic: goes without encoders, whose batches are padded to their longest conversation")
        return load_encoder(self.checkpoint, self._loading(head), self.files)

    def _loading(self, head: str) -> Loading:
        return Loading(head, self.settings.dtype, self.placement, self.settings.trust_remote_code)

    def head(self, name: str | None, backbone: Backbone) -> Head:
        """A head beside the decoder; raises as `load_head`."""
        config = self.checkpoint.config
        head = load_head(self.files, self.checkpoint.source, name=name, device=backbone.last_device, config=config)
        hidden = int(backbone.model.config.get_text_config().hidden_size)
        if head.inputs != hidden:
            raise ModelLoadError(
                f"{self.checkpoint.source}: the head {head.name} reads {head.inputs} numbers, the body gives {hidden}"
            )
        return head

    @property
    def _is_plain_classifier(self) -> bool:
        """Whether Transformers' own class reads all of the head: what it would leave out, such as a bias, is read natively."""
        names = self.files.names
        return (
            self.checkpoint.architecture.endswith("ForSequenceClassification")
            and _LINEAR_SCORE in names
            and find_heads(names) == ["score"]
            and "score.bias" not in names
            and not self.checkpoint.config.get("do_normalize")
        )

    def head_readout(self, name: str | None) -> Readout:
        """The outcome head: Transformers' own where the checkpoint is one of its classifiers, else the one in the file."""
        if name is None and self._is_plain_classifier:
            return ClassifierReadout(self.backbone("sequence_classification"), self.checkpoint.source)
        backbone = self.backbone("none")
        head = self.head(name, backbone)
        return HeadReadout(backbone, head, head.outputs)

    def logit_readout(self, token_ids: tuple[int, ...], *, among_all: bool = False) -> LogitReadout:
        """Logits of some tokens."""
        return LogitReadout(self.backbone("causal_lm"), token_ids, among_all=among_all)

    def token_ids(self, ids: tuple[int, ...], texts: tuple[str, ...]) -> tuple[int, ...]:
        """The ids that `token_ids` gives, or those of the texts of `tokens`; raises as `TokenizerFiles.only_id`."""
        return ids or tuple(self.tokenizer.only_id(text, "scorer.tokens") for text in texts)

    def described(self, kind: str, options: Settings) -> Mapping[str, Any]:
        """What was asked of the kind, for the model's digest and description."""
        return {"kind": kind, **options.model_dump(mode="json")}
