"""The optimiser of the guide's matrices: momentum, orthogonalised so that its singular values are about one.

Matrices then learn from rare words as fast as from common ones; the guide's card has the comparison with AdamW.
PyTorch's own works in bfloat16, which a processor without AMX only emulates, at a sixth of the speed.
Source: K. Jordan and others, "Muon: an optimizer for hidden layers in neural networks" (2024).
"""

from collections.abc import Iterable

import torch
from torch import Tensor

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of the iteration, chosen by its authors for a steep slope at zero."""
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Moves matrices, and only matrices, by `rate` along their orthogonalised Nesterov momentum."""

    def __init__(self, matrices: Iterable[Tensor], rate: float, momentum: float = 0.95) -> None:
        super().__init__(matrices, {"lr": rate, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Update every matrix; matrices of the same shape together, which is faster."""
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                alike.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in alike.items():
                ways = orthogonal(torch.stack([self._momentum(matrix, group["momentum"]) for matrix in matrices]))
                length = group["lr"] * max(1.0, shape[0] / shape[1]) ** 0.5
                for matrix, way in zip(matrices, ways, strict=True):
                    matrix.sub_(way, alpha=length)

    def _momentum(self, matrix: Tensor, inertia: float) -> Tensor:
        mean = self.state[matrix].setdefault("momentum", torch.zeros_like(matrix))
        mean.lerp_(matrix.grad, 1 - inertia)
        return torch.lerp(matrix.grad, mean, inertia)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return (count, rows, columns) matrices with the same singular vectors, and singular values near one."""
    a, b, c = QUINTIC
    x = matrices / (matrices.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    for _iteration in range(ITERATIONS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
