"""slime: the custom reward function, called as slime calls it.

In a run:
    --custom-rm-path rm_grpc_client.adapters.slime.reward
    with RM_GRPC_CLIENT_ADDRESSES=10.0.0.7:50051 RM_GRPC_CLIENT_MODEL=skywork in the environment
or, with a server that speaks HTTP: --rm-type remote_rm --rm-url "http://10.0.0.7:8000/slime?model=skywork&unrender=true"

rm-grpc serve                                                       # in one terminal
python examples/trainers/slime_reward.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
from types import SimpleNamespace

from rm_grpc_client.adapters.slime import reward

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13"]
RENDERED = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


def sample(prompt: object, answer: str) -> SimpleNamespace:
    """What is read of slime's Sample."""
    return SimpleNamespace(prompt=prompt, response=answer, label="12", metadata={})


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    os.environ["RM_GRPC_CLIENT_ADDRESSES"], os.environ["RM_GRPC_CLIENT_MODEL"] = args.address, args.model
    plain, keyed = SimpleNamespace(reward_key=None), SimpleNamespace(reward_key="score")
    messages = [{"role": "user", "content": PROMPT}]
    alone = await asyncio.gather(*(reward(plain, sample(RENDERED, answer + "<|im_end|>")) for answer in ANSWERS))
    group = await reward(plain, [sample(messages, answer) for answer in ANSWERS])
    named = await reward(keyed, [sample(messages, answer) for answer in ANSWERS])
    print(json.dumps([alone, group, [one["score"] for one in named]]))


if __name__ == "__main__":
    asyncio.run(main())
