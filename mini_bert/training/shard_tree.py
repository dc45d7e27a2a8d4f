"""In which order are the shards' gradients added? In that of one balanced binary tree over their numbers.

    shards   0   1   2   3   4
              \\ /     \\ /    |
             0 + 1   2 + 3   |
                 \\   /       |
             (0+1) + (2+3)   |
                     \\       /
               ((0+1)+(2+3)) + 4

A node of the tree is a span of shard numbers [first, stop). Who adds two siblings, and when, changes no bit, as long as
only siblings are added: that is all that this file knows, and what threads and ranks ask it for.
"""

from __future__ import annotations

from collections.abc import Iterable

Span = tuple[int, int]


def own_span(shards: int, ranks: int, rank: int) -> Span:
    """The shards of a rank: a contiguous range, of sizes that differ by one at most."""
    return shards * rank // ranks, shards * (rank + 1) // ranks


def sibling(span: Span, shards: int) -> Span | None:
    """The span that is added to this one; None if this one is added to another, or is the root.

    >>> sibling((0, 2), 5), sibling((2, 4), 5), sibling((0, 4), 5), sibling((0, 5), 5)
    ((2, 4), None, (4, 5), None)
    """
    first, stop = span
    width = stop - first
    return None if stop == shards or first % (2 * width) else (stop, min(stop + width, shards))


def subtrees(first: int, stop: int, shards: int) -> list[Span]:
    """The fewest nodes that are [first, stop) together: how far a range can be added up by itself.

    >>> subtrees(1, 7, 8)
    [(1, 2), (2, 4), (4, 6), (6, 7)]
    """
    spans = []
    while first < stop:
        width = 1
        while width < shards and first % (2 * width) == 0 and min(first + 2 * width, shards) <= stop:
            width *= 2
        spans.append((first, min(first + width, shards)))
        first += width
    return spans


def additions(spans: Iterable[Span], shards: int) -> list[tuple[int, int]]:
    """Which sums to form of these nodes until no two are siblings: the buffer of the first += that of the second.

    Buffers are named by the first shard of their span.

    >>> additions([(0, 1), (1, 2), (2, 4)], 4)
    [(0, 1), (0, 2)]
    """
    stops, sums = dict(spans), []
    while pair := next_addition(stops, shards):
        left, right = pair
        stops[left] = stops.pop(right)
        sums.append(pair)
    return sums


def next_addition(stops: dict[int, int], shards: int) -> Span | None:
    """Two siblings among spans {first: stop}, by their firsts; None if there are none."""
    for first in sorted(stops):
        other = sibling((first, stops[first]), shards)
        if other is not None and stops.get(other[0]) == other[1]:
            return first, other[0]
    return None


def buffers_needed(span: Span, shards: int, in_flight: int) -> int:
    """Gradient buffers with which `in_flight` shards of a span can always be at work: in_flight + about log2(shards).

    Shards begin in order. So when none is at work, those that are done are the subtrees of a prefix.

    >>> [buffers_needed((0, 64), 64, in_flight) for in_flight in (1, 2, 4)]
    [7, 8, 10]
    """
    first, stop = span
    waiting = max((len(subtrees(first, end, shards)) for end in range(first, stop)), default=0)
    return min(stop - first, waiting + min(in_flight, stop - first))
