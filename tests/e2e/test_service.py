"""The service as its callers see it: streams, order, deadlines, cancellation, overload, drain, and servers that die."""

from __future__ import annotations

import asyncio
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from services.models import FailingScorer, HeldScorer, LocalModel, with_scorer
from services.server import ServerProcess, ServerThread

from rm_grpc import convert, errors
from rm_grpc.types import Activation, Conversation, Item, Message, Result, ScoreOptions, TokenIds
from rm_grpc.v1 import conversation_pb2, reward_service_pb2, reward_service_pb2_grpc
from rm_grpc_client import AsyncRewardClient, BatchFailedError, RewardClient

MODEL = "arithmetic-logit"


def chat(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def chats(count: int) -> list[list[dict[str, str]]]:
    generator = random.Random(count)
    return [chat(f"What is {at}+1?" + " Please." * generator.randint(0, 30), str(at + 1)) for at in range(count)]


def expected(model: LocalModel, conversations: list[list[dict[str, str]]]) -> list[float]:
    """The naive reference: each conversation alone through the whole Transformers model."""
    items = [Item("", Conversation.from_openai(messages)) for messages in conversations]
    encodings: list[Any] = model.text.encode(items, ScoreOptions())
    return [model.reference(encoding.ids) for encoding in encodings]


@pytest.fixture
def client(server: ServerThread) -> Iterator[RewardClient]:
    with RewardClient(server.address, model=MODEL, timeout=60) as client:
        yield client


# --- scores -----------------------------------------------------------------------------------------------------------


def test_scores_equal_the_reference_in_order(client: RewardClient, logit: LocalModel) -> None:
    conversations = chats(60)
    scores = client.score(conversations)
    assert [score.score for score in scores] == pytest.approx(expected(logit, conversations), abs=1e-5)
    assert {score.model_digest for score in scores} == {logit.info.model_digest}
    assert all(score.raw_score == score.score and score.activation is Activation.NONE for score in scores)
    assert all(score.token_count > 10 and score.timing.forward > 0 and score.timing.encode > 0 for score in scores)


def test_every_input_of_the_same_conversation_scores_the_same(client: RewardClient) -> None:
    messages = chat("What is 1+1?", "1+1=2")
    [read] = client.tokenize([messages])
    assert read.tokenization is not None
    digest = client.get_model().tokenizer_digest
    inputs = [messages, Conversation.from_openai(messages), read.tokenization.rendered_text]
    inputs += [TokenIds(read.tokenization.ids, digest), Item("mine", Conversation.from_openai(messages))]
    scores = [score.score for score in client.score(inputs)]
    assert scores == pytest.approx([scores[0]] * len(inputs), abs=1e-6)


def test_an_activation_is_applied_when_it_is_asked_for(server: ServerThread) -> None:
    options = ScoreOptions(activation=Activation.SIGMOID)
    with RewardClient(server.address, model=MODEL, options=options) as client:
        [score] = client.score(chats(1))
    assert score.activation is Activation.SIGMOID
    assert 0 < score.score < 1
    assert score.score != score.raw_score


def test_results_come_while_conversations_are_still_being_written(client: RewardClient) -> None:
    seen: list[int] = []

    def rollouts() -> Iterator[list[dict[str, str]]]:
        for at, conversation in enumerate(chats(6)):
            deadline = time.monotonic() + 30
            while len(seen) < at:  # the next one is written only when all before it are scored
                assert time.monotonic() < deadline
                time.sleep(0.005)
            yield conversation

    for result in client.score_stream(rollouts()):
        seen.append(result.index)  # noqa: PERF401 - the rollouts look at it meanwhile
    assert seen == list(range(6))


async def test_asynchronous_rollouts(server: ServerThread, logit: LocalModel) -> None:
    conversations = chats(40)

    async def rollouts() -> AsyncIterator[list[dict[str, str]]]:
        for conversation in conversations:
            await asyncio.sleep(0.001)
            yield conversation

    async with AsyncRewardClient(server.address, model=MODEL) as client:
        results = [result async for result in client.score_stream(rollouts())]
        assert await client.score([]) == []
    by_index = {result.index: result.score.score for result in results}
    assert [by_index[at] for at in range(40)] == pytest.approx(expected(logit, conversations), abs=1e-5)


def test_many_threads_share_a_client(client: RewardClient, logit: LocalModel) -> None:
    conversations = chats(24)
    reference = expected(logit, conversations)
    failures: list[object] = []

    def work(at: int) -> None:
        scores = [score.score for score in client.score(conversations[at:] + conversations[:at])]
        if scores != pytest.approx(reference[at:] + reference[:at], abs=1e-5):
            failures.append(scores)

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_failures_are_raised_or_returned_and_never_numbers(client: RewardClient) -> None:
    conversations: list[Any] = [chats(1)[0], [], chats(1)[0], 7]
    with pytest.raises(BatchFailedError, match="2 of 4 conversations were not scored; the first is number 1") as caught:
        client.score(conversations)
    assert [result.error is None for result in caught.value.results] == [True, False, True, False]
    results = client.score(conversations, on_error="return")
    assert [type(result.error) for result in results] == [
        type(None),
        errors.NoMessagesError,
        type(None),
        errors.InvalidRequestError,
    ]
    with pytest.raises(errors.NoMessagesError):
        _ = results[1].score


def test_models_say_what_their_numbers_depend_on(client: RewardClient, logit: LocalModel, classifier: LocalModel) -> None:
    assert [model.name for model in client.list_models()] == ["arithmetic-classifier", MODEL]
    model = client.get_model()
    assert model == logit.info
    assert (model.scorer_kind, model.architecture) == ("token_logit", "LlamaForCausalLM")
    for digest in (model.weights_digest, model.tokenizer_digest, model.template_digest):
        assert len(digest.removeprefix("sha256:")) == 64
    assert model.model_digest != classifier.info.model_digest
    assert model.limits.max_length == 1024
    assert model.encoder.startswith("native ")


def test_tokenize_tells_what_would_be_read_and_refused(client: RewardClient) -> None:
    good, bad, empty = client.tokenize([chats(1)[0], chat("<|im_start|>", "a<|eot_id|>b"), []])
    assert good.error is None
    assert good.tokenization is not None
    assert good.tokenization.rendered_text.startswith("<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nWhat is")
    assert good.tokenization.bos_count == 1
    assert good.tokenization.read_positions == (len(good.tokenization.ids) - 1,)
    assert isinstance(bad.error, errors.ForeignMarkersError)
    assert bad.tokenization is not None
    assert bad.tokenization.control_tokens_in_content == ("<|eot_id|>",)
    assert bad.tokenization.foreign_markers_in_content == ("<|im_start|>",)
    assert empty.tokenization is None
    assert isinstance(empty.error, errors.NoMessagesError)


# --- streams ----------------------------------------------------------------------------------------------------------


def text_item(item_id: str, text: str = "12", **fields: Any) -> conversation_pb2.Item:
    return conversation_pb2.Item(id=item_id, text=text, **fields)


def items(*protos: conversation_pb2.Item) -> reward_service_pb2.ScoreBatchRequest:
    return reward_service_pb2.ScoreBatchRequest(items=reward_service_pb2.Items(items=protos))


class RawStream:
    """A stream driven by hand."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.call: Any = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreBatch()

    async def open(self, **fields: Any) -> reward_service_pb2.StreamOpened:
        opening = reward_service_pb2.OpenStream(**{"model": MODEL, **fields})
        await self.call.write(reward_service_pb2.ScoreBatchRequest(open=opening))
        return (await self.call.read()).opened

    async def send(self, *protos: conversation_pb2.Item) -> None:
        await self.call.write(items(*protos))

    async def results(self, count: int) -> list[Result]:
        found: list[Result] = []
        while len(found) < count:
            response = await asyncio.wait_for(self.call.read(), 30)
            assert response is not grpc.aio.EOF, "the stream ended before its results"
            found += [convert.result_from_proto(proto, 0) for proto in response.results.results]
        return found


async def test_the_opening_is_answered_with_model_and_window(server: ServerThread, logit: LocalModel) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        opened = await RawStream(channel).open()
        assert convert.model_info_from_proto(opened.model) == logit.info
        assert opened.window.items == 1024


async def test_submission_order_holds_back_and_completion_order_does_not(logit: LocalModel) -> None:
    for ordering, first in (
        (reward_service_pb2.ORDERING_SUBMISSION, ["slow", "bad", "b"]),
        (reward_service_pb2.ORDERING_COMPLETION, ["bad", "slow", "b"]),
    ):
        held = HeldScorer(logit.scorer)
        with ServerThread([with_scorer(logit, held)]) as server:
            async with grpc.aio.insecure_channel(server.address) as channel:
                stream = RawStream(channel)
                await stream.open(ordering=ordering)
                await stream.send(text_item("slow"))
                await asyncio.to_thread(held.started.wait, 30)
                await stream.send(text_item("bad", ""), text_item("b"))
                await asyncio.sleep(0.2)
                held.release.set()
                assert [result.id for result in await stream.results(3)] == first


async def test_a_message_holds_no_more_results_than_asked(server: ServerThread) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        stream = RawStream(channel)
        await stream.open(max_results_per_message=2)
        await stream.send(*(text_item(str(at), "") for at in range(7)))
        sizes = [len((await stream.call.read()).results.results) for _ in range(4)]
    assert sorted(sizes) == [1, 2, 2, 2]


async def test_taken_back_items_are_never_scored(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], max_batch_tokens=1) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = RawStream(channel)
            await stream.open()
            await stream.send(*(text_item(name) for name in "abcd"))
            await asyncio.to_thread(held.started.wait, 30)
            await asyncio.sleep(0.1)  # until the next batch is sent ahead of its time too
            cancel = reward_service_pb2.CancelItems(ids=["c", "nobody"])
            await stream.call.write(reward_service_pb2.ScoreBatchRequest(cancel=cancel))
            [cancelled] = await stream.results(1)
            held.release.set()
            rest = await stream.results(3)
    assert cancelled.id == "c"
    assert isinstance(cancelled.error, errors.ItemCancelledError)
    assert [result.id for result in rest if result.error is None] == ["a", "b", "d"]
    assert len(held.batches) == 3


async def test_items_whose_time_runs_out_are_never_scored(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], max_batch_tokens=1) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = RawStream(channel)
            await stream.open()
            await stream.send(
                *(text_item("a"), text_item("b"), text_item("late", timeout={"nanos": 50_000_000}), text_item("c"))
            )
            await asyncio.to_thread(held.started.wait, 30)
            await asyncio.sleep(0.1)
            held.release.set()
            by_id = {result.id: result for result in await stream.results(4)}
    assert isinstance(by_id["late"].error, errors.DeadlineExceededError)
    assert by_id["a"].error is None
    assert by_id["c"].error is None
    assert len(held.batches) == 3


async def test_a_stream_that_ends_takes_its_items_back(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], max_batch_tokens=1) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = RawStream(channel)
            await stream.open()
            await stream.send(*(text_item(str(at)) for at in range(20)))
            await asyncio.to_thread(held.started.wait, 30)
            stream.call.cancel()
            other = RawStream(channel)
            await other.open()
            await other.send(text_item("mine"))
            await asyncio.sleep(0.2)
            held.release.set()
            [result] = await other.results(1)
    assert result.error is None
    assert len(held.batches) <= 3, "of the cancelled stream only the batch in work and the one behind it were scored"


async def test_past_the_window_an_item_is_told_to_wait(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], window_items=3) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = RawStream(channel)
            opened = await stream.open()
            assert opened.window.items == 3
            for at in range(4):
                await stream.send(text_item(str(at)))
            [refused] = await stream.results(1)
            held.release.set()
            await stream.results(3)
            await stream.send(text_item("3"))
            [scored] = await stream.results(1)
    assert refused.id == "3"
    assert isinstance(refused.error, errors.WindowExceededError)
    assert refused.error.retry_delay is not None
    assert scored.error is None


async def test_a_full_queue_says_when_to_come_back_and_the_client_does(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], queue_items=4, max_batch_tokens=1) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = RawStream(channel)
            await stream.open()
            await stream.send(*(text_item(str(at)) for at in range(9)))
            refused = (await stream.results(5))[0]
            assert isinstance(refused.error, errors.OverloadedError)
            assert refused.error.retry_delay is not None
            async with AsyncRewardClient(server.address, model=MODEL) as client:
                scoring = asyncio.create_task(client.score(chats(6)))
                await asyncio.sleep(0.3)
                assert not scoring.done()
                held.release.set()
                assert len(await scoring) == 6


def test_a_failed_forward_is_the_error_of_its_batch_only(logit: LocalModel) -> None:
    failing = FailingScorer(logit.scorer, lambda conversations: any(len(one.ids) > 400 for one in conversations))
    with ServerThread([with_scorer(logit, failing)]) as server, RewardClient(server.address, model=MODEL) as client:
        long = chat("What is 1+1?" * 100, "2")
        results = client.score([chats(1)[0], long], on_error="return") + client.score(chats(3), on_error="return")
    assert any(isinstance(result.error, errors.ScorerFailedError) for result in results)
    assert all(result.error is None for result in results[-3:])


def test_a_text_pipeline_that_fails_on_one_item_costs_that_item(logit: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    text = logit.text
    render = text._render

    def failing(item: Item, options: ScoreOptions) -> Any:
        if item.group == "boom":
            raise ZeroDivisionError("a fault that nobody thought of")
        return render(item, options)

    monkeypatch.setattr(text, "_render", failing)
    with ServerThread([logit]) as server, RewardClient(server.address, model=MODEL) as client:
        conversations = [Item.of(chat("What is 1+1?", "2"), group="boom" if at == 3 else "") for at in range(8)]
        results = client.score(conversations, on_error="return")
        [read] = client.tokenize(conversations[3:4])
    assert [result.error is None for result in results] == [at != 3 for at in range(8)]
    assert isinstance(results[3].error, errors.InternalError)
    assert isinstance(read.error, errors.InternalError)


def test_a_reader_that_stalls_loses_nothing_and_blocks_nobody(server: ServerThread) -> None:
    with RewardClient(server.address, model=MODEL) as stalled, RewardClient(server.address, model=MODEL) as other:
        results = stalled.score_stream(chats(1500))
        first = next(results)
        assert len(other.score(chats(50))) == 50
        indices = [first.index, *(result.index for result in results)]
    assert sorted(indices) == list(range(1500))


class SilentServicer(reward_service_pb2_grpc.RewardServiceServicer):
    """Opens streams and then hangs, as a server does that is stopped or stuck."""

    async def ScoreBatch(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]  # noqa: N802
        await anext(aiter(request_iterator))
        opened = reward_service_pb2.StreamOpened(window=reward_service_pb2.Window(items=2000, bytes=10**9))
        await context.write(reward_service_pb2.ScoreBatchResponse(opened=opened))
        await asyncio.sleep(3600)


@pytest.mark.parametrize("size", [10, 200_000])
async def test_a_server_that_hangs_costs_no_more_than_the_timeout(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr("rm_grpc_client.session._ANSWER_GRACE", 0.3)
    server = grpc.aio.server()
    reward_service_pb2_grpc.add_RewardServiceServicer_to_server(SilentServicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with AsyncRewardClient(f"127.0.0.1:{port}", timeout=0.3) as client:
            start = time.monotonic()
            results = await client.score(["x" * size] * 100, on_error="return")
            assert time.monotonic() - start < 10
        assert [type(result.error) for result in results] == [errors.DeadlineExceededError] * 100
    finally:
        await server.stop(0)


def test_closing_a_client_ends_its_streams(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)]) as server:
        client = RewardClient(server.address, model=MODEL)
        raised: list[BaseException] = []

        def work() -> None:
            try:
                client.score(chats(3))
            except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert held.started.wait(30)
        client.close()
        thread.join(timeout=20)
        held.release.set()
        assert not thread.is_alive()
        assert [type(error) for error in raised] == [errors.ItemCancelledError]


def test_ctrl_c_in_a_stream_is_a_keyboard_interrupt(logit: LocalModel, request: pytest.FixtureRequest) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)]) as server, RewardClient(server.address, model=MODEL) as client:
        timer = threading.Timer(1.0, signal.pthread_kill, [threading.get_ident(), signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            list(client.score_stream(chats(3)))
        held.release.set()
        assert len(client.score(chats(2))) == 2, "the client goes on"


def test_a_slow_consumer_is_not_read_ahead_of(logit: LocalModel) -> None:
    taken = 0

    def rollouts() -> Iterator[list[dict[str, str]]]:
        nonlocal taken
        for conversation in chats(400):
            taken += 1
            yield conversation

    with ServerThread([logit], window_items=16) as server, RewardClient(server.address, model=MODEL) as client:
        results = client.score_stream(rollouts())
        next(results)
        time.sleep(2)
        assert taken < 300, "256 before the server has told its window, then no more than that"
        assert len(list(results)) == 399


# --- going down and coming back ---------------------------------------------------------------------------------------


async def test_a_draining_server_finishes_what_it_accepted(logit: LocalModel) -> None:
    held = HeldScorer(logit.scorer)
    with ServerThread([with_scorer(logit, held)], max_batch_tokens=1) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stream = RawStream(channel)
            await stream.open()
            await stream.send(text_item("a"), text_item("b"))
            await asyncio.to_thread(held.started.wait, 30)
            draining = asyncio.create_task(asyncio.to_thread(server.drain, 30))
            assert (await stream.call.read()).WhichOneof("message") == "draining"
            await stream.send(text_item("too late"))
            [refused] = await stream.results(1)
            assert isinstance(refused.error, errors.DrainingError)
            held.release.set()
            assert [result.error for result in await stream.results(2)] == [None, None]
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await stream.call.read()
            assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
            await draining


async def test_idle_streams_and_watches_do_not_hold_up_a_drain(logit: LocalModel) -> None:
    with ServerThread([logit]) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            unopened = reward_service_pb2_grpc.RewardServiceStub(channel).ScoreBatch()
            opened = RawStream(channel)
            await opened.open()
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.sleep(0.2)
            start = time.monotonic()
            await asyncio.to_thread(server.drain, 30)
            assert time.monotonic() - start < 10
            assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert await unopened.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_dies_and_comes_back_loses_nothing(tmp_path: Path, logit: LocalModel, how: signal.Signals) -> None:
    first = ServerProcess(tmp_path)
    address = first.wait()
    conversations = chats(300)
    second: list[ServerProcess] = []

    async def rollouts() -> AsyncIterator[list[dict[str, str]]]:
        for at, conversation in enumerate(conversations):
            if at == 150:
                first.process.send_signal(how)
                first.process.wait()
                second.append(ServerProcess(tmp_path, f"--listen={address}"))
            yield conversation

    try:
        async with AsyncRewardClient(address, model=MODEL, reconnect=120) as client:
            results = [result async for result in client.score_stream(rollouts())]
    finally:
        for server in (first, *second):
            server.stop()
    assert sorted(result.index for result in results) == list(range(300))
    scores = {result.index: result.score.score for result in results}
    assert [scores[at] for at in range(300)] == pytest.approx(expected(logit, conversations), abs=1e-5)


async def test_without_a_server_the_call_fails_in_time() -> None:
    async with AsyncRewardClient("127.0.0.1:1", model=MODEL, reconnect=1) as client:
        start = time.monotonic()
        with pytest.raises(errors.UnavailableError, match="no server answered for 1 s"):
            await client.score(chats(1))
        with pytest.raises(errors.UnavailableError):
            await client.list_models()
    assert time.monotonic() - start < 30


async def test_a_stream_that_is_left_early_is_closed(server: ServerThread) -> None:
    async with AsyncRewardClient(server.address, model=MODEL) as client:
        results = client.score_stream(chats(500))
        async for _ in results:
            break
        await results.aclose()  # type: ignore[attr-defined]  # an asynchronous generator
        assert len(await client.score(chats(3))) == 3


def test_a_closed_client_says_so(server: ServerThread) -> None:
    client = RewardClient(server.address, model=MODEL)
    client.close()
    client.close()
    with pytest.raises(RuntimeError, match="closed"):
        client.score(chats(1))


def test_plain_values_travel(client: RewardClient) -> None:
    conversation = Conversation((Message("user", ("What is", " 1+1?")), Message("assistant", "2", name="sum")))
    item = Item("mine", conversation, group="g", metadata={"reference": "2", "n": 1.5})
    [result] = client.score([item], on_error="return")
    assert (result.id, result.index) == ("mine", 0)
    assert result.error is None
