"""Scores lines of JSON as they come: the example program of every client, described in docs/writing-a-client.md.

rm-grpc serve                                                                    # in one terminal
echo '{"text": "1+1=2"}' | python examples/score_jsonl.py --model arithmetic-logit    # in another
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from rm_grpc.errors import InvalidRequestError, RewardError
from rm_grpc.json_lines import error_fields, item_of_line, outcome_fields
from rm_grpc_client import (
    Activation,
    AsyncRewardClient,
    ControlTokens,
    ForeignMarkers,
    Result,
    ScoreOptions,
    Security,
    SpecialTokens,
)


async def read_lines() -> AsyncIterator[bytes]:
    """Lines of standard input, read no further ahead than one."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[bytes] = asyncio.Queue(1)

    def read() -> None:
        # A file of its own: Python locks sys.stdin at its end, and a stream that fails ends the program while this reads.
        with open(0, "rb", closefd=False) as stdin:
            while True:
                line = stdin.readline()
                asyncio.run_coroutine_threadsafe(queue.put(line), loop).result()
                if not line:
                    return

    threading.Thread(target=read, daemon=True).start()
    while line := await queue.get():
        if line.strip():
            yield line


class Scoring:
    """One run of the program."""

    def __init__(self, client: AsyncRewardClient) -> None:
        self._stream = client.open_stream()
        self._owed: dict[int, str] = {}
        self._refused: dict[int, RewardError] = {}
        self._count = 0

    async def run(self) -> None:
        """Writes a line for each item."""
        async with aclosing(self._stream.batches(self._items())) as batches:
            async for batch in batches:
                for result in batch:
                    write(self._told(result))

    async def _items(self) -> AsyncIterator[Any]:
        async for line in read_lines():
            try:
                raw = parse(line)
                if "cancel" in raw:
                    self._cancel(raw["cancel"])
                    continue
                item: Any = item_of(line, raw)
                name = item.id
            except RewardError as error:
                # The stream refuses it at its place and in its turn; what it is refused for is said here.
                self._refused[self._count] = item = error
                name = name_in(line)
            self._owed[self._count] = name or str(self._count)
            self._count += 1
            yield item

    def _cancel(self, name: object) -> None:
        for index in [index for index, owed in self._owed.items() if owed == name]:
            self._stream.withdraw(index)

    def _told(self, result: Result) -> dict[str, Any]:
        fields: dict[str, Any] = {"id": self._owed.pop(result.index), "index": result.index}
        outcome = self._refused.pop(result.index, result.outcome)
        return fields | ({"error": told(outcome)} if isinstance(outcome, RewardError) else outcome_fields(outcome))


def parse(line: bytes) -> dict[str, Any]:
    """The object of a line."""
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidRequestError(f"the line is no JSON: {error}") from error
    if not isinstance(raw, dict):
        raise InvalidRequestError("a line must be an object")
    return raw


def item_of(line: bytes, raw: dict[str, Any]) -> Any:
    """The item of a line."""
    if ("messages" in raw) == ("text" in raw):
        raise InvalidRequestError("a line needs messages or text")
    return item_of_line(line)


def name_in(line: bytes) -> str:
    """The id that a line has, whatever else is wrong with it."""
    try:
        name = parse(line).get("id")
    except InvalidRequestError:
        return ""
    return name if isinstance(name, str) else ""


def told(error: RewardError) -> dict[str, Any]:
    """An error without the field that it does not name."""
    return {key: value for key, value in error_fields(error).items() if value != ""}


def write(fields: dict[str, Any]) -> None:
    """Writes a line at once."""
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    """The flags; they are the settings of docs/writing-a-client.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--address", default="127.0.0.1:50051")
    parser.add_argument("--model", default="")
    parser.add_argument("--ordering", choices=["completion", "submission"], default="completion")
    parser.add_argument("--timeout", type=float, default=600.0)
    parser.add_argument("--reconnect", type=float, default=60.0)
    parser.add_argument("--attempts", type=int, default=20)
    parser.add_argument("--tls", action="store_true")
    for name in ("--ca-file", "--cert-file", "--key-file", "--token-file"):
        parser.add_argument(name)
    parser.add_argument("--server-name", default="")
    parser.add_argument("--insecure", action="store_true")
    for name, choices in (
        ("--control-tokens", ControlTokens),
        ("--foreign-markers", ForeignMarkers),
        ("--special-tokens", SpecialTokens),
        ("--activation", Activation),
    ):
        parser.add_argument(name, choices=[one.value for one in choices], default=next(iter(choices)).value)
    return parser.parse_args()


def client_of(given: argparse.Namespace) -> AsyncRewardClient:
    """The client that the flags describe."""
    return AsyncRewardClient(
        given.address,
        model=given.model,
        options=ScoreOptions(
            control_tokens=ControlTokens(given.control_tokens),
            foreign_markers=ForeignMarkers(given.foreign_markers),
            activation=Activation(given.activation),
            special_tokens=SpecialTokens(given.special_tokens),
        ),
        timeout=given.timeout,
        reconnect=given.reconnect,
        attempts=given.attempts,
        ordering=given.ordering,
        security=Security(
            tls=given.tls,
            ca_file=given.ca_file,
            cert_file=given.cert_file,
            key_file=given.key_file,
            server_name=given.server_name,
            token="" if given.token_file else os.environ.get("RM_GRPC_CLIENT_TOKEN", ""),
            token_file=given.token_file,
            insecure=given.insecure,
        ),
    )


async def main() -> int:
    given = arguments()
    try:
        client = client_of(given)
    except InvalidRequestError as error:
        print(error, file=sys.stderr)
        return 2
    async with client:
        try:
            await Scoring(client).run()
        except RewardError as error:
            write({"stream_error": told(error)})
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
