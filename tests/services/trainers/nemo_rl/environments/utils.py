from __future__ import annotations

import importlib
import os
from typing import Any

from nemo_rl.distributed.ray_actor_environment_registry import ACTOR_ENVIRONMENT_REGISTRY

ENV_REGISTRY: dict[str, dict[str, str]] = {}


def register_env(env_name: str, actor_class_fqn: str) -> None:
    if env_name in ENV_REGISTRY:
        raise ValueError(f"Env name {env_name} already registered.")
    ENV_REGISTRY[env_name] = {"actor_class_fqn": actor_class_fqn}


def create_env(env_name: str, env_config: dict[str, Any]) -> Any:
    fqn = ENV_REGISTRY[env_name]["actor_class_fqn"]
    if fqn not in ACTOR_ENVIRONMENT_REGISTRY:
        raise ValueError(f"No actor environment registered for {fqn}")
    module, _, name = fqn.rpartition(".")
    actor = getattr(importlib.import_module(module), name)
    runtime_env = {"py_executable": ACTOR_ENVIRONMENT_REGISTRY[fqn], "env_vars": dict(os.environ)}
    return actor.options(runtime_env=runtime_env).remote(env_config)
