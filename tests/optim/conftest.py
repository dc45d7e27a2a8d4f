"""A small layout with every kind of tensor: a table, hidden matrices of three shapes, a head's matrix, vectors."""

from __future__ import annotations

import pytest

from mini_bert.optim.layout import Layout, Tensor, packed


@pytest.fixture
def layout() -> Layout:
    """Two layers; 147 numbers, of which 122 decay."""
    matrices = [
        Tensor("token_embeddings", 0, 0, (7, 4), True, 0, False, True),
        *(
            Tensor(f"{name}_{i}", 0, 0, shape, True, i + 1, True)
            for i in (0, 1)
            for name, shape in (("W_Q", (3, 3)), ("W1", (3, 4)), ("W2", (5, 2)))
        ),
        Tensor("W_mlm", 0, 0, (4, 8), True, 3, False),
    ]
    vectors = [
        Tensor("gamma_embeddings", 0, 0, (4,), False, 0, False),
        *(Tensor(f"b1_{i}", 0, 0, (5,), False, i + 1, False) for i in (0, 1)),
        Tensor("b_vocabulary", 0, 0, (11,), False, 3, False),
    ]
    return packed([*matrices, *vectors])
