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
_LONG, _PIECE = 512, 256  # inputs


@dataclass(frozen=True)
class Linear:
    """Transposed weight (in, out) and bias (out,)."""

    weight: Tensor
    bias: Tensor

    def to(self, dtype: torch.dtype) -> Linear:
        """Copy in another dtype."""
        return Linear(self.weight.to(dtype), self.bias.to(dtype))


class Product:
    """x W + b of a ``Linear``, whose later changes it does not see; no gradient goes through it.

    oneDNN adds up a whole row one after the other. Long ones are cut into pieces, which keeps the error in float32 as small as
    that of ``torch.addmm``.
    """

    @torch.no_grad()
    def __init__(self, linear: Linear) -> None:
        weight, self.bias = linear.weight.detach(), linear.bias.detach().clone()
        self.packed = can_pack(weight)
        if self.packed:
            piece = _PIECE if weight.dtype == torch.float32 and len(weight) > _LONG else len(weight)
            pieces = [rows.T.contiguous() for rows in torch.split(weight, piece)]
            self.weights = [torch.ops.mkldnn._reorder_linear_weight(rows, _LIKELY_ROWS) for rows in pieces]
            self.inputs = [rows.shape[1] for rows in pieces]
        else:
            self.weights = [weight.clone(memory_format=torch.contiguous_format)]

    def __call__(self, x: Tensor) -> Tensor:
        """(S, out) of x (S, in)."""
        if not self.packed:
            return torch.addmm(self.bias, x, self.weights[0])
        if len(self.weights) == 1:
            return self._product(x, 0, "none")
        pieces = torch.split(x, self.inputs, dim=1)
        y = self._product(pieces[0], 0, "none")
        for index in range(1, len(pieces)):
            y.add_(self._product(pieces[index], index, "none"))
        return y

    def gelu(self, x: Tensor) -> Tensor:
        """GELU of it, in one pass where the product can."""
        return self._product(x, 0, "gelu") if self.packed and len(self.weights) == 1 else functional.gelu(self(x))

    def added(self, to: Tensor, x: Tensor) -> Tensor:
        """It and ``to`` (S, out), in one pass where the product can."""
        if self.packed and len(self.weights) == 1:
            total: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, to, self.weights[0], self.bias, "add")
            return total
        return to + self(x)

    def _product(self, x: Tensor, index: int, then: str) -> Tensor:
        bias = self.bias if index == 0 else None
        product: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weights[index], bias, then, [], "none" if then == "gelu" else "")
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
