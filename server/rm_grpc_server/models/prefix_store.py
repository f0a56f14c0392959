"""Keys and values of prompts, kept between batches, so that the last answers to a prompt do not pay for it again."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from rm_grpc_server.models.attention import Keys
from rm_grpc_server.models.packed import MIN_STORED_TOKENS, IdArray, PackedBatch, StoredPrefix, common_prefix, sort_key


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of a batch's conversations.

    Attributes:
        prefixes: for each conversation the stored prefix that it begins with, or None.
        keys: keys and values by layer of each stored prefix.
    """

    prefixes: tuple[StoredPrefix | None, ...]
    keys: tuple[tuple[Keys, ...], ...]


@dataclass(frozen=True, slots=True)
class _Stored:
    ids: IdArray
    keys: tuple[Keys, ...]
    size: int


class PrefixStore:
    """Bounded in bytes; what was used longest ago leaves first.

    Attributes:
        size: bytes of keys and values that are kept.
    """

    def __init__(self, max_bytes: int) -> None:
        self.size = 0
        self._max_bytes = max_bytes
        self._stored: OrderedDict[bytes, _Stored] = OrderedDict()
        self._order: list[bytes] = []
        self._lock = threading.Lock()

    def find(self, conversations: Sequence[IdArray], first_reads: Sequence[int]) -> Found:
        """What is stored of the conversations, never as far as the first position that is read of one."""
        with self._lock:
            matches = [self._match(ids, last) for ids, last in zip(conversations, first_reads, strict=True)]
            longest: dict[bytes, int] = {}
            for key, length in matches:
                longest[key] = max(longest.get(key, 0), length)
            # One length for all that begin with the same stored prefix, so that they share what follows it.
            lengths: dict[bytes, int] = {}
            for key, length in matches:
                if 2 * length >= longest[key] >= MIN_STORED_TOKENS:
                    lengths[key] = min(lengths.get(key, length), length)
            chosen = {key: StoredPrefix(at, length) for at, (key, length) in enumerate(lengths.items())}
            for key in chosen:
                self._stored.move_to_end(key)
            keys = tuple(
                tuple((k[:, : one.length], v[:, : one.length]) for k, v in self._stored[key].keys)
                for key, one in chosen.items()
            )
        prefixes = (chosen.get(key) if key in chosen and length >= chosen[key].length else None for key, length in matches)
        return Found(tuple(prefixes), keys)

    def keep(self, batch: PackedBatch, kept: Sequence[Keys]) -> None:
        """Stores what the conversations of a batch begin with: the part that they share, or the whole of a lone one.

        Args:
            kept: keys and values of the row by layer.
        """
        for one in batch.segments:
            if one.parent >= 0 or one.stored >= 0 or one.length < MIN_STORED_TOKENS:
                continue
            ids = batch.input_ids_T[one.start : one.end].astype("int32")
            keys = tuple((k[:, one.start : one.end].clone(), v[:, one.start : one.end].clone()) for k, v in kept)
            self._put(_Stored(ids, keys, sum(k.nbytes + v.nbytes for k, v in keys)))

    def _put(self, new: _Stored) -> None:
        key = sort_key(new.ids)
        with self._lock:
            if key in self._stored or new.size > self._max_bytes:
                return
            self._stored[key] = new
            insort(self._order, key)
            self.size += new.size
            while self.size > self._max_bytes:
                oldest, gone = self._stored.popitem(last=False)
                del self._order[bisect_left(self._order, oldest)]
                self.size -= gone.size

    def _match(self, ids: IdArray, limit: int) -> tuple[bytes, int]:
        """The stored conversation that begins most like this one, and in how many tokens, at most `limit`."""
        at = bisect_left(self._order, sort_key(ids))
        near = [(key, common_prefix(ids, self._stored[key].ids)) for key in self._order[max(0, at - 1) : at + 1]]
        key, length = max(near, key=lambda one: one[1], default=(b"", 0))
        return key, min(length, limit)
