from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mini_bert.ops import embedding, linear, relu, tanh

quick = settings(max_examples=100, deadline=None, derandomize=True, database=None)
ids_arrays = hnp.arrays(
    st.sampled_from([np.int32, np.int64, np.uint16]),
    hnp.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=12),
    elements=st.integers(0, 6),
)


@quick
@given(ids_arrays, st.integers(0, 999))
def test_the_scatter_is_a_loop_over_occurrences(ids: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    E, dy = rng.normal(size=(7, 3)), rng.normal(size=(*ids.shape, 3))
    expected = np.zeros((7, 3))
    for position in np.ndindex(ids.shape):
        for h in range(3):
            expected[int(ids[position]), h] += dy[(*position, h)]
    y, saved = embedding.forward(E, ids=ids)
    assert y.shape == (*ids.shape, 3)
    np.testing.assert_allclose(embedding.backward(dy, saved)[0], expected, atol=1e-14)


@quick
@given(ids_arrays)
def test_rows_are_added_to_what_is_there(ids: np.ndarray) -> None:
    dE = np.full((7, 2), 10.0)
    embedding.add_rows(dE, ids, np.ones((*ids.shape, 2)))
    counts = np.bincount(ids.ravel().astype(np.int64), minlength=7)
    np.testing.assert_array_equal(dE, 10.0 + np.repeat(counts[:, None], 2, axis=1))


def test_rows_that_no_id_names_get_exactly_nothing() -> None:
    _, saved = embedding.forward(np.ones((5, 2)), ids=np.array([1, 1, 3]))
    (dE,) = embedding.backward(np.ones((3, 2)), saved)
    assert dE.tolist() == [[0, 0], [2, 2], [0, 0], [1, 1], [0, 0]]


def test_a_look_up_is_a_product_with_one_hot_rows() -> None:
    rng = np.random.default_rng(0)
    E, ids, dy = rng.normal(size=(6, 4)), np.array([[5, 0], [5, 5]]), rng.normal(size=(2, 2, 4))
    one_hot = np.eye(6)[ids]
    y, saved = embedding.forward(E, ids=ids)
    np.testing.assert_array_equal(y, one_hot @ E)
    np.testing.assert_allclose(embedding.backward(dy, saved)[0], np.einsum("btv,bth->vh", one_hot, dy), rtol=1e-15)


def test_a_table_in_float32_with_many_repeats() -> None:
    rng = np.random.default_rng(0)
    ids, dy = rng.integers(0, 3, size=5000), rng.normal(size=(5000, 4))
    _, saved = embedding.forward(np.zeros((3, 4), np.float32), ids=ids)
    (dE,) = embedding.backward(dy.astype(np.float32), saved)
    expected = np.stack([dy[ids == v].sum(axis=0) for v in range(3)])
    np.testing.assert_allclose(dE, expected, atol=1e-3)


def test_linear_by_hand() -> None:
    x, W, b = np.array([[1.0, 2.0]]), np.array([[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]), np.array([0.5, 0.0, -1.0])
    y, saved = linear.forward(x, W, b)
    assert y.tolist() == [[15.5, 18.0, 20.0]]
    dx, dW, db = linear.backward(np.array([[1.0, 0.0, -1.0]]), saved)
    assert dx.tolist() == [[-2.0, -2.0]]
    assert dW.tolist() == [[1.0, 0.0, -1.0], [2.0, 0.0, -2.0]]
    assert db.tolist() == [1.0, 0.0, -1.0]


@quick
@given(hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=4), st.integers(0, 99))
def test_leading_axes_are_rows(leading: tuple[int, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    x, W, b, dy = (
        rng.normal(size=(*leading, 3)),
        rng.normal(size=(3, 2)),
        rng.normal(size=2),
        rng.normal(size=(*leading, 2)),
    )
    y, saved = linear.forward(x, W, b)
    dx, dW, db = linear.backward(dy, saved)
    flat_y, flat_saved = linear.forward(x.reshape(-1, 3), W, b)
    flat_dx, flat_dW, flat_db = linear.backward(dy.reshape(-1, 2), flat_saved)
    np.testing.assert_array_equal(y, flat_y.reshape(y.shape))
    np.testing.assert_array_equal(dx, flat_dx.reshape(x.shape))
    np.testing.assert_allclose(dW, flat_dW, atol=1e-14)
    np.testing.assert_allclose(db, flat_db, atol=1e-14)


def test_relu_at_its_kink_and_beside_it() -> None:
    x = np.array([-2.0, -0.0, 0.0, 1e-300, 3.0])
    y, saved = relu.forward(x)
    np.testing.assert_array_equal(y, [0, 0, 0, 1e-300, 3])
    assert relu.backward(np.full(5, 7.0), saved)[0].tolist() == [0, 0, 0, 7, 7]


def test_relu_of_complex_numbers_looks_at_the_real_part() -> None:
    y, _ = relu.forward(np.array([-1 + 5j, 1 - 5j]))
    assert y.tolist() == [0, 1 - 5j]


def test_tanh_far_out() -> None:
    for dtype in (np.float32, np.float64):
        y, saved = tanh.forward(np.array([-1e4, 0.0, 1e4], dtype))
        assert y.tolist() == [-1, 0, 1]
        assert tanh.backward(np.ones(3, dtype), saved)[0].tolist() == [0, 1, 0]
