"""OpenRLHF: `--reward.remote_url` takes the path of this file (older releases: `--remote_rm_url`), printed by

    python -m rm_grpc_client.adapters.openrlhf

Interface: OpenRLHF 0.11, utils/agent.py. Queries and prompts are text with the policy's template; one sample a call, on
threads. A failure raises; OpenRLHF logs it and then has no reward for the sample.
"""

from __future__ import annotations

from typing import Any

from rm_grpc.rendered import conversation_of
from rm_grpc.types import Item
from rm_grpc_client.adapters import shared


def reward_func(queries: list[str], prompts: list[str], labels: list[Any]) -> dict[str, Any]:
    """Rewards of prompts with their responses; settings come from the environment (RM_GRPC_CLIENT_ADDRESSES ...).

    Raises:
        RewardError: a sample cannot be scored.
    """
    items = [_item(query, prompt, label) for query, prompt, label in zip(queries, prompts, labels, strict=True)]
    found = [shared.scored(one) for one in shared.environment({}).rewards(items)]
    values = [shared.value(one) for one in found]
    logs = {name: [one.components[name] for one in found] for name in found[0].components} if found else {}
    if len(found) == 1:  # numbers: a list of one would become a tensor of two dimensions
        return {"rewards": values[0], "scores": values[0], "extra_logs": {name: given[0] for name, given in logs.items()}}
    return {"rewards": values, "scores": values, "extra_logs": logs}


def _item(query: str, prompt: str, label: Any) -> Item:
    metadata = shared.known(label=label)
    if query.startswith(prompt):
        return shared.item(prompt, query[len(prompt) :], metadata=metadata, rendered=True)
    return Item("", conversation_of(query), metadata=metadata)  # a long prompt was cut at its start


if __name__ == "__main__":
    print(__file__)
