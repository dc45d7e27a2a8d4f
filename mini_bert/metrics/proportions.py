"""How sure is an accuracy?

Wilson's score interval (Wilson 1927, J. Am. Stat. Assoc. 22, 209-212) for `h` hits out of `n`, with p = h / n and the
normal quantile z:

    centre = (p + z² / 2n) / (1 + z² / n)
    reach  = z / (1 + z² / n) · √(p (1 − p) / n + z² / 4n²)

Unlike p ± z·se it stays inside [0, 1] and has a width at 0 % and 100 % (Brown, Cai and DasGupta 2001, Stat. Sci. 16,
101-133). It takes trials as independent; for n tokens that come in R rows, n is first lowered to the number of
independent trials that would be as uncertain (Korn and Graubard 1998, Survey Methodology 24, 193-201), with t the
quantile of Student's distribution: a spread that few rows show is itself uncertain.

    n_effective = min(n, p (1 − p) / se² · (t(n − 1) / t(R − 1))²)           se from clustered_means.py

Where p is 0 or 1 no row differs from another, and nothing shows how alike the tokens of a row are: n_effective is R
then, as if they were all alike.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from mini_bert.errors import InvalidInputError
from mini_bert.metrics.clustered_means import clustered_mean
from mini_bert.metrics.interval import CONFIDENCE, Interval, normal_quantile, t_quantile


def wilson_interval(hits: float, n: float, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a proportion, for `hits` successes in `n` independent trials (fractions are allowed).

    Raises:
        InvalidInputError: `n` is not positive, or `hits` lies outside [0, n].

    >>> low, high = wilson_interval(0, 10)
    >>> print(f"{low:.3f} {high:.3f}")
    0.000 0.278
    """
    if not (n > 0 and math.isfinite(n)):
        raise InvalidInputError("n", got=n, expected="a positive number of trials")
    if not 0 <= hits <= n:
        raise InvalidInputError("hits", got=hits, expected=f"a number from 0 to {n}")
    z = normal_quantile(confidence)
    p = hits / n
    scale = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / scale
    reach = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(0.0 if hits == 0 else max(0.0, centre - reach), 1.0 if hits == n else min(1.0, centre + reach))


def clustered_wilson_interval(hits: ArrayLike, sizes: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Interval of a proportion over tokens that come in rows: hits [R] and numbers of tokens [R] of each row.

    One row alone counts as one trial, and where every token or none is a hit, each row does.

    Raises:
        InvalidInputError: as `clustered_mean`, or a row has more hits than tokens.
    """
    h, n = np.asarray(hits, np.float64), np.asarray(sizes, np.float64)
    p, error, _, tokens, rows = clustered_mean(h, n, confidence)
    if not ((h >= 0) & (h <= n)).all():
        raise InvalidInputError("hits", got="a row with hits outside its size", expected="0 to the row's tokens")
    if rows == 1 or p in (0, 1):
        return wilson_interval(p * rows, rows, confidence)
    effective: float = tokens
    if error > 0:
        few_rows = t_quantile(max(tokens - 1, 1), confidence) / t_quantile(rows - 1, confidence)
        effective = min(tokens, p * (1 - p) / error**2 * few_rows**2)
    return wilson_interval(p * effective, effective, confidence)
