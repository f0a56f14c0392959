"""AReaL: its reward wrapper, which runs our function in a pool of processes.

In a run:
    workflow_kwargs=dict(reward_fn="rm_grpc_client.adapters.areal.reward_fn", gconfig=..., tokenizer=...)
    and RM_GRPC_CLIENT_ADDRESSES=10.0.0.7:50051 RM_GRPC_CLIENT_MODEL=skywork in the environment

rm-grpc serve                                                       # in one terminal
python examples/trainers/areal_reward.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os

from areal.api.reward_api import AsyncRewardWrapper
from areal.utils.dynamic_import import import_from_string

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13<|im_end|>"]
RENDERED = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    os.environ["RM_GRPC_CLIENT_ADDRESSES"], os.environ["RM_GRPC_CLIENT_MODEL"] = args.address, args.model
    wrapped = AsyncRewardWrapper(import_from_string("rm_grpc_client.adapters.areal.reward_fn"))
    messages = [{"role": "user", "content": PROMPT}]
    with_messages = await asyncio.gather(*(wrapped(RENDERED, one, [1], [2], messages=messages, answer="12") for one in ANSWERS))
    without = await asyncio.gather(*(wrapped(RENDERED, one, [1], [2], answer="12") for one in ANSWERS))
    print(json.dumps([with_messages, without]))


if __name__ == "__main__":
    asyncio.run(main())
