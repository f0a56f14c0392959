"""open-instruct: a verifier for rows whose `dataset` column names it.

Interface: allenai/open-instruct, ground_truth_utils.py. Verifiers are found as direct subclasses of `VerifierFunction`.
open-instruct has no way to leave a sample out, so that a failure raises. It multiplies scores by `verification_reward` (10 by
default).
"""

from __future__ import annotations

from typing import Any

from rm_grpc_client.adapters import shared


def register(name: str = "rm_grpc", *, weight: float = 1.0, **settings: Any) -> type:
    """Makes the verifier; call it before open-instruct builds its own.

    Args:
        name: what the `dataset` column of its rows says.
        settings: of `ClientSettings`; by default those of the environment variables.
    """
    from open_instruct.ground_truth_utils import VerificationResult, VerifierConfig, VerifierFunction

    class RewardModelVerifier(VerifierFunction):  # type: ignore[misc]  # the base class has no types
        """Scores the answer to the rendered prompt."""

        def __init__(self, verifier_config: Any = None) -> None:
            super().__init__(name, weight=weight, verifier_config=verifier_config)

        @classmethod
        def get_config_class(cls) -> type:
            """See open-instruct."""
            return VerifierConfig  # type: ignore[no-any-return]

        def __call__(
            self, tokenized_prediction: Any, prediction: str, label: Any, query: Any = None, rollout_state: Any = None
        ) -> Any:
            """The score; raises where the answer cannot be scored."""
            del tokenized_prediction, rollout_state
            found = shared.environment(settings).reward(_item(prediction, label, query))
            return VerificationResult(score=shared.value(found))

        async def async_call(
            self, tokenized_prediction: Any, prediction: str, label: Any, query: Any = None, rollout_state: Any = None
        ) -> Any:
            """The same, awaited."""
            del tokenized_prediction, rollout_state
            found = await shared.reward(_item(prediction, label, query), settings)
            return VerificationResult(score=shared.value(found))

    return RewardModelVerifier


def _item(prediction: str, label: Any, query: Any) -> Any:
    return shared.item(query or "", prediction, metadata=shared.known(label=label), rendered=True)
