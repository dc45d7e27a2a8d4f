"""The tree of sums, written out as text: whoever adds what first, the brackets come out the same."""

from __future__ import annotations

import pytest

from mini_bert.training.shard_tree import additions, buffers_needed, next_addition, own_span, subtrees

SHARDS = range(1, 34)


def written_out(shards: int) -> str:
    """The sum over all shards, by distance doubling."""
    terms = [str(shard) for shard in range(shards)]
    while len(terms) > 1:
        pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
        terms = [f"({pair[0]}+{pair[1]})" if len(pair) == 2 else pair[0] for pair in pairs]
    return terms[0]


def add(terms: dict[int, str], sums: list[tuple[int, int]]) -> dict[int, str]:
    for left, right in sums:
        terms[left] = f"({terms[left]}+{terms.pop(right)})"
    return terms


def test_the_picture() -> None:
    assert written_out(5) == "(((0+1)+(2+3))+4)"


@pytest.mark.parametrize("shards", SHARDS)
def test_ranks_add_in_the_order_of_the_one_tree(shards: int) -> None:
    for ranks in range(1, shards + 1):
        spans = [own_span(shards, ranks, rank) for rank in range(ranks)]
        assert [shard for first, stop in spans for shard in range(first, stop)] == list(range(shards))
        assert max(stop - first for first, stop in spans) - min(stop - first for first, stop in spans) <= 1
        sent, nodes = {}, []
        for first, stop in spans:
            alone = {shard: str(shard) for shard in range(first, stop)}
            own = add(alone, additions([(shard, shard + 1) for shard in alone], shards))
            nodes += subtrees(first, stop, shards)
            assert list(own) == [start for start, _ in subtrees(first, stop, shards)]
            sent.update(own)
        assert next_addition({0: 1}, shards) is None
        assert add(sent, additions(nodes, shards)) == {0: written_out(shards)}


@pytest.mark.parametrize("shards", SHARDS)
def test_the_buffers_suffice_and_none_is_too_many(shards: int) -> None:
    """One shard at a time, summed where no buffer is free."""
    for first in range(shards):
        for stop in range(first + 1, shards + 1):
            needed, done, most = buffers_needed((first, stop), shards, 1), {}, 0
            for shard in range(first, stop):
                while len(done) == needed:
                    pair = next_addition(done, shards)
                    assert pair is not None
                    done[pair[0]] = done.pop(pair[1])
                done[shard] = shard + 1
                most = max(most, len(done))
            assert most == needed
            assert buffers_needed((first, stop), shards, 3) == min(stop - first, needed + 2)


def test_as_few_buffers_as_promised() -> None:
    for levels in range(12):
        assert buffers_needed((0, 2**levels), 2**levels, 1) == 1 + levels
