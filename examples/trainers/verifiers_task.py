"""verifiers (prime-rl): a task whose reward is a reward model's score.

In a task's configuration, without any code:
    rewards = {rm = {fn = "rm_grpc_client.adapters.verifiers:rm_reward", weight = 1.0}}
    and RM_GRPC_CLIENT_ADDRESSES=10.0.0.7:50051 RM_GRPC_CLIENT_MODEL=skywork in the environment

rm-grpc serve                                                         # in one terminal
python examples/trainers/verifiers_task.py --address 127.0.0.1:50051  # in another
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Mapping

import verifiers.v1 as vf
from verifiers.v1.trace import MessageNode, TraceTask

from rm_grpc_client.adapters.verifiers import reward_of

PROMPT, ANSWER = "What is 7+5?", "7+5=12"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-logit")
    args = parser.parse_args()
    rm_grpc = reward_of(addresses=args.address, model=args.model)

    class Sums(vf.Task):
        @vf.reward(weight=1.0)
        async def rm(self, task: vf.TaskData, trace: vf.Trace) -> Mapping[str, float]:
            return await rm_grpc(task, trace)

    sums = Sums(vf.TaskData(prompt=PROMPT))
    said = [vf.UserMessage(content=PROMPT), vf.AssistantMessage(content=ANSWER)]
    nodes = [MessageNode.model_construct(message=message, parent=at - 1 if at else None) for at, message in enumerate(said)]
    task = TraceTask.model_construct(type="Sums", data=sums.data)
    trace = vf.Trace.model_construct(task=task, metrics={}, rewards={}, errors=[], nodes=nodes, calls=[])
    await sums.score(trace)
    print(json.dumps({name: one.value for name, one in trace.rewards.items()}))


if __name__ == "__main__":
    asyncio.run(main())
