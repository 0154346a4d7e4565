"""Linear maps for inference: weights that can be folded, and from them the fastest product at hand.

On a CPU the product is oneDNN's on weights packed beforehand, the one that torch's own compiler chooses: what
``torch.addmm`` calls there (MKL) uses half of the vector width of an AMD processor. Elsewhere it is ``torch.addmm``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_LIKELY_ROWS = 256  # a hint for the packing; any number of rows may come


@dataclass(frozen=True)
class Linear:
    """Transposed weight (in, out) and bias (out,)."""

    weight: Tensor
    bias: Tensor

    def to(self, dtype: torch.dtype) -> Linear:
        """Copy in another dtype."""
        return Linear(self.weight.to(dtype), self.bias.to(dtype))


class Product:
    """x W + b of a ``Linear``, whose later changes it does not see; no gradient goes through it."""

    @torch.no_grad()
    def __init__(self, linear: Linear) -> None:
        self.bias = linear.bias.detach().clone()
        self.packed = can_pack(linear.weight)
        if self.packed:
            self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().T.contiguous(), _LIKELY_ROWS)
        else:
            self.weight = linear.weight.detach().clone(memory_format=torch.contiguous_format)

    def __call__(self, x: Tensor) -> Tensor:
        """(S, out) of x (S, in)."""
        if not self.packed:
            return torch.addmm(self.bias, x, self.weight)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
        return product

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of it, in one pass where the product can."""
        if not self.packed:
            return functional.gelu(self(x))
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "gelu", [], "none")
        return product


def can_pack(weight: Tensor) -> bool:
    """True where oneDNN multiplies by ``weight``."""
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return weight.dtype == torch.float32


def copied(linear: nn.Linear) -> Linear:
    """Copy of a linear layer."""
    return Linear(linear.weight.T.contiguous(), linear.bias.clone())


def fold_norm(norm: nn.LayerNorm, linear: Linear) -> Linear:
    """The linear map after a layer norm, with the norm's scale and shift inside."""
    return Linear(linear.weight * norm.weight[:, None], linear.bias + norm.bias @ linear.weight)
