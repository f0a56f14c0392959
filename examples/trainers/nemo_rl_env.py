"""NeMo-RL: the environment actor, made and stepped as NeMo-RL does. Needs NeMo-RL, and Ray.

In a run, before the trainer makes its environments: `from rm_grpc_client.adapters import nemo_rl; nemo_rl.register()`, and
    data: {default: {env_name: rm_grpc}}
    env: {rm_grpc: {addresses: [10.0.0.7:50051], model: skywork}}

rm-grpc serve                                                      # in one terminal
python examples/trainers/nemo_rl_env.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import json

import ray
from nemo_rl.environments.utils import create_env

from rm_grpc_client.adapters import nemo_rl

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13"]
RENDERED = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    ray.init("local", num_cpus=2, include_dashboard=False)  # a Ray of its own, whatever cluster this machine is in
    nemo_rl.register("rm_grpc")
    env = create_env("rm_grpc", {"addresses": [args.address], "model": args.model})
    logs = [[{"role": "user", "content": RENDERED}, {"role": "assistant", "content": answer}] for answer in ANSWERS]
    by_template = ray.get(env.step.remote(logs, [{}, {}]), timeout=60)
    raw = [{"messages": [{"role": "user", "content": PROMPT}]}] * 2
    single = ray.get([env.step.remote([log], [one]) for log, one in zip(logs, raw, strict=True)], timeout=60)
    _, metrics = ray.get(env.global_post_process_and_metrics.remote({}), timeout=60)
    assert ray.get(env.shutdown.remote(), timeout=10)
    print(json.dumps([by_template.rewards.tolist(), [one.rewards.item() for one in single], metrics["count"]]))
    ray.shutdown()


if __name__ == "__main__":
    main()
