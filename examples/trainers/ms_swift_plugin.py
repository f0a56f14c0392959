"""ms-swift: a plugin that registers a reward model; here it is also called as the trainer calls it.

    swift rlhf --rlhf_type grpo --external_plugins examples/trainers/ms_swift_plugin.py --reward_funcs rm_grpc ...
    with RM_GRPC_CLIENT_ADDRESSES=10.0.0.7:50051 RM_GRPC_CLIENT_MODEL=skywork in the environment

rm-grpc serve                                                          # in one terminal
python examples/trainers/ms_swift_plugin.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import json
import os

from rm_grpc_client.adapters.ms_swift import register

register("rm_grpc")

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    os.environ["RM_GRPC_CLIENT_ADDRESSES"], os.environ["RM_GRPC_CLIENT_MODEL"] = args.address, args.model

    import torch
    from swift.rewards import orms
    from swift.rl_core.data import GRPOSample
    from swift.rl_core.grpo_algorithm import compute_rewards_per_func

    def sample(answer: str) -> GRPOSample:
        return GRPOSample(messages=[{"role": "user", "content": PROMPT}, {"role": "assistant", "content": answer}])

    rounds = [
        compute_rewards_per_func(
            [sample(answer) for answer in ANSWERS], [orms["rm_grpc"](args=None)], None, torch.device("cpu")
        )
        for _ in range(2)  # each on an event loop of its own
    ]
    print(json.dumps([one.flatten().tolist() for one in rounds]))


if __name__ == "__main__":
    main()
