"""The Python client of rm-grpc: needs grpcio and protobuf only, on Python 3.10 and later."""

from rm_grpc import (
    Activation,
    ControlTokens,
    Conversation,
    ForeignMarkers,
    Item,
    Message,
    ModelInfo,
    Result,
    RewardError,
    Score,
    ScoreOptions,
    SpecialTokens,
    TokenIds,
    ToolCall,
)
from rm_grpc_client.aio import AsyncRewardClient
from rm_grpc_client.client import RewardClient
from rm_grpc_client.environment import Pending, Reward, RewardEnvironment
from rm_grpc_client.failures import BatchFailedError
from rm_grpc_client.inputs import Scorable
from rm_grpc_client.security import Security
from rm_grpc_client.shaping import Shaping
from rm_grpc_client.sync_environment import SyncRewardEnvironment

__all__ = [
    "Activation",
    "AsyncRewardClient",
    "BatchFailedError",
    "ControlTokens",
    "Conversation",
    "ForeignMarkers",
    "Item",
    "Message",
    "ModelInfo",
    "Pending",
    "Result",
    "Reward",
    "RewardClient",
    "RewardEnvironment",
    "RewardError",
    "Scorable",
    "Score",
    "ScoreOptions",
    "Security",
    "Shaping",
    "SpecialTokens",
    "SyncRewardEnvironment",
    "TokenIds",
    "ToolCall",
]
