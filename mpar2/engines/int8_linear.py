"""Linear layers over int8 rows, for decoding on a CPU: ``Int8Linear``.

Decoding reads every weight once for each token, so the memory bandwidth limits it, and int8 needs half the bytes of
bfloat16. For few inputs PyTorch's weight-only int8 product reads the rows directly. Its inputs are bfloat16, which is
fast for it on every processor. For many inputs, as in the prefill, each layer casts its rows to the model's precision.
Times: ``benchmarks/README.md``.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["Int8Linear", "float_rows", "int8_rows"]

_ROWS = 512  # rows converted at a time, to avoid a float32 copy of the whole matrix
_FEW = 8  # largest number of inputs for which the weight-only product is faster than the cast
_COLUMNS = 16  # the weight-only product needs a multiple of this number of columns


def int8_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round a matrix to int8 with one scale for each row, s = max |row| / 127.

    Args:
        weight: (rows, columns), floating point.

    Returns:
        The rows, int8 (rows, columns), and their scales, float32 (rows,).
    """
    scale = weight.abs().amax(1).float().clamp_min(1e-8) / 127
    rows = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    for start in range(0, len(weight), _ROWS):
        part = slice(start, start + _ROWS)
        rows[part] = (weight[part].float() / scale[part, None]).round().clamp(-127, 127).to(torch.int8)
    return rows, scale


def float_rows(rows: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the matrix of :func:`int8_rows`, (rows, columns), in a precision."""
    weight = torch.empty(rows.shape, dtype=dtype, device=rows.device)
    for start in range(0, len(rows), _ROWS):
        part = slice(start, start + _ROWS)
        weight[part] = (rows[part].float() * scale[part, None]).to(dtype)
    return weight


class Int8Linear(nn.Linear):
    """A linear layer whose weight is int8 rows; no gradient flows through it.

    Args:
        rows: Int8 (out, in).
        scale: Of each row, (out,).
        bias: (out,), or None.
        dtype: Precision of the products with many inputs.
    """

    def __init__(self, rows: torch.Tensor, scale: torch.Tensor, bias: nn.Parameter | None, dtype: torch.dtype) -> None:
        super().__init__(rows.shape[1], rows.shape[0], bias is not None, device="meta")
        self.weight = nn.Parameter(rows, requires_grad=False)
        self.bias = bias
        self.register_buffer("scale", scale.to(dtype), persistent=False)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Return (..., out) in the precision of ``input``, (..., in)."""
        flat = input.reshape(-1, self.in_features).contiguous()  # the int8 product ignores strides
        if len(flat) <= _FEW and self.in_features % _COLUMNS == 0:
            scale = self.scale.to(torch.bfloat16)
            output = torch._weight_int8pack_mm(flat.to(torch.bfloat16), self.weight, scale).to(input.dtype)
        else:  # the cast is exact: bfloat16 represents every int8 number
            output = nn.functional.linear(flat, self.weight.to(input.dtype)) * self.scale
        output = output.view(*input.shape[:-1], self.out_features)
        return output if self.bias is None else output + self.bias
