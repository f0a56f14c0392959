from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any


@dataclass
class VerifierConfig:
    pass


@dataclass
class VerificationResult:
    score: float
    cost: float = 0.0
    reasoning: str | None = None


class VerifierFunction(ABC):
    def __init__(self, name: str, weight: float = 1.0, verifier_config: VerifierConfig | None = None) -> None:
        self.name = name
        self.weight = weight
        self.verifier_config = verifier_config

    @classmethod
    @abstractmethod
    def get_config_class(cls) -> type: ...

    @abstractmethod
    def __call__(
        self, tokenized_prediction: list[int], prediction: str, label: Any, query: Any = None, rollout_state: Any = None
    ) -> VerificationResult: ...

    async def async_call(
        self, tokenized_prediction: list[int], prediction: str, label: Any, query: Any = None, rollout_state: Any = None
    ) -> VerificationResult:
        return self(tokenized_prediction, prediction, label, query, rollout_state)
