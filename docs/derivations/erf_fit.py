"""Regenerates the coefficients of (ERF.1): tanh(x p(x²)) as close to erf(x) as seven coefficients allow.

Iteratively reweighted least squares (C. L. Lawson 1961, "Contributions to the theory of linear least maximum
approximation"). Run it to see the coefficients and the largest error; the reasons stand in erf.md beside it.
"""

from __future__ import annotations

import math

import numpy as np


def fit(coefficients: int = 7, end: float = 3.95, points: int = 2000, rounds: int = 100) -> tuple[np.ndarray, float]:
    """Coefficients c₀ … of p, and the largest |tanh(x p(x²)) − erf(x)| at the points."""
    x = end * (0.5 - 0.5 * np.cos(np.pi * (np.arange(points) + 0.5) / points))
    erf, erfc = (np.array([function(value) for value in x]) for function in (math.erf, math.erfc))
    g = 0.5 * np.log((1.0 + erf) / erfc) / x  # artanh(erf x) / x
    seen = x * (1.0 + erf) * erfc  # what an error of g becomes behind tanh
    powers = (x * x / 16.0)[:, None] ** np.arange(coefficients)
    importance = np.full(points, 1.0 / points)
    best, smallest = np.zeros(coefficients), math.inf
    for _ in range(rounds):
        weight = seen * np.sqrt(importance)
        solution = np.linalg.lstsq(powers * weight[:, None], g * weight, rcond=None)[0]
        errors = np.abs(np.tanh(x * (powers @ solution)) - erf)
        if errors.max() < smallest:
            best, smallest = solution, float(errors.max())
        importance *= errors
        importance /= importance.sum()
    return best / 16.0 ** np.arange(coefficients), smallest


if __name__ == "__main__":
    found, error = fit()
    print("coefficients:", ", ".join(f"{value:.9g}" for value in found))
    print(f"largest error: {error:.3g}")
