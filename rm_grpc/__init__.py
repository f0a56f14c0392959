"""The contract of rm-grpc: its values, its errors, and the generated messages under `rm_grpc.v1`."""

from rm_grpc.errors import RewardError
from rm_grpc.types import (
    Activation,
    ControlTokens,
    Conversation,
    ForeignMarkers,
    Item,
    Message,
    ModelInfo,
    Result,
    Score,
    ScoreOptions,
    SpecialTokens,
    StepScore,
    TokenIds,
    ToolCall,
    Verdict,
)

__all__ = [
    "Activation",
    "ControlTokens",
    "Conversation",
    "ForeignMarkers",
    "Item",
    "Message",
    "ModelInfo",
    "Result",
    "RewardError",
    "Score",
    "ScoreOptions",
    "SpecialTokens",
    "StepScore",
    "TokenIds",
    "ToolCall",
    "Verdict",
]
