"""Keys and values of prompts, kept between batches, so that the last answers to a prompt do not pay for it again."""

from __future__ import annotations

import threading
from bisect import bisect_left, insort
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from rm_grpc_server.models.attention import Keys
from rm_grpc_server.models.packed import MIN_STORED_TOKENS, PackedBatch, Segment, StoredPrefix, path_to
from rm_grpc_server.models.prefixes import IdArray, common_prefix, sort_key


@dataclass(frozen=True, slots=True)
class Found:
    """What is stored of a batch's conversations.

    Attributes:
        prefixes: for each conversation the stored prefix that it begins with, or None.
        keys: keys and values by layer of each stored prefix.
        ids: token ids of each.
    """

    prefixes: tuple[StoredPrefix | None, ...] = ()
    keys: tuple[tuple[Keys, ...], ...] = ()
    ids: tuple[IdArray, ...] = ()


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

    def reserve(self, most: int) -> None:
        """Touches the memory of the host that will be filled, at most this many bytes, and leaves it to the allocator.

        The system hands memory out when it is first touched; in a virtual machine that cost 3 % of the forward passes until
        the store was full.
        """
        torch.empty(min(self._max_bytes, most), dtype=torch.uint8).zero_()

    def clear(self) -> bool:
        """Lets go of everything; whether there was anything."""
        with self._lock:
            had_some = bool(self._stored)
            self._stored.clear()
            self._order.clear()
            self.size = 0
        return had_some

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
            ids = tuple(self._stored[key].ids[: one.length] for key, one in chosen.items())
        prefixes = (chosen.get(key) if key in chosen and length >= chosen[key].length else None for key, length in matches)
        return Found(tuple(prefixes), keys, ids)

    def keep(self, batch: PackedBatch, kept: Sequence[Keys], found: Found) -> None:
        """Stores what conversations of a batch begin with: what several share, and what one has for the most part alone.

        Args:
            kept: keys and values of the row by layer.
            found: what was stored of the batch before.
        """
        for at, one in enumerate(batch.segments):
            whole = one.depth + one.length
            is_branch = one.subtree_end > one.end
            if one.stored >= 0 or whole < MIN_STORED_TOKENS or not (is_branch or 2 * one.length > whole):
                continue
            path = path_to(batch.segments, at)
            keys = tuple(self._joined(path, row, layer, found) for layer, row in enumerate(kept))
            self._put(_Stored(self._ids_of(path, batch, found), keys, sum(k.nbytes + v.nbytes for k, v in keys)))

    @staticmethod
    def _joined(path: Sequence[Segment], row: Keys, layer: int, found: Found) -> Keys:
        """Keys and values of a whole path in one layer, copied."""
        sources = [
            found.keys[one.stored][layer]
            if one.stored >= 0
            else (row[0][:, one.start : one.end], row[1][:, one.start : one.end])
            for one in path
        ]
        return torch.cat([k for k, _ in sources], 1), torch.cat([v for _, v in sources], 1)

    @staticmethod
    def _ids_of(path: Sequence[Segment], batch: PackedBatch, found: Found) -> IdArray:
        parts = [found.ids[one.stored] if one.stored >= 0 else batch.input_ids_T[one.start : one.end] for one in path]
        return np.concatenate(parts).astype(np.int32)

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
