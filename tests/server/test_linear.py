"""Linear layers that oneDNN multiplies: the same products, the same weights, and only where nothing else hangs on a layer."""

from __future__ import annotations

import platform

import pytest
import torch

from rm_grpc_server.models import linear
from rm_grpc_server.models.linear import PackedLinear, pack_linears

pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="made for x86 alone")


def layers(*, bias: bool = True, dtype: torch.dtype = torch.float32) -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(48, 80, bias=bias, dtype=dtype), torch.nn.SiLU(), torch.nn.Linear(80, 33, bias=bias, dtype=dtype)
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (2, 300, 48), (0, 48), (48,)])
@torch.inference_mode()
def test_packed_layers_give_the_same_products(shape: tuple[int, ...], bias: bool) -> None:
    plain, packed = layers(bias=bias), layers(bias=bias)
    pack_linears(packed)
    assert [type(layer) for layer in packed] == [PackedLinear, torch.nn.SiLU, PackedLinear]
    rows = torch.randn(shape)
    torch.testing.assert_close(packed(rows), plain(rows), atol=1e-5, rtol=0)


def test_whoever_reads_the_weights_finds_them() -> None:
    plain, packed = layers(), layers()
    pack_linears(packed)
    assert torch.equal(packed[0].weight, plain[0].weight)
    assert torch.equal(packed[0].bias, plain[0].bias)
    assert (packed[0].in_features, packed[0].out_features) == (48, 80)


def test_rows_that_are_apart_are_read_where_they_lie() -> None:
    plain, packed = layers(), layers()
    pack_linears(packed)
    with torch.inference_mode():
        rows = torch.randn(48, 9).T
        torch.testing.assert_close(packed(rows), plain(rows), atol=1e-5, rtol=0)


def test_layers_that_do_more_or_other_things_stay() -> None:
    class Own(torch.nn.Linear):
        pass

    hooked, replaced = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8)
    hooked.register_forward_hook(lambda module, inputs, output: output + 1)
    replaced.forward = lambda input: input  # type: ignore[method-assign]  # noqa: A006
    model = torch.nn.ModuleList([hooked, replaced, Own(8, 8), torch.nn.Linear(8, 8, dtype=torch.bfloat16)])
    before = list(model)
    pack_linears(model)
    assert all(layer is other for layer, other in zip(model, before, strict=True))


def test_a_layer_that_is_multiplied_otherwise_stays(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    class Wrong(PackedLinear):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002
            return super().forward(input) * 1.001

    monkeypatch.setattr(linear, "PackedLinear", Wrong)
    model = layers()
    pack_linears(model)
    assert [type(layer) for layer in model] == [torch.nn.Linear, torch.nn.SiLU, torch.nn.Linear]
    assert "stays as it is" in caplog.text
