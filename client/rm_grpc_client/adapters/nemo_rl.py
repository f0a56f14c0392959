"""NeMo-RL: an environment actor in the place of its `RewardModelEnvironment`, without GPUs of its own.

Interface: NVIDIA-NeMo/RL, environments/interfaces.py and utils.py. Asynchronous rollouts send one sample a call, so that the
actor takes a thousand calls at once. NeMo-RL has no way to leave a sample out, so that a failure raises. Do not name the
environment `reward_model`: that name reserves GPUs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rm_grpc.errors import InvalidRequestError
from rm_grpc.types import Item
from rm_grpc_client.adapters import shared
from rm_grpc_client.environment import Reward

Log = Sequence[Mapping[str, Any]]
"""NeMo-RL's messages: role and content, the content rendered with the policy's template."""
_OWN = ("prompt_keys", "components")


def register(name: str = "rm_grpc") -> None:
    """Registers the environment, for `data.default.env_name: NAME` and `env.NAME: {addresses: [...], model: ...}`."""
    from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY
    from nemo_rl.distributed.virtual_cluster import PY_EXECUTABLES
    from nemo_rl.environments.utils import register_env

    actor = f"{__name__}.RewardModelActor"
    register_env(name, actor)
    ACTOR_ENVIRONMENT_REGISTRY[actor] = PY_EXECUTABLES.SYSTEM


def _actor() -> Any:
    import ray

    return ray.remote(max_restarts=-1, max_task_retries=-1, max_concurrency=1000)(RewardModelEnvironment)


class RewardModelEnvironment:
    """Scores the conversations of a batch; NeMo-RL's `EnvironmentInterface`.

    Args:
        config: settings of `ClientSettings`, and: `prompt_keys`, names under which a sample's metadata may have its prompt as
            messages or text, before the policy's template (by default messages, prompt and raw_prompt; without any the messages
            are taken out of the template); `components`, true for a dict of rewards, one for each number that the model
            gives beside the score. NeMo-RL adds these up, so that the score itself is not among them.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._settings = {key: given for key, given in config.items() if key not in _OWN}
        self._prompt_keys: Sequence[str] = config.get("prompt_keys", ("messages", "prompt", "raw_prompt"))
        self._wants_components = bool(config.get("components", False))
        shared.environment(self._settings)  # settings that cannot be are refused now

    async def step(
        self, message_log_batch: Sequence[Log], metadata: Sequence[Any], return_extracted_answer: bool = False
    ) -> Any:
        """The rewards of finished conversations.

        Raises:
            RewardError: a conversation cannot be scored.
        """
        import torch
        from nemo_rl.environments.interfaces import EnvironmentReturn

        items = [self._item(log, extra) for log, extra in zip(message_log_batch, metadata, strict=True)]
        found = [shared.scored(one) for one in await shared.rewards(items, self._settings)]
        observations = [{"role": "environment", "content": f"Environment: reward {shared.value(one):g}"} for one in found]
        rewards: Any = torch.tensor([shared.value(one) for one in found], dtype=torch.float32)
        if self._wants_components:
            rewards = {f"reward/{key}": torch.tensor(given, dtype=torch.float32) for key, given in _columns(found).items()}
        return EnvironmentReturn(
            observations=observations,
            metadata=list(metadata),
            next_stop_strings=[None] * len(found),
            rewards=rewards,
            terminateds=torch.ones(len(found), dtype=torch.bool),
            answers=[str(log[-1]["content"]) for log in message_log_batch] if return_extracted_answer else None,
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is, and the figures since the last call."""
        return batch, shared.environment(self._settings).metrics(reset=True)

    def shutdown(self) -> bool:
        """Nothing has to be ended: the connection goes with the actor."""
        return True

    def _item(self, log: Log, metadata: Any) -> Item:
        if any(message["role"] == "assistant" for message in log[:-1]):
            raise InvalidRequestError(
                "this environment scores one answer to a prompt, and there are several", field="message_log"
            )
        known = metadata if isinstance(metadata, Mapping) else {}
        plain = {key: given for key, given in known.items() if isinstance(given, (str, int, float, bool))}
        prompt = next((known[key] for key in self._prompt_keys if known.get(key) is not None), None)
        if prompt is not None:
            return shared.item(prompt, str(log[-1]["content"]), metadata=plain, rendered=True)
        opening = "".join(str(message["content"]) for message in log[:-1])
        return shared.item(opening, str(log[-1]["content"]), metadata=plain, rendered=True)


def _columns(found: Sequence[Reward]) -> dict[str, list[float]]:
    """Each component as a column.

    Raises:
        ValueError: the model gives none.
    """
    if not found or not found[0].components:
        raise ValueError("components: the model gives no numbers beside the score; leave components out")
    return {name: [one.components[name] for one in found] for name in found[0].components}


__getattr__ = shared.lazily(__name__, RewardModelActor=_actor)
