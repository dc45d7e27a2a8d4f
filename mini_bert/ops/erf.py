"""The error function, erf(x) = 2/√π ∫₀ˣ exp(−t²) dt, in every dtype that the operations run in.

float32: a hyperbolic tangent of an odd polynomial (ERF.1), fitted for this package by iteratively reweighted least
squares to artanh(erf(x))/x on [0, 3.95]; error < 2e-7, rounding included. NumPy's tanh and the products run as SIMD,
and tanh saturates by itself where erf does.

    erf(x) = tanh(x (c₀ + c₁ x² + … + c₆ x¹²))                                              (ERF.1)

float64 and complex128: Cody's rational minimax approximations (W. J. Cody 1969, "Rational Chebyshev approximations for
the error function", Math. Comp. 23, 631-637), error ≤ 1e-15:

    erf(x)  = x P(x²) / Q(x²)                                 |x| ≤ 0.46875                 (ERF.2)
    erfc(x) = exp(−x²) P(x) / Q(x)                            0.46875 < x ≤ 4               (ERF.3)
    erfc(x) = exp(−x²)/x (1/√π − P(x⁻²) / (x² Q(x⁻²)))         x > 4                         (ERF.4)

The branch is chosen on the real part and evaluated in the array's own dtype, so the complex step differentiates the
approximation itself: the check of GELU is then not circular.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mini_bert.ops.contract import Array

FIT = (1.12837971, 1.02765482e-1, -1.84384192e-4, -6.25719264e-4, 8.97125011e-5, -5.98568006e-6, 1.58959761e-7)
"""c₀ … c₆ of (ERF.1); c₀ = 2/√π to seven digits."""

LARGEST_SQUARE = 50.0
"""x² above this is taken for this: erf is 1 in float32 from |x| = 3.92 on, exp(−50) is nothing beside 1 (GELU's
derivative reads that), and x times the polynomial, which rises all the way, cannot overflow."""

_SMALL_P = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_SMALL_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
_MIDDLE_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1, 2.98635138197400131e2,
    8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3, 1.23033935479799725e3,
)  # fmt: skip
_MIDDLE_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
_LARGE_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_LARGE_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def erf(x: Array) -> Array:
    """erf of each element of `x`, in the dtype of `x` (float32, float64 or complex128)."""
    return _erf_float32(x) if x.dtype == np.float32 else _erf_cody(x)


def _erf_float32(x: Array) -> Array:
    square = np.minimum(x * x, np.float32(LARGEST_SQUARE))
    return np.asarray(np.tanh(x * _polynomial(FIT[::-1], square), dtype=np.float32))  # (ERF.1)


def _erf_cody(x: Array) -> Array:
    x = np.asarray(x)
    y = np.empty_like(x)
    sign = np.where(x.real < 0, -1.0, 1.0)
    magnitude = sign * x  # |x| on the real axis, analytic beside it
    small, large = magnitude.real <= 0.46875, magnitude.real > 4.0
    middle = ~(small | large)

    s = magnitude[small]
    y[small] = s * _polynomial(_SMALL_P, s * s) / _polynomial(_SMALL_Q, s * s)  # (ERF.2)
    m = magnitude[middle]
    y[middle] = 1.0 - np.exp(-m * m) * _polynomial(_MIDDLE_P, m) / _polynomial(_MIDDLE_Q, m)  # (ERF.3)
    g = np.where(magnitude[large].real > 30.0, 30.0, magnitude[large])  # erfc(30) is below the smallest float64
    z = 1.0 / (g * g)
    tail = 1.0 / np.sqrt(np.pi) - z * _polynomial(_LARGE_P, z) / _polynomial(_LARGE_Q, z)
    y[large] = 1.0 - np.exp(-g * g) / g * tail  # (ERF.4)
    return sign * y


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Any:
    """Horner's scheme, highest power first; Python's floats leave the dtype of `x` as it is."""
    value: Any = coefficients[0]
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value
