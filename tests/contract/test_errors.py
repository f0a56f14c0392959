"""Every error survives the wire, and stays small enough for trailers."""

from __future__ import annotations

import copy
import pickle

import grpc
import pytest
from google.rpc import status_pb2
from hypothesis import given
from hypothesis import strategies as st

from rm_grpc import errors


def everything() -> list[type[errors.RewardError]]:
    return list(errors.BY_REASON.values())


def test_each_class_has_a_reason_of_its_own() -> None:
    classes = [cls for cls in errors._tree(errors.RewardError) if cls.__module__ == errors.__name__]
    assert len(classes) == len(everything())
    assert all(cls.__doc__ for cls in classes)


@pytest.mark.parametrize("cls", everything())
def test_round_trip(cls: type[errors.RewardError]) -> None:
    error = cls("what and how", field="items[2].text", retry_delay=1.5, metadata={"limit": "7"})
    back = errors.from_status(errors.to_status(error))
    assert type(back) is cls
    assert (back.message, back.field, back.retry_delay, back.metadata, back.reason) == (
        "what and how",
        "items[2].text",
        1.5,
        {"limit": "7"},
        cls.reason,
    )
    assert str(back) == "items[2].text: what and how"
    assert errors.to_status(back) == errors.to_status(error)


@given(st.text(), st.text(max_size=500), st.none() | st.floats(0, 1e6))
def test_any_text_stays_under_a_kilobyte(message: str, field: str, delay: float | None) -> None:
    status = errors.to_status(errors.InvalidRequestError(message * 50, field=field, retry_delay=delay))
    assert status.ByteSize() < 1024
    errors.from_status(status)


def test_a_code_without_a_class_stays_what_it_is() -> None:
    for code in grpc.StatusCode:
        back = errors.from_status(status_pb2.Status(code=code.value[0], message="no"))
        assert back.code is code
        assert pickle.loads(pickle.dumps(back)).code is code
        assert back.at("field").code is code
        assert errors.from_status(errors.to_status(back)).code is code
        assert errors.from_rpc_error(code, "no", ()).code is code


def test_a_reason_of_a_newer_server_becomes_its_code() -> None:
    status = errors.to_status(errors.OverloadedError("later", retry_delay=2))
    info = status.details[0]
    raw = info.value.replace(b"OVERLOADED", b"MOON_PHASE")
    info.value = raw
    back = errors.from_status(status)
    assert type(back) is errors.ResourceExhaustedError
    assert back.reason == "MOON_PHASE"
    assert back.retry_delay == 2
    assert errors.from_status(errors.to_status(back)).reason == "MOON_PHASE"


def test_a_status_without_details() -> None:
    assert type(errors.from_status(status_pb2.Status(code=14, message="gone"))) is errors.UnavailableError
    assert type(errors.from_status(status_pb2.Status(code=15))) is errors.RewardError


def test_a_failed_call() -> None:
    status = errors.to_status(errors.ModelNotFoundError("no", field="model"))
    metadata = (("x", "y"), ("grpc-status-details-bin", status.SerializeToString()))
    assert isinstance(errors.from_rpc_error(grpc.StatusCode.NOT_FOUND, "no", metadata), errors.ModelNotFoundError)
    assert isinstance(errors.from_rpc_error(grpc.StatusCode.UNAVAILABLE, "no", None), errors.UnavailableError)
    large = errors.from_rpc_error(grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", ())
    assert isinstance(large, errors.MessageTooLargeError)


def test_within_names_the_outer_path() -> None:
    assert errors.NoMessagesError("x", field="messages").within("items[3]").field == "items[3].messages"
    assert errors.NoMessagesError("x").within("items[3]").field == "items[3]"


@pytest.mark.parametrize("copier", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_copies_are_whole(copier) -> None:  # type: ignore[no-untyped-def]
    error = errors.OverloadedError("m", field="f", retry_delay=3.0, metadata={"a": "b"})
    back = copier(error)
    assert type(back) is type(error)
    assert (back.message, back.field, back.retry_delay, back.metadata) == ("m", "f", 3.0, {"a": "b"})
