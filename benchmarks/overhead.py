"""`overhead`: the service around a scorer that costs nothing, as a fraction of a bare grpc.aio echo of the same messages."""

from __future__ import annotations

import asyncio
import sys
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import yaml

from benchmarks.checkpoints import checkpoint
from benchmarks.encoder import Encoder
from benchmarks.options import Options
from benchmarks.processes import Child
from benchmarks.raw_load import ECHO, SCORE_BATCH, Sent, drive
from benchmarks.report import Report, Table, ratios, verdict
from benchmarks.server import Server, Settings, run_folder
from benchmarks.workloads import Conversation, Workload
from rm_grpc.v1 import conversation_pb2, reward_service_pb2
from rm_grpc_client import AsyncRewardClient

_SIZE = "1M"
_BATCH_TOKENS = 16_384
"""A free scorer stands for a fast device: the budget is the server's default on a GPU, not the small one of a CPU."""
_ECHO_TIMES = 6
"""How often the echo gets the service's messages in a slice: it is faster, and a slice should last."""


@dataclass(frozen=True, slots=True)
class _Case:
    """How conversations are sent."""

    each: int
    is_encoded: bool
    conversations: int
    target: float | None

    @property
    def title(self) -> str:
        return f"{'token ids' if self.is_encoded else 'messages'}, {self.each} per message"

    @property
    def in_flight(self) -> int:
        return 512 if self.each > 1 else 256


_CASES = (
    _Case(32, True, 8192, 0.5),
    _Case(1, True, 4096, 0.7),
    _Case(32, False, 4096, None),
    _Case(1, False, 2048, None),
)


def run(options: Options) -> Report:
    """Measures each way of sending; the options' model sizes do not matter here."""
    folder = checkpoint(_SIZE)
    report, rows = Report("overhead"), []
    workload = Workload(Encoder(folder))
    with free_server(folder, options.settings) as server:
        digest = asyncio.run(_tokenizer_digest(server.address))
        report.settings["free scorer"] = server.settings
        for case in _CASES:
            slices = _slices(case, server, workload, digest, options)
            rows.append(_row(case, slices))
            report.slices[case.title] = [{"service": _kept(service), "echo": _kept(echo)} for service, echo in slices]
    report.tables = [
        Table(
            "The service with a free scorer over a bare echo",
            rows,
            "W3: conversations of 4096 characters, sent as token ids (text pipeline left out) or as chat messages (whole). One "
            "stream; the same load generator and the same request bytes; the echo answers with messages of the service's size.",
        )
    ]
    return report


@contextmanager
def free_server(folder: Path, base: Settings) -> Iterator[Server]:
    """Starts a server whose forward costs nothing, and ends it with the block."""
    home = run_folder("free")
    settings = {"max_batch_tokens": _BATCH_TOKENS, **base.given}
    document = base.document(folder, "model", devices="cpu", ready_file=str(home / "address"), **settings)
    (home / "settings.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    command = [sys.executable, "-m", "benchmarks.free_child", str(home / "settings.yaml")]
    with Child(command, log=home / "log") as child:
        told = {key: value for key, value in document.items() if key not in ("listen", "log_level", "models", "ready_file")}
        yield Server(child.wait_for(home / "address"), child, told)


@contextmanager
def echo_server(answer: bytes) -> Iterator[Server]:
    """Starts a bare echo that gives this answer to each message."""
    home = run_folder("echo")
    (home / "answer").write_bytes(answer)
    command = [sys.executable, "-m", "benchmarks.echo_child", str(home / "answer"), str(home / "address")]
    with Child(command, log=home / "log") as child:
        yield Server(child.wait_for(home / "address"), child, {})


async def _tokenizer_digest(address: str) -> str:
    async with AsyncRewardClient(address) as client:
        return (await client.get_model()).tokenizer_digest


def _slices(case: _Case, server: Server, workload: Workload, digest: str, options: Options) -> list[tuple[Sent, Sent]]:
    count = case.conversations // 8 if options.quick else case.conversations
    opening = reward_service_pb2.ScoreBatchRequest(open=reward_service_pb2.OpenStream()).SerializeToString()

    def messages() -> list[bytes]:
        return _messages(workload.long(count, options.repeat()), case, digest)

    def service(sent: Sequence[bytes]) -> Sent:
        return drive(
            server.address,
            SCORE_BATCH,
            sent,
            each=case.each,
            in_flight=case.in_flight,
            pid=server.child.pid,
            opening=opening,
        )

    warm = service(messages())
    slices = []
    with echo_server(_answer(warm, case.each)) as bare:

        def echo(sent: Sequence[bytes]) -> Sent:
            with server.child.paused():
                return drive(bare.address, ECHO, sent, each=case.each, in_flight=case.in_flight, pid=bare.child.pid)

        echo(messages())
        for at in range(options.repeats):
            sent = messages()
            slices.append((service(sent), echo(list(sent) * _ECHO_TIMES)))
            served, echoed = (each.conversations / each.seconds for each in slices[-1])
            options.say(f"{case.title} {at + 1}/{options.repeats}: service {served:.0f}, echo {echoed:.0f} conversations/s")
    return slices


def _messages(conversations: Sequence[Conversation], case: _Case, digest: str) -> list[bytes]:
    items = [_item(str(at), one, case, digest) for at, one in enumerate(conversations)]
    return [
        reward_service_pb2.ScoreBatchRequest(
            items=reward_service_pb2.Items(items=items[start : start + case.each])
        ).SerializeToString()
        for start in range(0, len(items), case.each)
    ]


def _item(name: str, conversation: Conversation, case: _Case, digest: str) -> conversation_pb2.Item:
    if case.is_encoded:
        ids = array("i", conversation.ids).tobytes()
        return conversation_pb2.Item(id=name, tokens=conversation_pb2.TokenIds(ids=ids, tokenizer_digest=digest))
    messages = [
        conversation_pb2.Message(role=one["role"], content=[conversation_pb2.ContentPart(text=one["content"])])
        for one in conversation.messages
    ]
    return conversation_pb2.Item(id=name, conversation=conversation_pb2.Conversation(messages=messages))


def _answer(served: Sent, each: int) -> bytes:
    """One message of the service's own results, as many as a request has items."""
    result = reward_service_pb2.ScoreBatchResponse.FromString(served.answers[0]).results.results[0]
    results = reward_service_pb2.Results(results=[result] * each)
    return reward_service_pb2.ScoreBatchResponse(results=results).SerializeToString()


def _kept(sent: Sent) -> dict[str, float]:
    return {
        "conversations": sent.conversations,
        "seconds": sent.seconds,
        "server_cpu": sent.cpu,
        "client_cpu": sent.client_cpu,
    }


def _row(case: _Case, slices: Sequence[tuple[Sent, Sent]]) -> dict[str, object]:
    services, echoes = [service for service, _ in slices], [echo for _, echo in slices]
    if len({score for service in services for score in service.scores}) != 1:
        raise ValueError(f"{case.title}: the free scorer gives one score, and others came back")
    rates = [[each.conversations / each.seconds for each in sent] for sent in (services, echoes)]
    ratio = ratios(*rates)
    return {
        "sent as": case.title,
        "service conversations/s": median(rates[0]),
        "echo conversations/s": median(rates[1]),
        "service / echo": ratio["median"],
        "least": ratio["least"],
        "greatest": ratio["greatest"],
        "target": "-" if case.target is None else verdict(ratio["median"], case.target),
        "server CPU ms / conversation": median(1000 * each.cpu / each.conversations for each in services),
        "echo CPU ms / conversation": median(1000 * each.cpu / each.conversations for each in echoes),
        "client CPU ms / conversation": median(1000 * each.client_cpu / each.conversations for each in services),
    }
