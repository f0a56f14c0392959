"""Rollout workers that finish one by one, scored while the others still generate.

rm-grpc serve                                  # in one terminal: the embedded models on 127.0.0.1:50051
python examples/stream_rollouts.py             # in another
"""

from __future__ import annotations

import argparse
import asyncio
import random
from collections.abc import AsyncIterator

from rm_grpc_client import AsyncRewardClient, Item


async def rollouts(count: int) -> AsyncIterator[Item]:
    """Stands for a policy: answers of several lengths, right and wrong, as they are finished."""
    for at in range(count):
        left, right = random.randint(1, 20), random.randint(1, 10)
        answer = left + right + random.choice((0, 0, 1))
        await asyncio.sleep(random.expovariate(50))
        messages = [
            {"role": "user", "content": f"What is {left}+{right}?"},
            {"role": "assistant", "content": f"{left}+{right}={answer}"},
        ]
        yield Item.of(messages, id=f"{left}+{right}={answer}", group=str(at // 4))


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="arithmetic-classifier")
    parser.add_argument("--count", type=int, default=20)
    args = parser.parse_args()
    async with AsyncRewardClient(args.address, model=args.model) as client:
        async for result in client.score_stream(rollouts(args.count)):
            told = f"{result.score.score:+.2f}" if result.error is None else f"{type(result.error).__name__}: {result.error}"
            print(f"{result.id:>10}  {told}")


if __name__ == "__main__":
    asyncio.run(main())
