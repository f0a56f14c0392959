"""SkyRL: an environment of one turn, registered under a name that dataset rows give as `env_class`.

rm-grpc serve                                                    # in one terminal
python examples/trainers/skyrl_env.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ThreadPoolExecutor

import skyrl_gym

from rm_grpc_client.adapters import skyrl

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    skyrl.register("rm_grpc", addresses=args.address, model=args.model)

    def reward(answer: str) -> float:
        env = skyrl_gym.make("rm_grpc", env_config={}, extras={"reward_spec": {"ground_truth": "12"}, "max_turns": 1})
        env.init([{"role": "user", "content": PROMPT}])
        output = env.step(answer)
        assert output["done"]
        return float(output["reward"])

    with ThreadPoolExecutor(32) as threads:  # as SkyRL's generator steps its environments
        print(json.dumps(list(threads.map(reward, ANSWERS))))


if __name__ == "__main__":
    main()
