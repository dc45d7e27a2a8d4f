"""Twenty steps of each optimiser beside the papers' pseudo-code, one number at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mini_bert.optim import optimizer
from mini_bert.optim.layout import Layout, Tensor
from mini_bert.optim.muon import orthogonal
from mini_bert.optim.optimizer import OPTIMIZERS, Settings

STEPS = 20
SCALE = 0.5
USUAL = {"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "eps": 1e-3, "momentum": 0.9}

Matrix = list[list[float]]


def rate(step: int) -> float:
    """Rises and falls, so that a stale rate is noticed."""
    return 0.05 * (1 + step % 3) / 3


def gradient(step: int, size: int) -> Any:
    rng = np.random.default_rng(step)
    return rng.normal(size=size) * 10.0 ** rng.integers(-3, 2, size)


def start(size: int) -> Any:
    return np.random.default_rng(0).normal(size=size)


def product(left: Matrix, right: Matrix) -> Matrix:
    return [
        [math.fsum(a * b for a, b in zip(row, column, strict=True)) for column in zip(*right, strict=True)]
        for row in left
    ]


def transposed(matrix: Matrix) -> Matrix:
    return [list(column) for column in zip(*matrix, strict=True)]


def sgd(theta: list[float], s: Settings, tensor: Tensor) -> list[float]:
    """Sutskever et al. 2013, with the momentum of Polyak."""
    for i in range(len(theta)):
        m = 0.0
        for t in range(1, STEPS + 1):
            g, lr = SCALE * gradients(t, tensor)[i], rate(t)
            m = s.momentum * m + g
            d = g + s.momentum * m if s.nesterov else m
            theta[i] -= lr * s.weight_decay * tensor.decay * theta[i] + lr * d
    return theta


def lion(theta: list[float], s: Settings, tensor: Tensor) -> list[float]:
    """Chen et al. 2023, program 1."""
    for i in range(len(theta)):
        m = 0.0
        for t in range(1, STEPS + 1):
            g, lr = SCALE * gradients(t, tensor)[i], rate(t)
            c = s.beta1 * m + (1 - s.beta1) * g
            sign = (c > 0) - (c < 0)
            theta[i] -= lr * (sign + s.weight_decay * tensor.decay * theta[i])
            m = s.beta2 * m + (1 - s.beta2) * g
    return theta


def adamw(theta: list[float], s: Settings, tensor: Tensor) -> list[float]:
    """Loshchilov and Hutter 2019, algorithm 2."""
    for i in range(len(theta)):
        m = v = 0.0
        for t in range(1, STEPS + 1):
            g, lr = SCALE * gradients(t, tensor)[i], rate(t)
            m = s.beta1 * m + (1 - s.beta1) * g
            v = s.beta2 * v + (1 - s.beta2) * g * g
            m_hat, v_hat = m / (1 - s.beta1**t), v / (1 - s.beta2**t)
            theta[i] -= lr * (m_hat / (math.sqrt(v_hat) + s.eps) + s.weight_decay * tensor.decay * theta[i])
    return theta


def adafactor(theta: list[float], s: Settings, tensor: Tensor) -> list[float]:
    """Shazeer and Stern 2018, algorithm 4 for matrices, 5 for vectors; with sums, as they are printed."""
    rows, columns = tensor.shape if len(tensor.shape) == 2 else (len(theta), 1)
    R, C, V = [0.0] * rows, [0.0] * columns, [0.0] * len(theta)
    for t in range(1, STEPS + 1):
        decay, G = min(s.beta2, 1 - t**-0.8), [SCALE * g for g in gradients(t, tensor)]
        squares = [[G[i * columns + j] ** 2 + 1e-30 for j in range(columns)] for i in range(rows)]
        R = [decay * r + (1 - decay) * sum(row) for r, row in zip(R, squares, strict=True)]
        C = [decay * c + (1 - decay) * sum(column) for c, column in zip(C, zip(*squares, strict=True), strict=True)]
        for n in range(len(theta)):
            V[n] = R[n // columns] * C[n % columns] / sum(R) if len(tensor.shape) == 2 else R[n]
        U = [g / math.sqrt(v) for g, v in zip(G, V, strict=True)]
        rms = math.sqrt(sum(u * u for u in U) / len(U))
        for n in range(len(theta)):
            theta[n] -= rate(t) * (U[n] / max(1, rms) + s.weight_decay * tensor.decay * theta[n])
    return theta


def newton_schulz(G: Matrix, steps: int) -> Matrix:
    """Jordan et al. 2024, `newtonschulz5`."""
    if len(G) > len(G[0]):
        return transposed(newton_schulz(transposed(G), steps))
    norm = math.sqrt(sum(g * g for row in G for g in row)) + 1e-7
    X = [[g / norm for g in row] for row in G]
    for _ in range(steps):
        A = product(X, transposed(X))
        AA = product(A, A)
        B = [[-4.7750 * a + 2.0315 * aa for a, aa in zip(*both, strict=True)] for both in zip(A, AA, strict=True)]
        X = [[3.4445 * x + bx for x, bx in zip(*both, strict=True)] for both in zip(X, product(B, X), strict=True)]
    return X


def muon(theta: list[float], s: Settings, tensor: Tensor) -> list[float]:
    """Jordan et al. 2024 with the factor and decay of Liu et al. 2025; his momentum, which is a sum and no mean."""
    if not tensor.hidden_matrix:
        return adamw(theta, s, tensor)
    columns, momentum = tensor.shape[1], [0.0] * len(theta)
    for t in range(1, STEPS + 1):
        G, lr = [SCALE * g for g in gradients(t, tensor)], rate(t)
        momentum = [s.momentum * m + g for m, g in zip(momentum, G, strict=True)]
        N = [g + s.momentum * m for m, g in zip(momentum, G, strict=True)] if s.nesterov else momentum
        O = newton_schulz([N[i : i + columns] for i in range(0, len(N), columns)], s.newton_schulz_steps)
        for n, o in enumerate(x for row in O for x in row):
            theta[n] -= lr * (0.2 * math.sqrt(max(tensor.shape)) * o + s.weight_decay * tensor.decay * theta[n])
    return theta


LOOPS: dict[str, Callable[[list[float], Settings, Tensor], list[float]]] = {
    "adamw": adamw, "sgd": sgd, "lion": lion, "adafactor": adafactor, "muon": muon,
}  # fmt: skip


def gradients(step: int, tensor: Tensor) -> list[float]:
    return gradient(step, 147)[tensor.part].tolist()


def run(layout: Layout, settings: Settings, steps: int = STEPS) -> Any:
    theta = start(147)
    state = optimizer.fresh(theta, layout, settings)
    for step in range(1, steps + 1):
        optimizer.update(theta, gradient(step, 147), state, settings, step=step, lr=rate(step), scale=SCALE)
    return theta, state


def test_every_optimizer_has_its_loops() -> None:
    assert LOOPS.keys() == OPTIMIZERS.keys()


@pytest.mark.parametrize(
    "settings",
    [
        *(Settings(name=name, **USUAL) for name in OPTIMIZERS),
        Settings(name="sgd", nesterov=False, **USUAL),
        Settings(name="muon", nesterov=False, newton_schulz_steps=3, **USUAL),
        Settings(name="adafactor", **{**USUAL, "beta2": 0.3}),
    ],
    ids=lambda s: f"{s.name}-{s.nesterov}-{s.beta2}",
)
def test_twenty_steps_are_those_of_the_loops(layout: Layout, settings: Settings) -> None:
    theta, _ = run(layout, settings)
    for tensor in layout:
        expected = LOOPS[settings.name](start(147)[tensor.part].tolist(), settings, tensor)
        # Muon's 1e-7 is added to the norm of a mean here, and of a sum in the loops
        tolerance = 1e-6 if settings.name == "muon" else 1e-10
        np.testing.assert_allclose(theta[tensor.part], expected, rtol=tolerance, atol=tolerance, err_msg=tensor.name)


@pytest.mark.parametrize("inner", OPTIMIZERS)
@pytest.mark.parametrize(("every", "alpha"), [(5, 0.5), (2, 0.8), (30, 0.5), (4, 1.0)])
def test_lookahead_around_each(layout: Layout, inner: str, every: int, alpha: float) -> None:
    """Zhang et al. 2019, algorithm 1: an outer loop, an inner loop of k steps, the optimiser's state kept."""
    usual = Settings(name=inner, **USUAL)
    theta, state = run(layout, usual._replace(lookahead=every, lookahead_alpha=alpha))
    phi, fast = start(147), start(147)
    kept, t = optimizer.fresh(fast, layout, usual), 0
    while t < STEPS:
        fast[...] = phi
        for _ in range(every):
            t += 1
            if t <= STEPS:
                optimizer.update(fast, gradient(t, 147), kept, usual, step=t, lr=rate(t), scale=SCALE)
        if t <= STEPS:
            phi = phi + alpha * (fast - phi)
    np.testing.assert_allclose(state["slow"], phi, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(theta, fast if STEPS % every else phi, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("inner", OPTIMIZERS)
@pytest.mark.parametrize("decay", [0.5, 0.9, 0.9999])
def test_the_average_is_the_weighted_mean_of_all_parameters(layout: Layout, inner: str, decay: float) -> None:
    usual = Settings(name=inner, lookahead=3, **USUAL)
    theta, state = run(layout, usual._replace(ema_decay=decay))
    raw, _ = run(layout, usual)
    assert theta.tobytes() == raw.tobytes(), "the parameters do not hear of it"
    weights = [decay ** (STEPS - i) for i in range(1, STEPS + 1)]
    visited = [run(layout, usual, steps=i)[0] for i in range(1, STEPS + 1)]
    mean = sum(w * theta for w, theta in zip(weights, visited, strict=True)) / sum(weights)
    np.testing.assert_allclose(state["average"], mean, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (24, 24), (7, 24), (24, 7), (1, 9), (32, 128)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_newton_schulz_brings_singular_values_near_one(shape: tuple[int, int], dtype: Any) -> None:
    """With the singular vectors as they were; values down to a hundredth of the norm."""
    rng = np.random.default_rng(1)
    n = min(shape)
    left, right = (np.linalg.qr(rng.normal(size=(side, n)))[0] for side in shape)
    values = np.geomspace(1.0, 0.1, n)
    made = orthogonal(((37.0 * left * values) @ right.T).astype(dtype))
    assert made.dtype == dtype
    assert made.shape == shape
    inner = left.T @ made @ right
    np.testing.assert_allclose(inner, np.diag(np.diag(inner)), atol=1e-5)
    assert ((np.diag(inner) > 0.67) & (np.diag(inner) < 1.22)).all()


@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3)])
def test_newton_schulz_by_loops(shape: tuple[int, int]) -> None:
    G = np.random.default_rng(2).normal(size=shape)
    for steps in (1, 5):
        np.testing.assert_allclose(orthogonal(G, steps), newton_schulz(G.tolist(), steps), rtol=1e-11)
    np.testing.assert_allclose(orthogonal(G), orthogonal(1000 * G), rtol=1e-5)
    np.testing.assert_allclose(orthogonal(G), orthogonal(G.T).T, rtol=1e-11)


def test_muon_moves_a_matrix_as_far_as_adamw_would() -> None:
    """(MUON.6): 0.2, root mean square, whatever the shape and the size of the gradient."""
    rng = np.random.default_rng(4)
    for shape in ((64, 64), (32, 128), (128, 32)):
        tensor = Tensor("W1_0", 0, math.prod(shape), shape, True, 1, True)
        settings = Settings(name="muon", weight_decay=0.0)
        theta = np.zeros(tensor.stop)
        state = optimizer.fresh(theta, (tensor,), settings)
        optimizer.update(theta, 1e-3 * rng.normal(size=theta.size), state, settings, step=1, lr=1.0)
        assert np.sqrt(np.mean(theta**2)) == pytest.approx(0.2, rel=0.25)


def test_adafactor_bounds_the_size_of_an_update() -> None:
    """A gradient a thousand times as large as those before moves parameters by η at most, root mean square."""
    tensor = Tensor("W", 0, 12, (3, 4), True, 1, True)
    settings = Settings(name="adafactor", weight_decay=0.0)
    theta = np.zeros(12)
    state = optimizer.fresh(theta, (tensor,), settings)
    for step in range(1, 200):
        optimizer.update(theta, gradient(step, 12), state, settings, step=step, lr=0.0)
    optimizer.update(theta, 1e3 * gradient(200, 12), state, settings, step=200, lr=0.1)
    assert np.sqrt(np.mean(theta**2)) == pytest.approx(0.1, rel=1e-9)


def test_adafactor_of_a_matrix_whose_squares_have_rank_one_is_exact() -> None:
    rng = np.random.default_rng(5)
    g = np.outer(rng.normal(size=4), rng.normal(size=6)).reshape(-1)
    tensor = Tensor("W", 0, 24, (4, 6), False, 1, True)
    theta = np.zeros(24)
    settings = Settings(name="adafactor")
    optimizer.update(theta, g, optimizer.fresh(theta, (tensor,), settings), settings, step=1, lr=0.1)
    np.testing.assert_allclose(theta, -0.1 * np.sign(g), rtol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_and_columns_without_a_gradient_stay_where_they_are(dtype: Any) -> None:
    """An embedding that no batch has met, a feature that is dead."""
    g = np.ones((5, 6), dtype)
    g[2], g[:, 3] = 0, 0
    tensor = Tensor("t", 0, 30, (5, 6), False, 0, False)
    theta = np.ones(30, dtype)
    settings = Settings(name="adafactor")
    state = optimizer.fresh(theta, (tensor,), settings)
    for step in (1, 2, 3):
        optimizer.update(theta, g.reshape(-1), state, settings, step=step, lr=0.1)
    assert ((theta.reshape(5, 6) == 1) == (g == 0)).all()
