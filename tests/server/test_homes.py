"""Stragglers of a group go to the replica that has their prompt."""

from __future__ import annotations

import random

from services.pools import entry

from rm_grpc_server.engine.entry import Entry
from rm_grpc_server.engine.homes import Homes


def conversation(*parts: tuple[int, int]) -> Entry:
    """Each part is its seed and length."""
    return entry(*(token for seed, length in parts for token in random.Random(seed).choices(range(1000), k=length)))


def test_a_prompt_is_at_home_where_it_was_computed_behind_a_common_system_message_too() -> None:
    homes, system = Homes(), (0, 200)
    homes.settle([conversation(system, (1, 300), (10, 5))], 0)
    homes.settle([conversation(system, (2, 300), (20, 5))], 1)
    first, second = conversation(system, (1, 300), (11, 5)), conversation(system, (2, 300), (21, 5))
    assert [homes.of(replica)(first) for replica in (0, 1)] == [True, False]
    assert [homes.of(replica)(second) for replica in (0, 1)] == [False, True]


def test_what_nobody_computed_or_everybody_did_is_at_home_everywhere() -> None:
    homes, system = Homes(), (0, 200)
    homes.settle([conversation(system, (1, 300))], 0)
    homes.settle([conversation(system, (2, 300))], 1)
    assert all(homes.of(replica)(conversation(system, (3, 300))) for replica in (0, 1))
    assert all(homes.of(replica)(conversation((9, 300))) for replica in (0, 1))
    assert all(homes.of(replica)(conversation((0, 5))) for replica in (0, 1))
