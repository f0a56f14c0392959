"""`peers`: other ways and other servers, on the same weights and conversations as the service.

In each repeat everyone scores the same fresh conversations. Each run stands between two slices of the model card's loop, and
all other servers are held still meanwhile. The slices share out the same conversations among them, and so give everyone's
reference.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

from benchmarks.bare import Bare, Run, bare_forward
from benchmarks.checkpoints import checkpoint
from benchmarks.comparison import largest_difference
from benchmarks.encoder import Encoder
from benchmarks.load import Served, closed_loop
from benchmarks.options import Options
from benchmarks.peers import http_load
from benchmarks.peers.environment import NotInstalledError
from benchmarks.peers.servers import PEER_SERVERS, Started, started
from benchmarks.processes import Child, ChildFailedError
from benchmarks.report import Report, Table, ratios, verdict
from benchmarks.server import Server, reward_server
from benchmarks.workloads import GROUP_WORKERS, WORKERS, Conversation, Workload, tokens

TARGETS = {"W1": 1.1, "W2": 1.5}
"""Our throughput over vLLM's, at least."""
OURS, VLLM, LOOP, PADDED = "rm-grpc", "vllm", "model card's loop", "padded batches, in process"
_ROLLOUTS = {"1M": 384, "10M": 128, "100M": 32}
_GROUPS = {"1M": 48, "10M": 24, "100M": 8}
_PADDED_TOKENS = (512, 1024, 2048)
_SETTLE_SECONDS = 0.3
"""How long a server that was held still gets to wake before it is measured."""


@dataclass(frozen=True, slots=True)
class _Work:
    """A workload and how much of it is in flight."""

    name: str
    workers: int
    conversations: Callable[[int], list[Conversation]]


@dataclass(slots=True)
class _Lane:
    """One way of scoring: how it runs, and what was found of it.

    Attributes:
        child: the server's process, or None where the model runs in process.
        slices: for each repeat what was found, beside the loop's rate around it.
        failure: why it is not measured, or not any more.
    """

    name: str
    run: Callable[[Sequence[Conversation], int], Served | Run]
    child: Child | None = None
    slices: list[dict[str, Any]] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    failure: str = ""


def run(options: Options) -> Report:
    """Measures each model that the options name."""
    report = Report("peers")
    rows: list[dict[str, object]] = []
    against: list[dict[str, object]] = []
    for size in options.sizes:
        with _lanes(size, options, report) as (bare, lanes):
            workload = Workload(Encoder(checkpoint(size)))
            for work in _works(workload, size, quick=options.quick):
                _measure(work, bare, lanes, size, options)
                rows += [_row(size, work, lane) for lane in lanes]
                against += _against(size, work, lanes)
                report.slices[f"{size} {work.name}"] = {lane.name: lane.slices for lane in lanes}
                for lane in lanes:
                    lane.slices, lane.latencies = [], []
    report.tables = [
        Table(
            "The same weights and conversations",
            rows,
            f"float32. W1 with {WORKERS}, W2 with {GROUP_WORKERS} conversations in flight. Tokens are those of the full "
            "conversations. Over the loop: the median of the rate over the mean of the loop's rates right before and after. "
            "CPU seconds are those of the server's whole process tree, without the load generator. Latency is a request's, and "
            "in process that of a forward with its batch. The difference is to the model card's loop.",
        ),
        Table(
            "rm-grpc over the other servers",
            against,
            "Directly: the median of the ratios within each repeat. Over the loop: the ratio of what each reached over the "
            "loop's slices around it. A target is held against the lower of the two.",
        ),
    ]
    return report


def _works(workload: Workload, size: str, *, quick: bool) -> list[_Work]:
    rollouts, groups = (16, 2) if quick else (_ROLLOUTS[size], _GROUPS[size])
    return [
        _Work("W1", WORKERS, lambda repeat: workload.rollouts(rollouts, repeat)),
        _Work("W2", GROUP_WORKERS, lambda repeat: workload.groups(groups, repeat)),
    ]


@contextmanager
def _lanes(size: str, options: Options, report: Report) -> Iterator[tuple[Bare, list[_Lane]]]:
    """Starts everything, one after another, and holds it still."""
    folder = checkpoint(size)
    encoder = Encoder(folder)
    with ExitStack() as stack:
        bare = stack.enter_context(bare_forward(folder))
        ours = stack.enter_context(reward_server(folder, options.settings))
        report.settings[size] = ours.settings
        ours.child.pause()
        lanes = [_lane_of_ours(ours)]
        for key in options.only or PEER_SERVERS:
            options.say(f"{size}: installing and starting {key}")
            try:
                peer = stack.enter_context(started(PEER_SERVERS[key], folder, options.cores))
            except (NotInstalledError, ChildFailedError) as error:
                lanes.append(_Lane(PEER_SERVERS[key].name, _nothing, failure=f"{type(error).__name__}: {error}"))
            else:
                peer.child.pause()
                lanes.append(_lane_of(peer, encoder))
        lanes.append(_lane_of_batches(bare, Workload(encoder), size, options))
        yield bare, lanes


def _nothing(conversations: Sequence[Conversation], workers: int) -> Served:
    raise NotImplementedError("a lane that failed is not run")


def _lane_of_ours(server: Server) -> _Lane:
    return _Lane(
        OURS,
        lambda conversations, workers: closed_loop(server.address, server.child.pid, conversations, workers),
        server.child,
    )


def _lane_of(peer: Started, encoder: Encoder) -> _Lane:
    def score(conversations: Sequence[Conversation], workers: int) -> Served:
        requests = [peer.peer.request(one.messages, encoder) for one in conversations]
        return http_load.closed_loop(peer.port, peer.child.pid, requests, workers, peer.peer.score)

    return _Lane(peer.peer.name, score, peer.child)


def _lane_of_batches(bare: Bare, workload: Workload, size: str, options: Options) -> _Lane:
    """Padded batches of the size that is fastest here."""
    sample = workload.rollouts(8 if options.quick else _ROLLOUTS[size] // 4, options.repeat())
    seconds = {most: bare.batches(sample, most, options.cores).seconds for most in _PADDED_TOKENS}
    best = min(seconds, key=lambda most: seconds[most])
    return _Lane(f"{PADDED} (at most {best} tokens)", lambda conversations, _: bare.batches(conversations, best, options.cores))


def _measure(work: _Work, bare: Bare, lanes: list[_Lane], size: str, options: Options) -> None:
    for lane in lanes:
        _run(lane, work.conversations(options.repeat())[: work.workers], work.workers)  # warm
    loop = _Lane(LOOP, _nothing)
    for at in range(options.repeats):
        alive = [lane for lane in lanes if not lane.failure and lane.name != LOOP]
        alive = alive if at % 2 == 0 else alive[::-1]
        conversations = work.conversations(options.repeat())
        shares = _dealt(conversations, len(alive) + 1)
        cards = [bare.card([conversations[place] for place in shares[0]], options.cores)]
        for lane, share in zip(alive, shares[1:], strict=True):
            found = _run(lane, conversations, work.workers)
            cards.append(bare.card([conversations[place] for place in share], options.cores))
            around = [
                _rate([conversations[place] for place in dealt], card)
                for dealt, card in zip(shares[len(cards) - 2 : len(cards)], cards[-2:], strict=True)
            ]
            if found is not None:
                _keep(lane, conversations, found, around)
                options.say(f"{size} {work.name} {at + 1}/{options.repeats} {lane.name}: {_told(lane)}")
        reference = _gathered(shares, cards, len(conversations))
        for lane in alive:
            _compare(lane, reference)
        total = Run(
            sum(card.seconds for card in cards),
            sum(card.cpu for card in cards),
            reference,
            [latency for card in cards for latency in card.latencies],
        )
        _keep(loop, conversations, total, [_rate(conversations, total)])
        _compare(loop, reference)
    lanes[:] = [lane for lane in lanes if lane.name != LOOP] + [loop]


def _run(lane: _Lane, conversations: Sequence[Conversation], workers: int) -> Served | Run | None:
    """One run, alone on the machine. A peer that fails is told of in its row; our own failure ends the benchmark."""
    if lane.failure or lane.name == LOOP:
        return None
    if lane.child is not None:
        lane.child.resume()
        time.sleep(_SETTLE_SECONDS)
    try:
        return lane.run(conversations, workers)
    except (http_load.AnswerError, OSError, EOFError, TimeoutError, KeyError, ValueError) as error:
        lane.failure = f"{type(error).__name__}: {error}"
        return None
    finally:
        if lane.child is not None:
            lane.child.pause()


def _dealt(conversations: Sequence[Conversation], count: int) -> list[list[int]]:
    """Positions in as many shares, each with about the same lengths."""
    order = sorted(range(len(conversations)), key=lambda at: len(conversations[at].ids))
    return [order[start::count] for start in range(count)]


def _rate(conversations: Sequence[Conversation], found: Served | Run) -> float:
    return tokens(conversations) / found.seconds


def _keep(lane: _Lane, conversations: Sequence[Conversation], found: Served | Run, around: Sequence[float]) -> None:
    lane.latencies += found.latencies
    lane.slices.append(
        {
            "conversations": len(conversations),
            "tokens": tokens(conversations),
            "seconds": found.seconds,
            "cpu": found.cpu,
            "rate": _rate(conversations, found),
            "loop_rate": sum(around) / len(around),
            "scores": found.scores,
        }
    )


def _compare(lane: _Lane, reference: Sequence[float]) -> None:
    """Ours must be right; how far others are off is told in their row."""
    if not lane.slices or "scores" not in lane.slices[-1]:
        return
    scores = lane.slices[-1].pop("scores")
    dtype = "float32" if lane.name == OURS else "of another server"
    lane.slices[-1]["difference"] = largest_difference(scores, reference, dtype=dtype, of=lane.name)


def _gathered(shares: Sequence[Sequence[int]], cards: Sequence[Run], count: int) -> list[float]:
    reference = [0.0] * count
    for share, card in zip(shares, cards, strict=True):
        for place, score in zip(share, card.scores, strict=True):
            reference[place] = score
    return reference


def _told(lane: _Lane) -> str:
    last = lane.slices[-1]
    return f"{last['rate']:.0f} tokens/s, {last['rate'] / last['loop_rate']:.2f} of the loop"


def _against(size: str, work: _Work, lanes: Sequence[_Lane]) -> list[dict[str, object]]:
    """Ours beside each other server that was measured in every repeat."""
    ours = next(lane for lane in lanes if lane.name == OURS)
    rows: list[dict[str, object]] = []
    for lane in lanes:
        if lane is ours or lane.child is None or len(lane.slices) != len(ours.slices):
            continue
        direct = ratios([one["rate"] for one in ours.slices], [one["rate"] for one in lane.slices])
        over_loop = _over_loop(ours) / _over_loop(lane)
        row: dict[str, object] = {"model": size, "workload": work.name, "server": lane.name, "directly": direct["median"]}
        row |= {"least": direct["least"], "greatest": direct["greatest"], "over the loop": over_loop}
        if lane.name == PEER_SERVERS[VLLM].name:
            row["target"] = verdict(min(direct["median"], over_loop), TARGETS[work.name])
        rows.append(row)
    return rows


def _row(size: str, work: _Work, lane: _Lane) -> dict[str, object]:
    row: dict[str, object] = {"model": size, "workload": work.name, "what": lane.name}
    if not lane.slices:
        return {**row, "note": f"not measured: {_short(lane.failure)}"}
    cuts = quantiles(lane.latencies, n=100, method="inclusive")
    return row | {
        "tokens/s": _median(lane, lambda one: one["rate"]),
        "over the loop": _over_loop(lane),
        "CPU s / 1000 tokens": _median(lane, lambda one: 1000 * one["cpu"] / one["tokens"]),
        "CPU s / wall s": _median(lane, lambda one: one["cpu"] / one["seconds"]),
        "p50 s": cuts[49],
        "p99 s": cuts[98],
        "largest difference": max(one["difference"] for one in lane.slices),
        "note": _short(lane.failure),
    }


def _over_loop(lane: _Lane) -> float:
    return _median(lane, lambda one: one["rate"] / one["loop_rate"])


def _median(lane: _Lane, value: Callable[[Mapping[str, Any]], float]) -> float:
    return median(value(one) for one in lane.slices)


def _short(failure: str) -> str:
    """The failure's last line: logs end with what went wrong."""
    return failure.strip().splitlines()[-1][:200].replace("|", "/") if failure else ""
