"""The choice among servers, without any."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rm_grpc_client.routing import Routing

THREE = ("a:1", "b:1", "c:1")


def test_the_least_loaded_server_is_chosen() -> None:
    routing = Routing(THREE)
    seen, ends = [], {}
    for _ in range(6):
        address = routing.choose(None, 0.0)
        assert address is not None
        ends[address] = routing.sent(address)
        seen.append(address)
    assert sorted(seen) == sorted(THREE * 2)
    ends["b:1"](None)
    assert routing.choose(None, 0.0) == "b:1"


def test_a_group_stays_on_its_server_until_that_is_far_busier() -> None:
    routing = Routing(THREE, "group")
    own = routing.choose("prompt", 0.0)
    assert own is not None
    for _ in range(16):
        assert routing.choose("prompt", 0.0) == own
        routing.sent(own)
    routing.sent(own)
    assert routing.choose("prompt", 0.0) != own


def test_groups_spread_over_servers_and_only_those_of_a_lost_one_move() -> None:
    routing = Routing(THREE, "group")
    before = {group: routing.choose(group, 0.0) for group in range(300)}
    assert all(60 < sum(address == one for one in before.values()) < 140 for address in THREE)
    routing.failed("a:1", 0.0)
    after = {group: routing.choose(group, 0.1) for group in range(300)}
    assert all(after[group] == before[group] for group in before if before[group] != "a:1")
    assert "a:1" not in after.values()


def test_a_server_that_failed_is_asked_again_after_growing_pauses() -> None:
    routing = Routing(("a:1", "b:1"))
    routing.failed("a:1", 0.0)
    routing.failed("a:1", 0.1)  # the same failure, told by another of its items
    assert routing.choose(None, 0.4) == "b:1"
    assert routing.choose(None, 0.5) == "a:1"
    routing.failed("a:1", 0.5)
    assert routing.choose(None, 1.4) == "b:1"
    assert routing.choose(None, 1.5) == "a:1"
    routing.answered("a:1")
    routing.failed("a:1", 2.0)
    assert routing.choose(None, 2.5) == "a:1"


def test_health_counts_at_once_and_an_item_goes_somewhere_all_the_same() -> None:
    routing = Routing(("a:1", "b:1"))
    routing.set_health("a:1", False)
    assert routing.choose(None, 0.0) == "b:1"
    routing.set_health("b:1", False)
    assert routing.choose(None, 0.0) in ("a:1", "b:1")
    assert routing.choose(None, 0.0, without=["a:1"]) == "b:1"
    assert routing.choose(None, 0.0, without=["a:1", "b:1"]) is None
    routing.set_health("a:1", True)
    assert routing.choose(None, 0.0) == "a:1"


EVENTS = st.lists(st.sampled_from(["choose", "fail", "end", "health", "lose"]), max_size=60)


@given(EVENTS, st.sampled_from(["least_loaded", "group"]))
def test_a_choice_is_always_a_server_that_is_there(events: list[str], strategy: str) -> None:
    routing = Routing(THREE, strategy)  # type: ignore[arg-type]  # drawn from the two that there are
    addresses, now, ends = list(THREE), 0.0, []
    for at, event in enumerate(events):
        now += 0.3
        address = addresses[at % len(addresses)]
        if event == "choose":
            chosen = routing.choose(at % 5, now)
            assert chosen in addresses
            ends.append(routing.sent(chosen))
        elif event == "fail":
            routing.failed(address, now)
        elif event == "end" and ends:
            ends.pop(0)(None)
        elif event == "health":
            routing.set_health(address, at % 2 == 0)
        elif len(addresses) > 1:
            addresses.remove(address)
            routing.set_addresses(addresses)
    assert set(routing.addresses) == set(addresses)


def test_a_server_that_goes_and_comes_back_owes_nothing() -> None:
    routing = Routing(("a:1", "b:1"))
    ends = [routing.sent("a:1") for _ in range(100)]
    routing.set_addresses(["b:1"])
    routing.set_addresses(["a:1", "b:1"])
    for end in ends:
        end(None)
    chosen = []
    for _ in range(100):
        address = routing.choose(None, 0.0)
        assert address is not None
        routing.sent(address)
        chosen.append(address)
    assert chosen.count("a:1") == 50
