"""What the arithmetic of a training step costs at the least: its matrix products at the speed of the best of them.

The products of one step, forward, with R = B T rows of which M are masked:

    each block but the last    2 R H·3H + 4 R T H + 2 R H² + 4 R H I
                               Q K V, scores and context, output, feed-forward
    the last block             2 R H·2H + 2 M H² + 4 M T H + 2 M H² + 4 M H I
                               only K and V need every row
    head                       2 M H² + 2 M H V
                               transform, decoder

Backward, each product is two (one for the input, one for the weight; or one for either factor), of the same size: a
step is three times the forward pass. Everything elementwise, and the optimiser, are not in the floor.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload
    from mini_bert.config.schema import ModelConfig


def forward_flops(shape: ModelConfig, rows: int, tokens: int, masked: int, *, last_block_rows: bool = True) -> int:
    """Multiplications and additions of all matrix products of the forward pass, for `rows` rows of `tokens` tokens."""
    H, I, V = shape.hidden_size, shape.intermediate_size, shape.vocab_size
    R, T, M = rows * tokens, tokens, masked
    block = 2 * R * H * 3 * H + 4 * R * T * H + 2 * R * H * H + 4 * R * H * I
    last = 2 * R * H * 2 * H + 2 * M * H * H + 4 * M * T * H + 2 * M * H * H + 4 * M * H * I
    head = 2 * M * H * H + 2 * M * H * V
    return (shape.num_hidden_layers - 1) * block + (last if last_block_rows else block) + head


def step_flops(shape: ModelConfig, rows: int, tokens: int, masked: int, *, last_block_rows: bool = True) -> int:
    """Multiplications and additions of all matrix products of one training step."""
    return 3 * forward_flops(shape, rows, tokens, masked, last_block_rows=last_block_rows)


class MatrixProducts:
    """Measures NumPy's rate in the configuration of a training step: one BLAS thread in each of `threads` threads."""

    SIDE = 1024
    """The products are square and large, where BLAS is at its best: no step can be under this floor."""
    PRODUCTS = 4

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        import numpy as np
        from threadpoolctl import threadpool_limits

        threadpool_limits(1, "blas")
        rng = np.random.default_rng(0)
        self._factors = [
            [rng.standard_normal((self.SIDE, self.SIDE), np.float32) for _ in range(3)] for _ in range(threads)
        ]
        self._pool = ThreadPoolExecutor(threads)
        self._multiply = np.matmul

    def step(self, number: int) -> float:
        """Multiply `PRODUCTS` times in every thread; returns an element of the last product."""
        list(self._pool.map(self._multiply_often, self._factors))
        return float(self._factors[0][2][0, 0])

    def _multiply_often(self, factors: list[Any]) -> None:
        left, right, out = factors
        for _ in range(self.PRODUCTS):
            self._multiply(left, right, out=out)

    def facts(self) -> dict[str, Any]:
        """The BLAS kernel that was measured, and the work of one step."""
        from mini_bert.machine import blas_kernel

        return {"blas": blas_kernel(), "gflop": len(self._factors) * self.PRODUCTS * 2 * self.SIDE**3 / 1e9}
