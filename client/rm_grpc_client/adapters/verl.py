"""verl: a custom reward function, and a reward manager that sees the raw messages.

Interface: verl 0.9, trainer/ppo/reward.py and experimental/reward_loop. verl scores one sample a call, on several workers; it
has no way to leave a sample out, so that a failure raises.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from rm_grpc.errors import InvalidRequestError
from rm_grpc_client.adapters import shared


async def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: Any,
    extra_info: Mapping[str, Any] | None = None,
    *,
    prompt_key: str = "prompt",
    reward_router_address: str | None = None,
    reward_model_tokenizer: Any = None,
    **settings: Any,
) -> dict[str, float]:
    """For `reward.custom_reward_function`; `reward_kwargs` are the settings of `ClientSettings` and `prompt_key`.

    Args:
        prompt_key: where `extra_info` has the prompt, as messages or text. A dataset without it takes `RewardManager`.

    Returns:
        `score`, and each number that the model gives beside it.

    Raises:
        RewardError: the sample cannot be scored.
    """
    del reward_router_address, reward_model_tokenizer
    prompt = (extra_info or {}).get(prompt_key)
    if prompt is None:
        told = f"extra_info has no {prompt_key}; name the column with prompt_key, or use the RewardManager of this module"
        raise InvalidRequestError(told, field="prompt_key")
    metadata = shared.known(ground_truth=ground_truth, data_source=data_source)
    return shared.numbers(await shared.reward(shared.item(prompt, solution_str, metadata=metadata), settings))


def _reward_manager() -> type:
    """The class `RewardManager`, for `reward.reward_manager`: verl's base class is imported when it is asked for."""
    from verl.experimental.reward_loop.reward_manager.base import RewardManagerBase

    class RewardManager(RewardManagerBase):  # type: ignore[misc]  # the base class has no types
        """Scores the raw messages of each sample with the decoded response."""

        def __init__(self, config: Any, tokenizer: Any, compute_score: Any = None, **_: Any) -> None:
            super().__init__(config, tokenizer, compute_score)
            custom = config.reward.get("custom_reward_function") or {}
            self._settings = {
                key: given for key, given in dict(custom.get("reward_kwargs") or {}).items() if key != "prompt_key"
            }
            self._tokenizer = tokenizer

        async def run_single(self, data: Any) -> dict[str, Any]:
            """The reward of one sample; raises where it cannot be scored."""
            one = data[-1:][0]
            length = one.batch["responses"].shape[-1]
            valid = one.batch["responses"][: int(one.batch["attention_mask"][-length:].sum())]
            decode = self._tokenizer.decode
            response = await asyncio.get_running_loop().run_in_executor(None, lambda: decode(valid, skip_special_tokens=True))
            truth = (one.non_tensor_batch.get("reward_model") or {}).get("ground_truth")
            metadata = shared.known(ground_truth=truth, data_source=one.non_tensor_batch.get("data_source"))
            item = shared.item(one.non_tensor_batch["raw_prompt"], response, metadata=metadata)
            found = shared.numbers(await shared.reward(item, self._settings))
            return {"reward_score": found["score"], "reward_extra_info": found}

    return RewardManager


__getattr__ = shared.lazily(__name__, RewardManager=_reward_manager)
