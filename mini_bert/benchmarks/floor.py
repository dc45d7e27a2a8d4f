"""What the arithmetic of a training step costs at the least: its matrix products at the speed of the best of them.

Everything elementwise, and the optimiser, are not in the floor (`mini_bert.model.matrix_products` counts the rest).
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload


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
