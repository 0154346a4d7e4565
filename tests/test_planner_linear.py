"""The product of a linear map: right for every shape, with packed weights and without."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from wm_planner import linear
from wm_planner.linear import Linear, Product, copied, fold_norm

sizes = st.integers(1, 70)


def random_map(inputs: int, outputs: int, seed: int = 0) -> tuple[Linear, torch.Generator]:
    generator = torch.Generator().manual_seed(seed)
    return Linear(torch.randn(inputs, outputs, generator=generator) / inputs**0.5, torch.randn(outputs, generator=generator)), generator


@pytest.mark.parametrize("packs", [True, False])
@settings(deadline=None)
@given(rows=sizes, inputs=sizes, outputs=sizes, seed=st.integers(0, 99))
def test_it_is_the_product_of_float64(packs: bool, rows: int, inputs: int, outputs: int, seed: int) -> None:
    values, generator = random_map(inputs, outputs, seed)
    x = torch.randn(rows, inputs, generator=generator)
    truth = x.double() @ values.weight.double() + values.bias.double()
    with pytest.MonkeyPatch.context() as patch:
        if not packs:
            patch.setattr(linear, "can_pack", lambda weight: False)
        product = Product(values)
    assert product.packed == (packs and linear.can_pack(values.weight))
    torch.testing.assert_close(product(x).double(), truth, atol=2e-5, rtol=0)
    torch.testing.assert_close(product.gelu(x).double(), functional.gelu(truth), atol=2e-5, rtol=0)


def test_long_rows_are_added_up_as_exactly_as_by_addmm() -> None:
    values, generator = random_map(1408, 64)
    x = torch.randn(100, 1408, generator=generator)
    truth = x.double() @ values.weight.double() + values.bias.double()

    def error(found: torch.Tensor) -> float:
        return float((found.double() - truth).square().mean().sqrt())

    assert error(Product(values)(x)) < 1.5 * error(torch.addmm(values.bias, x, values.weight))
    torch.testing.assert_close(Product(values).gelu(x).double(), functional.gelu(truth), atol=2e-5, rtol=0)


def test_in_bfloat16_it_is_as_near_as_that_is() -> None:
    values, generator = random_map(256, 64)
    x = torch.randn(33, 256, generator=generator).bfloat16()
    product = Product(values.to(torch.bfloat16))
    truth = x.float() @ values.weight + values.bias
    assert product(x).dtype == torch.bfloat16
    torch.testing.assert_close(product(x).float(), truth, atol=0.05, rtol=0.02)
    torch.testing.assert_close(product.gelu(x).float(), functional.gelu(truth), atol=0.05, rtol=0.02)


def test_the_same_rows_give_the_same_bits_every_time() -> None:
    values, generator = random_map(128, 384)
    product, x = Product(values), torch.randn(48, 128, generator=generator)
    first = product(x)
    assert all(torch.equal(product(x), first) for _ in range(20))
    assert torch.equal(Product(values)(x), first), "packed anew"


def test_later_changes_of_the_weights_are_not_seen() -> None:
    values, generator = random_map(8, 5)
    product, x = Product(values), torch.randn(3, 8, generator=generator)
    before = product(x)
    values.weight.zero_(), values.bias.zero_()
    assert torch.equal(product(x), before) and before.abs().max() > 0


def test_a_layer_and_the_norm_before_it_are_one_map() -> None:
    norm, layer = torch.nn.LayerNorm(16), torch.nn.Linear(16, 7)
    torch.nn.init.normal_(norm.weight), torch.nn.init.normal_(norm.bias)
    x = torch.randn(9, 16)
    with torch.no_grad():
        folded = Product(fold_norm(norm, copied(layer)))
        torch.testing.assert_close(folded(functional.layer_norm(x, (16,))), layer(norm(x)))


def test_where_there_is_no_packed_product_there_is_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not linear.can_pack(torch.zeros(2, 2, dtype=torch.float64)) and not linear.can_pack(torch.zeros(2, 2, device="meta"))
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not linear.can_pack(torch.zeros(2, 2))
