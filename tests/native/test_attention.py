"""The native attention through its Python face: views as torch has them, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

rm_grpc_native = pytest.importorskip("rm_grpc_native")
if not rm_grpc_native.tile_instructions():
    pytest.skip("made for x86 alone", allow_module_level=True)

HEADS, KEY_HEADS, WIDTH = 6, 2, 24


def places(*rows: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(rows, np.int64).reshape(-1, 3)


def heads(count: int, tokens: int) -> torch.Tensor:
    """As a projection leaves them: the heads of a token side by side."""
    return torch.randn(tokens, count, WIDTH).transpose(0, 1)


def attend(
    query: torch.Tensor, sources: list[tuple[torch.Tensor, torch.Tensor]], runs: Any, path: Any, **options: Any
) -> torch.Tensor:
    output = torch.full((query.shape[1], query.shape[0], query.shape[2]), float("nan"))
    given = [(k.numpy(), v.numpy()) for k, v in sources]
    rm_grpc_native.attend(query.numpy(), given, runs, path, scale=WIDTH**-0.5, output=output.numpy(), **options)
    return output.transpose(0, 1)


def reference(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Queries are the last of the keys' tokens; in double precision."""
    behind = key.shape[1] - query.shape[1]
    visible = torch.arange(key.shape[1])[None] <= torch.arange(query.shape[1])[:, None] + behind
    group = query.shape[0] // key.shape[0]
    k, v = (one.double().repeat_interleave(group, 0) for one in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(query.double(), k, v, attn_mask=visible)


@pytest.mark.parametrize("instructions", rm_grpc_native.tile_instructions())
@pytest.mark.parametrize("threads", [1, 3])
def test_a_trie_attends_as_its_paths_do(instructions: str, threads: int) -> None:
    torch.manual_seed(0)
    query, key, value = heads(HEADS, 700), heads(KEY_HEADS, 700), heads(KEY_HEADS, 700)
    stored = heads(KEY_HEADS, 90), heads(KEY_HEADS, 90)
    runs = places((0, 300, 1), (300, 100, 2), (400, 300, 0))
    path = places((1, 10, 80), (1, 10, 80), (0, 0, 300))
    found = attend(query, [(key, value), stored], runs, path, instructions=instructions, threads=threads)
    prefix = [one[:, 10:90] for one in stored]
    prompt = [torch.cat([before, one[:, :300]], 1) for before, one in zip(prefix, (key, value), strict=True)]
    for start, end, above in ((0, 300, prefix), (300, 400, prompt)):
        keys, values = (torch.cat([before, one[:, start:end]], 1) for before, one in zip(above, (key, value), strict=True))
        expected = reference(query[:, start:end], keys, values)
        torch.testing.assert_close(found[:, start:end].double(), expected, atol=5e-6, rtol=0)
    alone = reference(query[:, 400:], key[:, 400:], value[:, 400:])
    torch.testing.assert_close(found[:, 400:].double(), alone, atol=5e-6, rtol=0)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"runs": places((0, 9, 0))}, "outside the row"),
        ({"runs": places((-1, 2, 0))}, "not negative"),
        ({"runs": places((0, 8, 1))}, "fewer parts"),
        ({"runs": places((0, 8, 1)), "path": places((1, 0, 2))}, "a source that there is not"),
        ({"runs": places((0, 8, 1)), "path": places((0, 4, 5))}, "outside its source"),
        ({"sources": []}, "own keys"),
        ({"instructions": "altivec"}, "altivec"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], match: str) -> None:
    query, key, value = heads(HEADS, 8), heads(KEY_HEADS, 8), heads(KEY_HEADS, 8)
    given = {"query": query, "sources": [(key, value)], "runs": places((0, 8, 0)), "path": places()} | changes
    with pytest.raises(ValueError, match=match):
        attend(**given)


def test_numbers_of_a_head_that_are_apart_are_refused() -> None:
    query = torch.randn(HEADS, WIDTH, 8).transpose(1, 2)
    keys = heads(KEY_HEADS, 8), heads(KEY_HEADS, 8)
    with pytest.raises(ValueError, match="side by side"):
        attend(query, [keys], places((0, 8, 0)), places())
