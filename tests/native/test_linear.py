"""The native linear layer through its Python face and in a model's place: torch's numbers to the bit, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch

rm_grpc_native = pytest.importorskip("rm_grpc_native")
if not rm_grpc_native.tile_instructions():
    pytest.skip("made for x86 alone", allow_module_level=True)

from rm_grpc_server.models.linear import NativeLinear, pack_linears, plain_products  # noqa: E402


def in_order(layer: torch.nn.Linear, rows: torch.Tensor) -> torch.Tensor:
    """Products added up as documented, in float64 that is rounded to float32 after each: as slow and plain as can be."""
    inputs = layer.in_features
    depth = inputs if inputs <= 192 else inputs // 2 if inputs < 384 else 192
    found = None if layer.bias is None else layer.bias.expand(len(rows), -1)
    for first in range(0, inputs, depth):
        total = torch.zeros(len(rows), layer.out_features)
        for at in range(first, min(first + depth, inputs)):
            # A product of two float32 is exact in float64, so that the sum is a fused multiply-add but for rare ties.
            total = (rows[:, at, None].double() * layer.weight[None, :, at].double() + total.double()).float()
        found = total if found is None else found + total
    assert found is not None
    return found


@pytest.mark.parametrize("instructions", rm_grpc_native.tile_instructions())
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (64, 31), (200, 33), (383, 64), (700, 100)])
@pytest.mark.parametrize("bias", [True, False])
@torch.inference_mode()
def test_products_are_added_up_in_the_order_that_is_told(inputs: int, outputs: int, bias: bool, instructions: str) -> None:
    torch.manual_seed(inputs)
    layer = torch.nn.Linear(inputs, outputs, bias=bias)
    rows = torch.randn(13, inputs)
    packed = rm_grpc_native.pack_weights(layer.weight.numpy(), threads=2)
    assert packed.ctypes.data % 64 == 0
    output = torch.full((13, outputs), float("nan"))
    offsets = layer.bias.numpy() if bias else None
    rm_grpc_native.linear(rows.numpy(), packed, offsets, output=output.numpy(), instructions=instructions)
    expected = in_order(layer, rows)
    assert (output != expected).float().mean() < 0.01
    torch.testing.assert_close(output, expected, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    torch.manual_seed(0)
    layer = NativeLinear(torch.nn.Linear(512, 96))
    rows = torch.randn(2, 300, 512)
    together = layer(rows)
    for start, end in ((0, 1), (17, 29), (250, 300)):
        assert torch.equal(layer(rows[:, start:end]), together[:, start:end])
    assert torch.equal(layer(rows[1, 7]), together[1, 7])
    assert torch.equal(layer(rows[0].T.contiguous().T), together[0]), "whatever lies side by side"


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(1, 48), (7, 48), (2, 300, 48), (0, 48), (48,)])
@torch.inference_mode()
def test_rows_of_any_shape_give_the_same_products(shape: tuple[int, ...], bias: bool) -> None:
    torch.manual_seed(0)
    plain = torch.nn.Linear(48, 80, bias=bias)
    layer, rows = NativeLinear(plain), torch.randn(shape)
    torch.testing.assert_close(layer(rows), plain(rows), atol=1e-5, rtol=0)
    assert (layer.in_features, layer.out_features, layer.bias is plain.bias) == (48, 80, True)


@torch.inference_mode()
def test_a_part_of_a_layer_has_the_shape_of_its_weights() -> None:
    """As it is on each of several ranks, where the layer still says what the whole has."""
    part = torch.nn.Linear(48, 80)
    part.weight, part.bias = torch.nn.Parameter(part.weight[:40].clone()), torch.nn.Parameter(part.bias[:40].clone())
    model, rows = torch.nn.Sequential(part), torch.randn(64, 48)
    expected = model(rows)
    pack_linears(model)
    torch.testing.assert_close(model(rows), expected, atol=1e-5, rtol=0)
    layer = NativeLinear(part)
    assert (layer.in_features, layer.out_features) == (48, 40)
    assert torch.equal(layer(rows), model(rows))


@torch.inference_mode()
def test_layers_are_put_in_place_where_they_give_the_same_bits() -> None:
    class Odd(torch.nn.Linear):
        pass

    torch.manual_seed(0)
    hooked = torch.nn.Linear(8, 8)
    hooked.register_forward_hook(lambda *_: None)
    replaced, half = torch.nn.Linear(8, 8), torch.nn.Linear(8, 8).half()
    replaced.forward = lambda input: input  # type: ignore[method-assign]  # noqa: A006
    model = torch.nn.Sequential(torch.nn.Linear(512, 96), torch.nn.Linear(96, 8), Odd(8, 8), hooked, half, replaced)
    others = list(model[2:])
    before = [layer.weight.clone() for layer in model]
    rows = torch.randn(64, 512)
    expected = model[1](model[0](rows))
    pack_linears(model)
    assert all(layer is other for layer, other in zip(model[2:], others, strict=True))
    assert all(torch.equal(layer.weight, weight) for layer, weight in zip(model, before, strict=True))
    assert torch.equal(model[1](model[0](rows)), expected)
    with plain_products(model):
        assert torch.equal(model[1](model[0](rows)), expected)


def test_layers_stay_torchs_where_bits_would_differ(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Linear(32, 32), torch.nn.Linear(32, 32))
    forward = NativeLinear.forward

    def rounded(self: NativeLinear, rows: torch.Tensor) -> torch.Tensor:
        found = forward(self, rows)
        return torch.nextafter(found, found + 1) if self.in_features == 32 else found

    monkeypatch.setattr(NativeLinear, "forward", rounded)
    pack_linears(model)
    assert type(model[1]) is type(model[2]) is torch.nn.Linear
    assert "(32, 32, True)" in caplog.text


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"packed": torch.zeros(2, 8, 32)}, "packed weights"),
        ({"packed": torch.zeros(1, 9, 32)}, "packed weights"),
        ({"rows": torch.zeros(5, 0)}, "inputs and outputs"),
        ({"rows": torch.zeros(8, 5).T}, "side by side"),
        ({"bias": torch.zeros(9)}, "bias"),
        ({"output": torch.zeros(4, 10)}, "as many rows"),
        ({"instructions": "altivec"}, "altivec"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], match: str) -> None:
    shapes = {"rows": torch.zeros(5, 8), "packed": torch.zeros(1, 8, 32), "bias": torch.zeros(10), "output": torch.zeros(5, 10)}
    given = {name: one.numpy() if isinstance(one, torch.Tensor) else one for name, one in (shapes | changes).items()}
    with pytest.raises(ValueError, match=match):
        rm_grpc_native.linear(**given)
