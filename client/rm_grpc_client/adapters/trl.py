"""TRL: a reward function for `GRPOTrainer` and its kin.

Interface: trl 1.16, trainer/grpo_trainer.py. An asynchronous reward function is awaited on a loop of the trainer's; None leaves
a sample out.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from rm_grpc_client.adapters import shared

RewardFunction = Callable[..., Awaitable[list[float | None]]]


def reward_function(
    addresses: str | Sequence[str] | None = None,
    *,
    name: str = "rm_grpc",
    component: str = "",
    columns: Sequence[str] = (),
    **settings: Any,
) -> RewardFunction:
    """A function for `GRPOTrainer(reward_funcs=...)`.

    Args:
        addresses: host:port of a server, or of several; by default those of RM_GRPC_CLIENT_ADDRESSES.
        name: what TRL logs it as.
        component: the number to use instead of the score: one that the model gives beside it, by name.
        columns: dataset columns that scorers see as metadata, such as a reference answer.
        settings: further ones of `ClientSettings`.

    A conversation that cannot be scored is None, which TRL leaves out of the group. What concerns all of them raises.
    """
    given = settings if addresses is None else {"addresses": addresses, **settings}

    async def reward(
        prompts: list[Any],
        completions: list[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **others: Any,
    ) -> list[float | None]:
        metadata = shared.per_sample(others, columns, len(prompts))
        items = [
            partial(shared.item, prompt, completion, metadata=extra)
            for prompt, completion, extra in zip(prompts, completions, metadata, strict=True)
        ]
        found = await shared.rewards_or_none(items, given)
        if log_metric is not None:
            for key, figure in shared.environment(given).metrics(reset=True).items():
                log_metric(f"{name}/{key}", figure)
        return [None if one.value is None else one.components[component] if component else one.value for one in found]

    reward.__name__ = name
    return reward
