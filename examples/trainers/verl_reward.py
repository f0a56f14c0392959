"""verl: its own reward managers with our reward function, and with our manager, on one sample.

In a run:
    reward.custom_reward_function.path=pkg://rm_grpc_client.adapters.verl
    reward.custom_reward_function.name=compute_score                 # the prompt is extra_info[prompt_key]
    +reward.custom_reward_function.reward_kwargs.addresses=10.0.0.7:50051
    +reward.custom_reward_function.reward_kwargs.model=skywork
and, to have the raw messages of each sample scored:
    reward.reward_manager.source=importlib reward.reward_manager.name=RewardManager
    reward.reward_manager.module.path=pkg://rm_grpc_client.adapters.verl

rm-grpc serve                                                      # in one terminal
python examples/trainers/verl_reward.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import asyncio
import json
import warnings
from typing import Any

import numpy as np
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict

warnings.filterwarnings("ignore", "Ray state API is no longer experimental", DeprecationWarning)

from verl import DataProto  # noqa: E402
from verl.trainer.ppo.reward import load_reward_manager  # noqa: E402

PROMPT = [{"role": "user", "content": "What is 7+5?"}]
ANSWER = "7+5=12"
MODULE = "pkg://rm_grpc_client.adapters.verl"


class Characters:
    """Stands for the policy's tokenizer: a token is a character."""

    def decode(self, ids: Any, skip_special_tokens: bool = True) -> str:
        del skip_special_tokens
        return "".join(chr(int(one)) for one in ids)


def sample() -> DataProto:
    responses = torch.tensor([[ord(char) for char in ANSWER] + [0, 0]])
    attention = torch.tensor([[1] * (2 + len(ANSWER)) + [0, 0]])
    prompts = torch.tensor([[1, 2]])
    whole = torch.cat([prompts, responses], dim=1)
    batch = {"prompts": prompts, "responses": responses, "attention_mask": attention, "input_ids": whole}
    columns = {
        "raw_prompt": PROMPT,
        "data_source": "sums",
        "reward_model": {"ground_truth": "12"},
        "extra_info": {"prompt": PROMPT[0]["content"]},
        "tool_extra_fields": {},
    }
    arrays = {}
    for key, value in columns.items():
        arrays[key] = np.empty(1, dtype=object)
        arrays[key][0] = value
    return DataProto(batch=TensorDict(batch, batch_size=1), non_tensor_batch={**arrays, "__num_turns__": np.array([2])})


def config(manager: dict[str, Any], settings: dict[str, Any]) -> Any:
    function = {"path": MODULE, "name": "compute_score", "reward_kwargs": settings}
    return OmegaConf.create({"reward": {"num_workers": 1, "reward_manager": manager, "custom_reward_function": function}})


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    settings = {"addresses": args.address, "model": args.model}
    naive = {"source": "register", "name": "naive", "module": {"path": None}}
    own = {"source": "importlib", "name": "RewardManager", "module": {"path": MODULE}}
    found = {}
    for name, manager in (("compute_score", naive), ("RewardManager", own)):
        loaded = load_reward_manager(
            config(manager, settings), Characters(), reward_router_address=None, reward_model_tokenizer=None
        )
        found[name] = await loaded.run_single(sample())
    print(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(main())
