"""Positions in attention, and its gate, by loops: what each query makes of the distance of each key."""

from __future__ import annotations

import math
from typing import Any

from mini_bert.verification.oracles.scalars import Number, dot

Nested = Any
"""Lists of lists of … numbers, to any depth."""


def _of_each(x: Nested, positions: Nested) -> list[tuple[Nested, Nested]]:
    """The parts of the leading axis, each with its own positions: the one row of positions, or one that all share."""
    if positions is None or not isinstance(positions[0], list):
        return [(part, positions) for part in x]
    return [(part, positions[i % len(positions)]) for i, part in enumerate(x)]


def rotary(x: Nested, *, positions: Nested, theta: float = 10000.0) -> Nested:
    """Each pair of neighbours times the matrix of a rotation, by the position times a frequency of the pair's own."""
    if isinstance(x[0][0], list):
        return [rotary(part, positions=own, theta=theta) for part, own in _of_each(x, positions)]
    return [_turned(row, position, theta) for row, position in zip(x, positions, strict=True)]


def _turned(row: list[Number], position: int, theta: float) -> list[Number]:
    turned: list[Number] = []
    for k in range(len(row) // 2):
        angle = position / theta ** (2 * k / len(row))
        pair = [row[2 * k], row[2 * k + 1]]
        turned += [dot(pair, [math.cos(angle), -math.sin(angle)]), dot(pair, [math.sin(angle), math.cos(angle)])]
    return turned


def by_distance(x: Nested, *, positions: Nested = None) -> Nested:
    """Of numbers for the distances −(S − 1) … S − 1, those of the keys 0 … S − 1 from each query."""
    if isinstance(x[0][0], list):
        return [by_distance(part, positions=own) for part, own in _of_each(x, positions)]
    keys = (len(x[0]) + 1) // 2
    places = range(len(x)) if positions is None else positions
    return [[row[s - place + keys - 1] for s in range(keys)] for row, place in zip(x, places, strict=True)]


def relative_keys(Q: Nested, E: Nested, *, keys: int, positions: Nested = None) -> Nested:
    """Each query times the embedding of its distance from each key, over the root of the width."""
    if isinstance(Q[0][0], list):
        return [relative_keys(part, E, keys=keys, positions=own) for part, own in _of_each(Q, positions)]
    middle, root = len(E) // 2, math.sqrt(len(E[0]))
    places = range(len(Q)) if positions is None else positions
    return [
        [dot(query, E[middle + place - s]) / root for s in range(keys)] for query, place in zip(Q, places, strict=True)
    ]


def relative_bias(E: Nested, *, keys: int, max_distance: int, positions: Nested = None) -> Nested:
    """For each head, query and key the number that stands in the table at the bucket of their distance."""
    everywhere = [[list(range(keys))]] if positions is None else positions
    return [
        [
            [[E[bucket(s - place, len(E), max_distance)][a] for s in range(keys)] for place in places]
            for a in range(len(E[0]))
        ]
        for (places,) in everywhere
    ]


def bucket(distance: int, count: int, max_distance: int) -> int:
    """T5's bucket in whole numbers: the j-th of the far ones begins where (steps / e)^f = (max_distance / e)^j."""
    half = count // 2
    near = half // 2
    far, steps, first = half - near, abs(distance), half if distance > 0 else 0
    if steps < near:
        return first + steps
    reached = [j for j in range(far) if steps**far * near**j >= max_distance**j * near**far]
    return first + near + reached[-1]


def alibi(heads: int, keys: int) -> Nested:
    """−m |t − s| [A][T][S], where the m of 2^n heads begin at 2^(−8 / 2^n) and fall by that factor from head to head.

    Other numbers of heads take those of the next smaller power of two, then every second one of the next larger.
    """
    power = 1
    while 2 * power <= heads:
        power *= 2
    slopes = [math.pow(2.0, -8.0 * (a + 1) / power) for a in range(power)]
    larger = [math.pow(2.0, -4.0 * (a + 1) / power) for a in range(2 * power)]
    slopes += [larger[2 * a] for a in range(heads - power)]
    return [[[-slope * abs(t - s) for s in range(keys)] for t in range(keys)] for slope in slopes]


def gate(x: Nested, g: Nested) -> Nested:
    """Each column times the gate of its group; groups are neighbouring columns, as many as there are gates."""
    if isinstance(x[0], list):
        return [gate(part, gates) for part, gates in zip(x, g, strict=True)]
    return [x[h] * g[h * len(g) // len(x)] for h in range(len(x))]
