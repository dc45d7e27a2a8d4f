"""Schedules beside those of transformers and PyTorch, clipping by layers and by units beside PyTorch's arithmetic.

Theirs count from 0 and reach their last value at the update behind the last; ours is theirs without those two ends: our
update t of N is their step t of N + 1 (for one-cycle, which ends within its steps, of N + 2).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mini_bert.optim.clipping import clip
from mini_bert.optim.layout import Tensor, length
from mini_bert.optim.schedules import learning_rate

pytestmark = pytest.mark.reference

STEPS, WARMUP, TAIL, PEAK = 240, 30, 60, 3e-3


def ours(schedule: str, **more: Any) -> list[float]:
    given = {"steps": STEPS, "peak": PEAK, "warmup_ratio": 0.0, "warmup_steps": WARMUP, "schedule": schedule, **more}
    return [learning_rate(step, **given) for step in range(1, STEPS + 1)]


def rates_of(make: Any, count: int) -> list[float]:
    """The rates of `count` steps from number 0 on, of the scheduler that `make` puts around an optimiser."""
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
    scheduler = make(optimizer)
    found = []
    for _ in range(count):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


@pytest.mark.parametrize(
    ("schedule", "name", "settings", "specific"),
    [
        ("linear", "linear", {}, {}),
        ("constant", "constant_with_warmup", {}, {}),
        ("cosine", "cosine", {}, {}),
        ("cosine", "cosine_with_min_lr", {"min_lr_ratio": 0.1}, {"min_lr_rate": 0.1}),
        ("polynomial", "polynomial", {}, {"power": 2.0, "lr_end": 0.0}),
        ("polynomial", "polynomial", {"power": 3.5, "min_lr_ratio": 0.1}, {"power": 3.5, "lr_end": 0.1 * PEAK}),
        ("inverse_sqrt", "inverse_sqrt", {}, {}),
        (
            "wsd",
            "warmup_stable_decay",
            {"decay_ratio": TAIL / STEPS},
            {"num_decay_steps": TAIL + 1, "decay_type": "linear"},
        ),
    ],
)
def test_schedules_are_those_of_transformers(
    schedule: str, name: str, settings: dict[str, Any], specific: dict[str, Any]
) -> None:
    from transformers import get_scheduler

    theirs = rates_of(
        lambda optimizer: get_scheduler(
            name,
            optimizer,
            num_warmup_steps=WARMUP,
            num_training_steps=STEPS + 1,
            scheduler_specific_kwargs=specific,
        ),
        STEPS + 1,
    )
    assert theirs[0] == 0.0
    assert ours(schedule, **settings) == pytest.approx(theirs[1:], rel=1e-12)


def test_a_lowest_rate_of_wsd_lifts_its_tail_and_not_its_warmup() -> None:
    """Theirs lifts both: its warm-up begins at the lowest rate. Ours begins at 0 whatever the decay goes to."""
    from transformers import get_wsd_schedule

    steps = {"num_warmup_steps": WARMUP, "num_decay_steps": TAIL + 1, "num_training_steps": STEPS + 1}
    theirs = rates_of(
        lambda optimizer: get_wsd_schedule(optimizer, **steps, decay_type="linear", min_lr_ratio=0.1), STEPS + 1
    )
    found = ours("wsd", decay_ratio=TAIL / STEPS, min_lr_ratio=0.1)
    assert found[WARMUP:] == pytest.approx(theirs[1 + WARMUP :], rel=1e-12)
    assert found[0] == pytest.approx(PEAK / WARMUP)
    assert theirs[0] == pytest.approx(0.1 * PEAK)


@pytest.mark.parametrize("low", [1e-12, 0.1])
def test_one_cycle_is_that_of_pytorch(low: float) -> None:
    from torch.optim.lr_scheduler import OneCycleLR

    theirs = rates_of(
        lambda optimizer: OneCycleLR(
            optimizer,
            PEAK,
            total_steps=STEPS + 2,
            pct_start=(WARMUP + 1) / (STEPS + 2),
            cycle_momentum=False,
            final_div_factor=1 / (25 * low),
        ),
        STEPS + 1,
    )
    assert theirs[0] == pytest.approx(PEAK / 25)
    assert ours("one_cycle", min_lr_ratio=low) == pytest.approx(theirs[1:], rel=1e-9)


def test_cosine_and_polynomial_are_those_of_pytorch() -> None:
    from torch.optim.lr_scheduler import CosineAnnealingLR, PolynomialLR

    cosine = rates_of(lambda optimizer: CosineAnnealingLR(optimizer, STEPS + 1, eta_min=0.1 * PEAK), STEPS + 1)
    assert ours("cosine", warmup_steps=0, min_lr_ratio=0.1) == pytest.approx(cosine[1:], rel=1e-9)
    polynomial = rates_of(lambda optimizer: PolynomialLR(optimizer, STEPS + 1, power=2.0), STEPS + 1)
    assert ours("polynomial", warmup_steps=0) == pytest.approx(polynomial[1:], rel=1e-9)


LAYOUT = (
    Tensor("table", 0, 40 * 6, (40, 6), True, 0, False, True),
    Tensor("W", 240, 240 + 6 * 9, (6, 9), True, 1, True),
    Tensor("b", 294, 303, (9,), False, 1, False),
)


def parts(vector: Any) -> list[Any]:
    import torch

    return [torch.tensor(vector[tensor.part].reshape(tensor.shape)) for tensor in LAYOUT]


@pytest.mark.parametrize("most", [0.01, 3.0, 1e3])
def test_layers_are_clipped_as_clip_grad_norm_clips_each(most: float) -> None:
    import torch

    gradients = np.random.default_rng(0).normal(size=length(LAYOUT))
    parameters = [torch.nn.Parameter(torch.zeros_like(part)) for part in parts(gradients)]
    for parameter, part in zip(parameters, parts(gradients), strict=True):
        parameter.grad = part
    for layer in (parameters[:1], parameters[1:]):
        torch.nn.utils.clip_grad_norm_(layer, most)
    clip(gradients, np.zeros_like(gradients), LAYOUT, kind="layer", max_norm=most)
    for parameter, part in zip(parameters, parts(gradients), strict=True):
        np.testing.assert_allclose(part, parameter.grad, rtol=1e-4)  # theirs adds 1e-6 to the norm


@pytest.mark.parametrize("ratio", [1e-3, 0.3])
def test_units_are_clipped_as_the_paper_says(ratio: float) -> None:
    """Brock et al. 2021, equation 3; PyTorch stores W as [out, in], where a unit is a row as in its code."""
    import torch

    rng = np.random.default_rng(1)
    gradients, weights = rng.normal(size=length(LAYOUT)), rng.normal(size=length(LAYOUT)) * rng.random(length(LAYOUT))
    weights[LAYOUT[2].part] = 0.0
    expected = []
    for tensor, grad, weight in zip(LAYOUT, parts(gradients), parts(weights), strict=True):
        g, w = (x if tensor.name == "table" else x.T if x.ndim == 2 else x[None] for x in (grad, weight))
        norm = torch.linalg.vector_norm(g, dim=1, keepdim=True)
        limit = ratio * torch.linalg.vector_norm(w, dim=1, keepdim=True).clamp(min=1e-3)
        clipped = torch.where(norm > limit, g * (limit / norm.clamp(min=1e-6)), g)
        expected.append(clipped if tensor.name == "table" else clipped.T if grad.ndim == 2 else clipped[0])
    clip(gradients, weights, LAYOUT, kind="adaptive", adaptive=ratio)
    for found, wanted in zip(parts(gradients), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-12)
