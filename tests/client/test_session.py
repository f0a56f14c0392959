"""The pure core of the client: every item gets exactly one result, whatever the server does."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rm_grpc import convert, errors
from rm_grpc.types import Item, Result, Score, ScoreOptions
from rm_grpc.v1 import reward_service_pb2
from rm_grpc_client.session import Session

SCORE = Score(score=1.0, raw_score=1.0, model_digest="d", token_count=3)
Response = reward_service_pb2.ScoreBatchResponse


def new_session(*, timeout: float | None = None, attempts: int = 3) -> Session:
    session = Session(model="m", options=ScoreOptions(), timeout=timeout, attempts=attempts, max_message_bytes=10_000)
    session.opening()
    session.receive(opened(), 0.0)
    return session


def opened(items: int = 100, size: int = 10**6) -> Response:
    return Response(opened={"window": {"items": items, "bytes": size}})


def reopen(session: Session) -> None:
    """A new connection, opened."""
    session.opening()
    assert sent(session) == [], "nothing is sent before the server has told its limits"
    session.receive(opened(), 0.0)


def results(*outcomes: tuple[str, Score | errors.RewardError]) -> Response:
    protos = [convert.result_to_proto(item_id, outcome) for item_id, outcome in outcomes]
    return Response(results=reward_service_pb2.Results(results=protos))


def sent(session: Session, now: float = 0.0) -> list[str]:
    ids: list[str] = []
    while (message := session.next_message(now)) is not None:
        ids += [item.id for item in message.items.items]
    return ids


def test_items_share_messages_and_keep_their_ids() -> None:
    session = new_session()
    for at in range(70):
        assert session.take(Item(f"mine-{at}", "x"), 0.0) is None
    first = session.next_message(0.0)
    assert first is not None
    assert len(first.items.items) == 32
    assert sent(session) == [str(at) for at in range(32, 70)]
    [result] = session.receive(results(("5", SCORE)), 0.0)
    assert (result.id, result.index, result.score) == ("mine-5", 5, SCORE)


def test_the_window_is_kept() -> None:
    session = new_session()
    session.receive(opened(items=3), 0.0)
    for _ in range(5):
        session.take("x", 0.0)
    assert sent(session) == ["0", "1", "2"]
    assert not session.has_room
    session.receive(results(("1", SCORE)), 0.0)
    assert sent(session) == ["3"]
    session.receive(opened(items=100, size=1), 0.0)
    session.receive(results(("0", SCORE), ("2", SCORE)), 0.0)
    assert sent(session) == []
    session.receive(results(("3", SCORE)), 0.0)
    assert sent(session) == ["4"], "one item may always be in flight"


def test_what_was_unanswered_is_sent_again_in_order() -> None:
    session = new_session()
    for _ in range(4):
        session.take("x", 0.0)
    assert sent(session) == ["0", "1", "2", "3"]
    session.receive(results(("1", SCORE)), 0.0)
    session.take("x", 0.0)
    reopen(session)
    assert sent(session) == ["0", "2", "3", "4"]
    assert session.receive(results(("1", SCORE)), 0.0) == [], "a second answer is no second result"


def test_an_overloaded_server_is_asked_again_later() -> None:
    session = new_session(attempts=3)
    session.take("x", 0.0)
    busy = errors.OverloadedError("full", retry_delay=1.0)
    assert sent(session) == ["0"]
    assert session.receive(results(("0", busy)), 10.0) == []
    assert session.next_wakeup() == 11.0
    assert sent(session, 10.9) == []
    assert sent(session, 11.0) == ["0"]
    assert session.receive(results(("0", busy)), 11.0) == []
    assert sent(session, 13.0) == ["0"]
    [result] = session.receive(results(("0", busy)), 13.0)
    assert isinstance(result.error, errors.OverloadedError)
    assert session.owes_nothing


def test_an_item_that_is_late_has_the_servers_error_or_ours() -> None:
    session = new_session(timeout=2.0)
    session.take("x", 0.0)
    session.take(Item("b", "x", timeout=30.0), 0.0)
    assert sent(session, 1.0) == ["0", "1"]
    assert session.expire(6.9) == []
    [result] = session.expire(7.0)
    assert isinstance(result.error, errors.DeadlineExceededError)
    assert session.receive(results(("0", SCORE)), 8.0) == []
    [result] = session.receive(results(("1", SCORE)), 8.0)
    assert result.id == "b"


def test_the_time_left_is_what_is_sent() -> None:
    session = new_session(timeout=10.0)
    session.take("x", 100.0)
    message = session.next_message(104.0)
    assert message is not None
    assert convert.seconds(message.items.items[0].timeout) == pytest.approx(6.0)


def test_a_draining_server_gets_nothing_more() -> None:
    session = new_session()
    session.take("x", 0.0)
    session.receive(Response(draining={"reason": "bye"}), 0.0)
    assert sent(session) == []
    reopen(session)
    assert sent(session) == ["0"]


def test_an_item_refused_by_a_draining_server_goes_to_the_next() -> None:
    session = new_session(attempts=1)
    session.take("x", 0.0)
    assert sent(session) == ["0"]
    assert session.receive(results(("0", errors.DrainingError("bye", retry_delay=1.0))), 0.0) == []
    assert sent(session) == []
    reopen(session)
    assert sent(session) == ["0"]


@pytest.mark.parametrize(
    ("subject", "error"),
    [
        (3, errors.InvalidRequestError),
        (b"bytes", errors.InvalidRequestError),
        ([{"role": 1}], errors.InvalidRequestError),
        ("\ud800", errors.InvalidRequestError),
        (Item("a", "x", group="\ud800"), errors.InvalidRequestError),
        (Item("a", "x", timeout="soon"), errors.InvalidRequestError),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_sent_is_a_result_at_once(subject: object, error: type[errors.RewardError]) -> None:
    session = new_session()
    result = session.take(subject, 0.0)  # type: ignore[arg-type]
    assert result is not None
    assert type(result.error) is error
    assert session.owes_nothing
    assert session.take("x", 0.0) is None
    assert sent(session) == ["1"], "it keeps its place in the numbering"


def test_an_item_above_the_servers_limit_is_an_error_of_its_own() -> None:
    session = new_session()
    limits = {"window": {"items": 9, "bytes": 10**6}, "model": {"limits": {"max_message_bytes": 4000}}}
    session.receive(Response(opened=limits), 0.0)  # type: ignore[arg-type]
    for text in ("x", "y" * 4000, "z" * 2000, "z" * 2000):
        session.take(text, 0.0)
    messages = [session.next_message(0.0) for _ in range(3)]
    assert [[item.id for item in message.items.items] if message else None for message in messages] == [["0", "2"], ["3"], None]
    [result] = session.expire(0.0)
    assert result.index == 1
    assert isinstance(result.error, errors.MessageTooLargeError)


def test_an_item_that_takes_the_server_down_is_given_up() -> None:
    session = new_session(attempts=3)
    session.take("x", 0.0)
    for _ in range(3):
        assert sent(session) == ["0"]
        reopen(session)
    [result] = session.expire(0.0)
    assert isinstance(result.error, errors.UnavailableError)
    assert session.owes_nothing


def test_an_item_that_expires_while_it_waits_wakes_nobody() -> None:
    session = new_session(timeout=10.0)
    session.take("x", 0.0)
    sent(session)
    session.receive(results(("0", errors.OverloadedError("full", retry_delay=1.0))), 0.0)
    assert session.next_wakeup() == 1.0
    assert len(session.expire(15.0)) == 1
    assert session.next_wakeup() is None


class AnyServer(RuleBasedStateMachine):
    """A server that answers, refuses, repeats itself, loses connections and is slow, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.session = new_session(timeout=50.0, attempts=3)
        self.taken = 0
        self.in_flight: list[str] = []
        self.known: list[str] = []
        self.got: list[Result] = []

    @rule(count=st.integers(1, 40))
    def take(self, count: int) -> None:
        for _ in range(count):
            if self.session.has_room:
                self.session.take(Item("", "x" * (self.taken % 50)), self.now)
                self.taken += 1

    @rule()
    def send(self) -> None:
        ids = sent(self.session, self.now)
        assert not set(ids) & set(self.in_flight), "nothing is sent twice on one connection"
        self.in_flight += ids
        self.known += ids

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), kind=st.sampled_from(["score", "bad", "busy", "draining"]))
    def answer(self, data: st.DataObject, kind: str) -> None:
        item_id = data.draw(st.sampled_from(self.in_flight))
        self.in_flight.remove(item_id)
        outcome = {
            "score": SCORE,
            "bad": errors.NoMessagesError("no"),
            "busy": errors.OverloadedError("full", retry_delay=0.5),
            "draining": errors.DrainingError("bye", retry_delay=0.5),
        }[kind]
        self.got += self.session.receive(results((item_id, outcome)), self.now)

    @precondition(lambda self: self.got)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        again = data.draw(st.sampled_from([str(result.index) for result in self.got]))
        self.got += self.session.receive(results((again, SCORE)), self.now)

    @rule(items=st.integers(1, 30))
    def reconnect(self, items: int) -> None:
        self.in_flight.clear()
        self.session.opening()
        self.session.receive(opened(items=items), self.now)

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.got += self.session.expire(self.now)

    @invariant()
    def one_result_each(self) -> None:
        indices = [result.index for result in self.got]
        assert len(set(indices)) == len(indices)
        assert all(0 <= index < self.taken for index in indices)

    def teardown(self) -> None:
        self.reconnect(1000)
        for _ in range(1000):
            if self.session.owes_nothing:
                break
            self.send()
            self.got += self.session.receive(results(*((item_id, SCORE) for item_id in self.in_flight)), self.now)
            self.in_flight.clear()
            self.wait(1.0)
        self.got += self.session.take_settled()  # of items that the last connection was one too many for
        assert sorted(result.index for result in self.got) == list(range(self.taken))


AnyServer.TestCase.settings = settings(max_examples=60, deadline=None, stateful_step_count=40)
TestAnyServer = AnyServer.TestCase
