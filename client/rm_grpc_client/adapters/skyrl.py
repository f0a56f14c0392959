"""SkyRL: an environment of one turn whose reward comes from a reward model.

Interface: skyrl-gym 0.4. An environment is made for each trajectory and stepped in one of 32 threads; all share one connection.
SkyRL has no way to leave a sample out, so that a failure raises.
"""

from __future__ import annotations

from typing import Any

from rm_grpc_client.adapters import shared


def register(name: str = "rm_grpc", **settings: Any) -> None:
    """Registers the environment for dataset rows whose `env_class` is `name`.

    Args:
        settings: of `ClientSettings`; by default those of the environment variables.
    """
    import skyrl_gym

    skyrl_gym.register(id=name, entry_point=f"{__name__}:RewardModelEnv", kwargs={"settings": settings})


def _environment_class() -> type:
    """The class `RewardModelEnv`: SkyRL's base class is imported when it is asked for."""
    from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

    class RewardModelEnv(BaseTextEnv):  # type: ignore[misc]  # the base class has no types
        """Scores the policy's answer to the prompt of the row."""

        def __init__(self, env_config: Any = None, extras: Any = None, settings: Any = None) -> None:
            super().__init__()
            del env_config
            self._truth = ((extras or {}).get("reward_spec") or {}).get("ground_truth")
            self._settings = dict(settings or {})
            self._components: dict[str, float] = {}
            self._prompt: Any = []

        def init(self, prompt: Any) -> Any:
            """Keeps the messages of the prompt."""
            self._prompt = prompt
            return prompt, {}

        def step(self, action: str) -> BaseTextEnvStepOutput:
            """The reward of the answer; raises where it cannot be scored."""
            item = shared.item(self._prompt, action, metadata=shared.known(ground_truth=self._truth))
            found = shared.scored(shared.environment(self._settings).reward(item))
            self._components = dict(found.components)
            return BaseTextEnvStepOutput(
                observations=[], reward=shared.value(found), done=True, metadata={"components": self._components}
            )

        def get_metrics(self) -> dict[str, float]:
            """The numbers that the model gave beside the reward."""
            return dict(self._components)

    return RewardModelEnv


__getattr__ = shared.lazily(__name__, RewardModelEnv=_environment_class)
