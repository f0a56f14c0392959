"""Attention over a packed row, registered with Transformers under a name of our own.

Transformers infers block-diagonal masks only under conditions that a caller can miss (no mask, no cache); then segments leak
into each other and every score is silently wrong. Here the plan of the batch comes with the call, and a call without one fails.

A token attends to the path that leads to it: its segment up to itself, and the whole of every segment that its own continues.
Two plans compute that. `MergedPlan` makes one call for a segment's own tokens and one for everything that continues it (which
stands right behind it in the row, so that keys are never copied), and merges the parts by their log-sum-exps. `VarlenPlan`
makes one `varlen_attn` call a layer on CUDA, over keys gathered path by path. A third, for x86 CPUs, is in `native_plan`.
"""

from __future__ import annotations

import inspect
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from rm_grpc_server.models.packed import PackedBatch, Segment, path_to

PACKED = "rm_grpc_packed"
Keys = tuple[Tensor, Tensor]
"""Keys and values of one layer, each [key_value_heads, tokens, head_dim]."""


@dataclass(frozen=True, slots=True)
class Form:
    """What a layer asks of attention beside its tensors: score scale, sliding window in tokens, softcap (Gemma 2)."""

    scale: float
    window: int | None
    softcap: float | None


class Plan(Protocol):
    """How the tokens of one batch attend. `rows` are all of the row's, or only those that are read."""

    def attend(self, query: Tensor, keys: Keys, stored: Sequence[Keys], form: Form) -> Tensor:
        """[heads, queries, head_dim] and keys of the row to [queries, heads, head_dim]."""


class OnDevices:
    """A small tensor of the host, copied once to each device that asks for it."""

    def __init__(self, tensor: Tensor) -> None:
        self._by_device = {torch.device("cpu"): tensor}

    def on(self, device: torch.device) -> Tensor:
        """The tensor there."""
        if device not in self._by_device:
            self._by_device[device] = self._by_device[torch.device("cpu")].pin_memory().to(device, non_blocking=True)
        return self._by_device[device]


class KeysTaken(Exception):  # noqa: N818 - no error: it ends a layer whose remaining work nobody reads
    """The last layer's keys and values are known; what else it would compute for unread tokens is left out."""


class Attending:
    """One forward pass of one batch, as its attention layers see it.

    Attributes:
        read_rows: positions of the row that are read, ascending, [unique rows] int64.
        stored: for each stored prefix of the batch its keys and values by layer.
        kept: keys and values of the row by layer, where `keep` asks for them.
    """

    def __init__(
        self, full: Plan, reads: Plan, read_rows: OnDevices, stored: Sequence[Sequence[Keys]] = (), *, keep: bool = False
    ) -> None:
        self._full = full
        self._reads = reads
        self.read_rows = read_rows
        self.stored = stored
        self.kept: list[Keys] = []
        self._keep = keep
        self._taking = False
        self._taken: Keys | None = None

    def take_keys(self) -> None:
        """The next layer is to give its keys only, by `KeysTaken`; the one after has the read rows as queries."""
        self._taking = True

    def attend(self, layer: int, query: Tensor, keys: Keys, form: Form) -> Tensor:
        """Attention of one layer; arguments as `Plan.attend`."""
        if self._taking:
            self._taking, self._taken = False, keys
            raise KeysTaken
        plan = self._full
        if self._taken is not None:
            plan, keys, self._taken = self._reads, self._taken, None
        if self._keep:
            self.kept.append(keys)
        return plan.attend(query, keys, [layers[layer] for layers in self.stored], form)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    attending: Attending | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of each token to the path that leads to it.

    Args:
        module: the attention layer, as Transformers passes it.
        query: [1, heads, tokens, head_dim]; key and value: [1, key_value_heads, tokens, head_dim].
        attention_mask: None; the registered mask function sees to it.
        sliding_window: how many tokens back a token sees, itself included.
        softcap: bound of the scores before the softmax (Gemma 2): softcap * tanh(scores / softcap).
        attending: the batch.

    Returns:
        [1, tokens, heads, head_dim], and no weights.

    Raises:
        RuntimeError: a call that this attention would answer wrongly.
    """
    if attending is None or attention_mask is not None:
        raise RuntimeError("packed attention needs the plan of the batch and no mask; this model does not pass them on")
    if not getattr(module, "is_causal", True):
        raise RuntimeError("packed attention is causal, and this layer is not")
    form = Form(scaling if scaling is not None else query.shape[-1] ** -0.5, sliding_window, softcap)
    layer = int(getattr(module, "layer_idx", 0))
    return attending.attend(layer, query[0], (key[0], value[0]), form)[None], None


@dataclass(frozen=True, slots=True)
class _Part:
    """Queries `queries` attend to the first `keys.stop - keys.start` tokens of a segment."""

    queries: slice
    keys: slice
    stored: int
    first_query: int
    last_query: int
    first_key: int
    """Positions in the conversation: the bounds that decide about a sliding window."""
    own: bool
    """Whether the queries stand among the keys, so that the part is causal."""


class MergedPlan:
    """One call for each segment's own tokens and one for all that continues it, merged by log-sum-exp."""

    def __init__(self, batch: PackedBatch, *, only_reads: bool) -> None:
        rows: Sequence[int] = batch.read_rows_U.tolist() if only_reads else range(batch.tokens)
        positions = batch.position_ids_T[batch.read_rows_U] if only_reads else batch.position_ids_T
        self._positions = OnDevices(torch.from_numpy(positions))
        self._own: list[_Part] = []
        self._above: list[_Part] = []
        for one in batch.segments:
            low, middle, high = (bisect_left(rows, bound) for bound in (one.start, one.end, one.subtree_end))
            keys = slice(one.start, one.start + one.length)
            for parts, first, last in ((self._own, low, middle), (self._above, middle, high)):
                if last > first:
                    bounds = int(positions[first:last].min()), int(positions[first:last].max())
                    own = parts is self._own
                    parts.append(_Part(slice(first, last), keys, one.stored, *bounds, one.depth, own))

    def attend(self, query: Tensor, keys: Keys, stored: Sequence[Keys], form: Form) -> Tensor:
        """See `Plan`."""
        heads, queries, _ = query.shape
        groups = keys[0].shape[0]
        grouped = query.unflatten(0, (groups, heads // groups))  # type: ignore[no-untyped-call]  # torch types it not
        merging = bool(self._above)
        output = query.new_empty((queries, heads, keys[1].shape[-1]), dtype=torch.float32 if merging else query.dtype)
        view = output.view(queries, groups, heads // groups, -1).permute(1, 2, 0, 3)
        lse = query.new_empty((groups, heads // groups, queries), dtype=torch.float32) if merging else None
        for part in self._own:
            result, logs = self._call(part, grouped, keys, form)
            view[:, :, part.queries] = result
            if lse is not None:
                lse[:, :, part.queries] = logs
        for part in self._above:
            assert lse is not None
            source = keys if part.stored < 0 else stored[part.stored]
            if form.window is not None and part.first_query - (part.first_key + _length(part.keys) - 1) >= form.window:
                continue
            result, logs = self._call(part, grouped, source, form)
            before = lse[:, :, part.queries]
            total = torch.logaddexp(before, logs)
            share = torch.exp(logs - total)[..., None]
            view[:, :, part.queries].lerp_(result.float(), share)
            lse[:, :, part.queries] = total
        return output.to(query.dtype)

    def _call(self, part: _Part, query: Tensor, keys: Keys, form: Form) -> Keys:
        q = query[:, :, part.queries]
        at = part.keys if part.stored < 0 else slice(0, _length(part.keys))
        k, v = keys[0][:, at], keys[1][:, at]
        windowed = form.window is not None and part.last_query - part.first_key >= form.window
        whole = part.own and q.shape[2] == k.shape[1]
        if form.softcap or windowed or q.device.type != "cpu":
            visible = self._visible(part, form.window if windowed else None, q.device) if part.own or windowed else None
            return _attend_by_hand(q, k, v, form, visible)
        k, v = (one[:, None].expand(-1, q.shape[1], -1, -1) for one in (k, v))
        if part.own and not whole:
            bias = torch.zeros((), dtype=q.dtype).where(self._visible(part, None, q.device), float("-inf"))
            return _flash(q, k, v, attn_mask=bias, scale=form.scale)  # type: ignore[no-any-return]
        return _flash(q, k, v, is_causal=whole, scale=form.scale)  # type: ignore[no-any-return]

    def _visible(self, part: _Part, window: int | None, device: torch.device) -> Tensor:
        """Which key (column) a query (row) sees: those not behind it, fewer than `window` back."""
        queries = self._positions.on(device)[part.queries][:, None]
        keys = torch.arange(part.first_key, part.first_key + _length(part.keys), device=device)[None]
        visible = keys <= queries
        return visible if window is None else visible & (queries - keys < window)


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


_MOST_QUERIES = 1024
"""Queries whose scores are in memory at once."""


def _attend_by_hand(q: Tensor, k: Tensor, v: Tensor, form: Form, visible: Tensor | None) -> Keys:
    """Attention and its log-sum-exp in float32; a query that sees nothing gets minus infinity and weighs nothing."""
    if q.shape[2] > _MOST_QUERIES:
        pieces = [slice(start, start + _MOST_QUERIES) for start in range(0, q.shape[2], _MOST_QUERIES)]
        parts = [_attend_by_hand(q[:, :, at], k, v, form, None if visible is None else visible[at]) for at in pieces]
        return torch.cat([output for output, _ in parts], 2), torch.cat([logs for _, logs in parts], 2)
    scores = (q @ k[:, None].transpose(2, 3)).float() * form.scale
    if form.softcap:
        scores = form.softcap * torch.tanh(scores / form.softcap)
    if visible is not None:
        scores = scores.masked_fill(~visible, float("-inf"))
    top = scores.amax(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).min)
    weights = torch.exp(scores - top)
    total = weights.sum(-1, keepdim=True)
    output = (weights / total.clamp_min(1e-30)).to(q.dtype) @ v[:, None]
    return output, (top + torch.log(total))[..., 0]


class VarlenPlan:
    """One variable-length call a layer over keys gathered path by path; CUDA, 16 bits, no softcap."""

    def __init__(self, batch: PackedBatch, stored_lengths: Sequence[int], *, only_reads: bool) -> None:
        """`stored_lengths` of each stored prefix, whose keys stand behind the row's own."""
        bases = [batch.tokens]
        for length in stored_lengths:
            bases.append(bases[-1] + length)
        runs = self._runs(batch, whole=not only_reads)
        gather: list[Tensor] = []
        key_ends, query_ends = [0], [0]
        self._longest_q = self._longest_k = 0
        for path, count in runs:
            total = 0
            for one, length in path:
                start = one.start if one.stored < 0 else bases[one.stored]
                gather.append(torch.arange(start, start + length))
                total += length
            key_ends.append(key_ends[-1] + total)
            query_ends.append(query_ends[-1] + count)
            self._longest_q, self._longest_k = max(self._longest_q, count), max(self._longest_k, total)
        self._needs_gather = only_reads or any(one.parent >= 0 for one in batch.segments)
        self._gather = OnDevices(torch.cat(gather))
        self._cu_q = OnDevices(torch.tensor(query_ends, dtype=torch.int32))
        self._cu_k = OnDevices(torch.tensor(key_ends, dtype=torch.int32))

    @staticmethod
    def _runs(batch: PackedBatch, *, whole: bool) -> list[tuple[list[tuple[Segment, int]], int]]:
        """For each run of queries the segments that it sees, with how many tokens of each, and its number of queries."""
        own = [one for one in batch.segments if one.stored < 0]
        above = [[(each, each.length) for each in path_to(batch.segments, one.parent)] for one in own]
        if whole:
            return [([*path, (one, one.length)], one.length) for path, one in zip(above, own, strict=True)]
        starts = [one.start for one in own]
        runs = []
        for row in batch.read_rows_U.tolist():
            at = bisect_right(starts, row) - 1
            runs.append(([*above[at], (own[at], row + 1 - own[at].start)], 1))
        return runs

    def attend(self, query: Tensor, keys: Keys, stored: Sequence[Keys], form: Form) -> Tensor:
        """See `Plan`."""
        from torch.nn.attention.varlen import varlen_attn  # there is none in builds without CUDA

        sources = [[layer[at] for layer in (keys, *stored)] for at in (0, 1)]
        k, v = (torch.cat(parts, dim=1) if len(parts) > 1 else parts[0] for parts in sources)
        k, v = k.transpose(0, 1), v.transpose(0, 1)
        if self._needs_gather:
            gather = self._gather.on(k.device)
            k, v = k.index_select(0, gather), v.index_select(0, gather)
        output: Tensor = varlen_attn(  # type: ignore[assignment]
            query.transpose(0, 1).contiguous(),
            k.contiguous(),
            v.contiguous(),
            self._cu_q.on(k.device),
            self._cu_k.on(k.device),
            self._longest_q,
            self._longest_k,
            scale=form.scale,
            window_size=(-1 if form.window is None else form.window - 1, 0),
            enable_gqa=query.shape[0] != k.shape[1],
            **_varlen_options(),
        )
        return output


@cache
def _varlen_options() -> dict[str, Any]:
    """What makes the kernel's reduction independent of the batch, where this torch's kernel splits keys at all."""
    from torch.nn.attention.varlen import varlen_attn

    return {"num_splits": 1} if "num_splits" in inspect.signature(varlen_attn).parameters else {}


def _length(part: slice) -> int:
    return int(part.stop) - int(part.start)


def _no_mask(*_: Any, **__: Any) -> None:
    return None


def register() -> None:
    """Makes the attention known to Transformers; harmless when repeated."""
    AttentionInterface.register(PACKED, packed_attention)
    AttentionMaskInterface.register(PACKED, _no_mask)
