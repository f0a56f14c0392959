"""AReaL: a reward function for its workflows, and the call for workflows of one's own.

Interface: AReaL 1.0, api/reward_api.py. The function runs in a pool of forked processes, one sample a call. The wrapper gives
up on it after 15 seconds and then counts 0: ours gives up first, and raises, which rejects the rollout.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rm_grpc_client.adapters import shared

_SECONDS = 10.0
"""With the second in which an answer is still awaited, less than the wrapper's 15."""


def reward_fn(
    prompt: str, completions: str, prompt_ids: list[int], completion_ids: list[int], messages: Any = None, **row: Any
) -> float:
    """For `workflow_kwargs=dict(reward_fn="rm_grpc_client.adapters.areal.reward_fn", ...)`; settings come from the environment
    (RM_GRPC_CLIENT_ADDRESSES, RM_GRPC_CLIENT_MODEL ...).

    Args:
        prompt: text with the policy's template, used where the row has no `messages`.
        completions: the response, with the policy's end mark.
        messages: of the row: the prompt, as it was before the policy's template.

    Raises:
        RewardError: the sample cannot be scored, or not within 10 seconds.
    """
    del prompt_ids, completion_ids
    item = shared.item(prompt if messages is None else messages, completions, metadata=_plain(row), rendered=True)
    found = shared.environment({"timeout": _SECONDS, "reconnect": _SECONDS}).reward(item)
    return shared.value(found)


async def reward(messages: Any, response: str, **settings: Any) -> float | None:
    """For an `arun_episode` of one's own, which returns None where this does: such a trajectory is left out."""
    [found] = await shared.rewards([shared.item(messages, response)], settings)
    return found.value


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a row that are plain values: `answer` and the like."""
    return {key: given for key, given in row.items() if isinstance(given, (str, int, float, bool))}
