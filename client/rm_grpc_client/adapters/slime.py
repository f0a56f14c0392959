"""slime: `--custom-rm-path rm_grpc_client.adapters.slime.reward`.

Interface: THUDM/slime, slime/rollout/rm_hub. The same function gets one sample, or a list of them with --group-rm. slime has no
way to leave a sample out, so that a failure raises.
"""

from __future__ import annotations

from typing import Any

from rm_grpc.types import Item
from rm_grpc_client.adapters import shared


async def reward(args: Any, sample: Any, **_: Any) -> Any:
    """The reward of a sample, or those of a list; settings come from the environment (RM_GRPC_CLIENT_ADDRESSES ...).

    With `--reward-key` a reward is a dict of the score under that name and of each number that the model gives beside it.

    Raises:
        RewardError: a sample cannot be scored.
    """
    if not isinstance(sample, list):
        [found] = await _rewards(args, [sample])
        return found
    if sample and isinstance(sample[0], list):
        return [await _rewards(args, group) for group in sample]
    return await _rewards(args, sample)


async def _rewards(args: Any, samples: list[Any]) -> list[Any]:
    found = await shared.rewards([_item(sample) for sample in samples], {})
    key = getattr(args, "reward_key", None)
    return [{**one.components, key: shared.value(one)} if key else shared.value(one) for one in found]


def _item(sample: Any) -> Item:
    metadata = {**(sample.metadata or {}), **shared.known(label=sample.label)}
    return shared.item(sample.prompt, sample.response, metadata=metadata, rendered=True)
