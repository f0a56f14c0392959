"""A batch without padding: one row of tokens, laid out as a trie, in which each distinct prefix stands once.

Conversations that begin alike share the tokens of their beginning; nobody has to say which ones do. The trie is found on token
ids: a text that is split at a character may encode differently.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from rm_grpc_server.models.prefixes import IdArray, order_by_ids

MIN_SHARED_TOKENS = 16
"""Fewest tokens that sharing must save to be worth a segment of its own: each costs one more attention call a layer."""

MIN_STORED_TOKENS = 64
"""Fewest tokens of a beginning that is kept between batches; shorter ones are computed sooner than looked up and merged."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of tokens that all conversations through it have in common.

    Attributes:
        start, end: where it stands in the row. Both are equal for keys and values that come from an earlier batch.
        subtree_end: where the segments that continue it end; they stand right behind it.
        depth: position of its first token in its conversations.
        length: tokens; `end - start` unless it is stored.
        parent: index of the segment that it continues, or -1.
        conversations: how many run through it or end in it.
        stored: index among the stored prefixes of the batch, or -1.
    """

    start: int
    end: int
    subtree_end: int
    depth: int
    length: int
    parent: int
    conversations: int
    stored: int = -1


@dataclass(frozen=True, slots=True)
class FixedShape:
    """The shape that batches are filled up to, so that a score's bits do not depend on what it is batched with.

    Attributes:
        tokens: tokens in the row, of which at least one is filler.
        reads: rows that are read.
    """

    tokens: int
    reads: int

    @property
    def room(self) -> int:
        """Most tokens of conversations."""
        return self.tokens - 1

    @classmethod
    def of(cls, length: int, tokens: int) -> FixedShape:
        """The shape for a conversation of this length: `tokens`, doubled until it fits. Its own length alone decides."""
        while tokens - 1 < length:
            tokens *= 2
        return cls(tokens, max(1, tokens // 16))


@dataclass(frozen=True, slots=True)
class StoredPrefix:
    """Leading tokens whose keys and values are at hand from an earlier batch: which of them, and how many tokens."""

    index: int
    length: int


@dataclass(frozen=True, slots=True)
class PackedBatch:
    """Conversations as paths of one row; a token attends to the path that leads to it.

    Attributes:
        input_ids_T: token ids, [tokens] int64.
        position_ids_T: each token's position in its conversations, [tokens] int64.
        segments: depth first, so that what continues a segment stands right behind it.
        read_rows_U: the different positions of the row whose hidden states are read, ascending, [unique rows] int64.
        reads_R: for each read, grouped by conversation, its place in `read_rows_U`, [reads] int64.
        reads_per_conversation: how many of the reads belong to each conversation.
        shared_tokens: how many tokens of each conversation are computed for others too, or were before.
    """

    input_ids_T: npt.NDArray[np.int64]
    position_ids_T: npt.NDArray[np.int64]
    segments: tuple[Segment, ...]
    read_rows_U: npt.NDArray[np.int64]
    reads_R: npt.NDArray[np.int64]
    reads_per_conversation: tuple[int, ...]
    shared_tokens: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens in the row."""
        return len(self.input_ids_T)


def path_to(segments: Sequence[Segment], at: int) -> list[Segment]:
    """The segments from the root to the one of this index, itself included; none for -1."""
    path = []
    while at >= 0:
        path.append(segments[at])
        at = segments[at].parent
    return path[::-1]


def pack(
    conversations: Sequence[IdArray],
    reads: Sequence[Sequence[int]],
    *,
    share: bool = True,
    stored: Sequence[StoredPrefix | None] = (),
    fixed: FixedShape | None = None,
) -> PackedBatch:
    """Lays conversations into one row.

    Args:
        conversations: token ids of each, not empty.
        reads: positions within each conversation whose hidden states are read.
        share: whether equal beginnings are computed once.
        stored: the stored prefix that each conversation begins with, shorter than its first read position; empty for none.
        fixed: the shape to fill up to; goes with neither sharing nor stored prefixes.

    Raises:
        ValueError: more than the fixed shape holds.
    """
    groups: dict[StoredPrefix | None, list[int]] = {}
    for at in range(len(conversations)):
        groups.setdefault(stored[at] if stored else None, []).append(at)
    trie = _Trie(conversations, share)
    for prefix, members in groups.items():
        trie.add(members, prefix)
    if fixed is not None:
        trie.fill(fixed.tokens)
    return trie.packed(reads, fixed.reads if fixed is not None else 0)


_FILLER = 64


class _Trie:
    """Segments in the making."""

    def __init__(self, conversations: Sequence[IdArray], share: bool) -> None:
        self._ids = conversations
        self._share = share
        self._parts: list[IdArray] = []
        self._tokens = 0
        self._drafts: list[Segment] = []
        self._last_of = [-1] * len(conversations)
        """The segment that each conversation ends in."""

    def add(self, members: Sequence[int], prefix: StoredPrefix | None) -> None:
        """Adds conversations that begin with the same stored prefix, or with none."""
        root, depth = -1, 0
        if prefix is not None:
            root, depth = len(self._drafts), prefix.length
            here = self._tokens
            self._drafts.append(Segment(here, here, 0, 0, depth, -1, len(members), prefix.index))
        if not self._share:
            for member in members:
                self._last_of[member] = self._append(member, root, depth, len(self._ids[member]), 1)
            return
        classes: list[list[int]] = []
        shared: list[int] = []
        order, common = order_by_ids([self._ids[member] for member in members])
        for at, length in zip(order.tolist(), common.tolist(), strict=True):
            member = members[at]
            if classes and length == len(self._ids[member]) == len(self._ids[classes[-1][0]]):
                classes[-1].append(member)
                continue
            classes.append([member])
            shared.append(length)
        self._add_sorted(classes, shared, depth, root)

    def _add_sorted(self, classes: list[list[int]], shared: list[int], depth: int, root: int) -> None:
        """Adds different conversations in the order of their ids; equal ones are one class.

        Args:
            shared: how many leading ids each class has in common with the one before it.
        """
        ids = [self._ids[members[0]] for members in classes]
        pending = [(0, len(classes), depth, root)]
        while pending:
            low, high, depth, parent = pending.pop()
            if high - low == 1:
                end = len(ids[low])
                last = self._append(classes[low][0], parent, depth, end, len(classes[low])) if end > depth else parent
                for member in classes[low]:
                    self._last_of[member] = last
                continue
            common = min(shared[low + 1 : high])
            splits = [low, *(at for at in range(low + 1, high) if shared[at] == common), high]
            if (len(splits) - 2) * (common - depth) >= MIN_SHARED_TOKENS:
                through = sum(len(members) for members in classes[low:high])
                parent = self._append(classes[low][0], parent, depth, common, through)
                depth = common
            pending += [(start, end, depth, parent) for start, end in reversed(list(itertools.pairwise(splits)))]

    def _append(self, member: int, parent: int, depth: int, end: int, through: int) -> int:
        start = self._tokens
        self._parts.append(self._ids[member][depth:end])
        self._tokens += end - depth
        self._drafts.append(Segment(start, self._tokens, 0, depth, end - depth, parent, through))
        return len(self._drafts) - 1

    def fill(self, tokens: int) -> None:
        """Fills the row up with segments that nobody reads, short ones because attention to them is wasted."""
        if self._tokens >= tokens:
            raise ValueError(f"{self._tokens} tokens do not leave one of {tokens} for filling")
        while self._tokens < tokens:
            length = min(_FILLER, tokens - self._tokens)
            self._parts.append(np.zeros(length, dtype=np.int32))
            self._drafts.append(Segment(self._tokens, self._tokens + length, 0, 0, length, -1, 0))
            self._tokens += length

    def packed(self, reads: Sequence[Sequence[int]], fill_reads: int) -> PackedBatch:
        segments = self._finished()
        rows = [self._row(segments, self._last_of[at], position) for at, places in enumerate(reads) for position in places]
        unique, inverse = np.unique(np.array(rows, dtype=np.int64), return_inverse=True)
        if fill_reads:
            if len(unique) > fill_reads:
                raise ValueError(f"{len(unique)} rows are read, and the shape has {fill_reads}")
            unique = np.concatenate([unique, np.full(fill_reads - len(unique), self._tokens - 1)])
        return PackedBatch(
            input_ids_T=np.concatenate(self._parts).astype(np.int64),
            position_ids_T=np.concatenate(
                [np.arange(one.depth, one.depth + one.length, dtype=np.int64) for one in segments if one.stored < 0]
            ),
            segments=segments,
            read_rows_U=unique,
            reads_R=inverse.astype(np.int64),
            reads_per_conversation=tuple(len(places) for places in reads),
            shared_tokens=tuple(
                sum(one.length for one in path_to(segments, last) if one.conversations > 1 or one.stored >= 0)
                for last in self._last_of
            ),
        )

    def _finished(self) -> tuple[Segment, ...]:
        ends = [draft.end for draft in self._drafts]
        for at in reversed(range(len(ends))):
            parent = self._drafts[at].parent
            if parent >= 0:
                ends[parent] = max(ends[parent], ends[at])
        return tuple(replace(one, subtree_end=end) for one, end in zip(self._drafts, ends, strict=True))

    @staticmethod
    def _row(segments: Sequence[Segment], at: int, position: int) -> int:
        while segments[at].depth > position:
            at = segments[at].parent
        return segments[at].start + position - segments[at].depth
