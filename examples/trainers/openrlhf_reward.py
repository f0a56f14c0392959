"""OpenRLHF: the reward file, loaded and called as OpenRLHF does.

In a run:
    --reward.remote_url $(python -m rm_grpc_client.adapters.openrlhf)
    with RM_GRPC_CLIENT_ADDRESSES=10.0.0.7:50051 RM_GRPC_CLIENT_MODEL=skywork in the environment
or, with a server that speaks HTTP (rm-grpc serve --http 0.0.0.0:5000 --insecure):
    --reward.remote_url "http://10.0.0.7:5000/get_reward?model=skywork&unrender=true"

rm-grpc serve                                                          # in one terminal
python examples/trainers/openrlhf_reward.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13"]
RENDERED = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    os.environ["RM_GRPC_CLIENT_ADDRESSES"], os.environ["RM_GRPC_CLIENT_MODEL"] = args.address, args.model
    asked = [sys.executable, "-m", "rm_grpc_client.adapters.openrlhf"]
    path = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    spec = importlib.util.spec_from_file_location("reward_func", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    queries = [f"{RENDERED}{answer}<|im_end|>" for answer in ANSWERS]
    alone = [module.reward_func([query], [RENDERED], ["12"]) for query in queries]
    cut = module.reward_func(queries, ["a prompt that was cut at its start"] * 2, ["12", None])
    print(json.dumps([[one["rewards"] for one in alone], cut["rewards"]]))


if __name__ == "__main__":
    main()
