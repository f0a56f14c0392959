"""What the model would read of a small conversation, with the settings that are proposed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tokenizers import Tokenizer

from rm_grpc.errors import RewardError
from rm_grpc.types import ControlTokens, Conversation, ForeignMarkers, Item, Message, ScoreOptions
from rm_grpc_server.config import TextSettings
from rm_grpc_server.errors import ConfigError
from rm_grpc_server.inspection.evidence import Evidence
from rm_grpc_server.inspection.findings import Probe
from rm_grpc_server.inspection.template_facts import ANSWER, QUESTION
from rm_grpc_server.scoring.kinds import process_reward
from rm_grpc_server.text.encoding import Encoding, Parts, Reading
from rm_grpc_server.text.pairs import Candidates, TextPair
from rm_grpc_server.text.pipeline import TextPipeline
from rm_grpc_server.text.reading import GateReading, LastToken
from rm_grpc_server.text.tokenizer import TokenizerFiles

_RIVAL = "1+1=3"
_ALLOW = ScoreOptions(ControlTokens.ALLOW, ForeignMarkers.ALLOW)


def probe(evidence: Evidence, kind: str, settings: Mapping[str, Any]) -> Probe:
    """Renders, encodes and looks where it would be read.

    Args:
        settings: raw values of `ModelSettings`.
    """
    files = evidence.tokenizer
    if files is None:
        return Probe(fault=evidence.tokenizer_fault)
    try:
        pipeline = TextPipeline(
            files,
            TextSettings.model_validate(settings.get("text", {})),
            _reading(evidence, files, kind, settings.get("scorer", {})),
            model_max_length=evidence.checkpoint.max_length,
            vocabulary_size=evidence.embedding_rows,
        )
    except ConfigError as error:
        return Probe(fault=str(error), is_refused=True)
    conversation = Conversation((Message("user", QUESTION), Message("assistant", ANSWER)))
    (read,) = pipeline.encode([Item("", conversation, metadata={"rival": _RIVAL})], _ALLOW)
    if isinstance(read, RewardError):
        return Probe(fault=str(read))
    one = read.encodings[0] if isinstance(read, Parts) else read
    return _told(files, pipeline, one)


def _told(files: TokenizerFiles, pipeline: TextPipeline, read: Encoding) -> Probe:
    tokenizer = Tokenizer.from_str(files.serialized)
    ids = tuple(read.ids.tolist())
    tokens = tuple(tokenizer.decode([one], skip_special_tokens=False) or tokenizer.id_to_token(one) or "" for one in ids)
    return Probe(read.text, ids, tokens, pipeline.bos_count(read.ids), read.reads)


def _reading(evidence: Evidence, files: TokenizerFiles, kind: str, scorer: Mapping[str, Any]) -> Reading:
    if kind == "process_reward":
        # Unchecked: what is left to be decided does not say where it reads.
        return process_reward.reading_of(process_reward.Options.model_construct(**scorer), files)
    if kind == "cross_encoder":
        return TextPair()
    if kind == "pairwise" and evidence.checkpoint.is_encoder:
        return Candidates.of(evidence.config, files)
    if kind == "gated_multi" and scorer.get("gate_pattern"):
        return GateReading(tuple(scorer["gate_pattern"]))
    skip = evidence.config.get("pad_token_id") if scorer.get("pooling") == "last_non_pad" else None
    return LastToken(skip)
