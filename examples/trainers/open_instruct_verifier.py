"""open-instruct: a verifier for rows whose `dataset` column says rm_grpc. Needs open-instruct.

In a run: call `register()` in a module that is imported before the trainer builds its verifiers, and give rows the column
    dataset: rm_grpc
with RM_GRPC_CLIENT_ADDRESSES=10.0.0.7:50051 RM_GRPC_CLIENT_MODEL=skywork in the environment

rm-grpc serve                                                                 # in one terminal
python examples/trainers/open_instruct_verifier.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import asyncio
import json

from open_instruct.ground_truth_utils import VerifierConfig, VerifierFunction

from rm_grpc_client.adapters.open_instruct import register

PROMPT, ANSWERS = "What is 7+5?", ["7+5=12", "7+5=13"]
RENDERED = f"<|im_start|>user\n{PROMPT}<|im_end|>\n<|im_start|>assistant\n"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    register("rm_grpc", addresses=args.address, model=args.model)
    built = {made.name: made for made in (subclass(VerifierConfig()) for subclass in VerifierFunction.__subclasses__())}
    verifier = built["rm_grpc"]
    results = await asyncio.gather(
        *(verifier.async_call(tokenized_prediction=[], prediction=one, label="12", query=RENDERED) for one in ANSWERS)
    )
    sync = await asyncio.to_thread(verifier, [], ANSWERS[0], "12", RENDERED)
    print(json.dumps([[one.score for one in results], sync.score]))


if __name__ == "__main__":
    asyncio.run(main())
