"""Ten steps beside `torch.optim.AdamW` with the usual two groups, and clipping beside `clip_grad_norm_`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mini_bert.ops.contract import BLOCK
from mini_bert.optim import adamw
from mini_bert.optim.clipping import clip_scale, global_norm

pytestmark = pytest.mark.reference


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_ten_steps_of_adamw(dtype: Any, tolerance: float) -> None:
    import torch

    size, decayed = BLOCK + 100, BLOCK - 50
    rng = np.random.default_rng(0)
    theta = rng.normal(size=size).astype(dtype)
    groups = [torch.nn.Parameter(torch.tensor(part)) for part in (theta[:decayed], theta[decayed:])]
    settings = {"betas": (0.9, 0.98), "eps": 1e-6, "lr": 1.0}
    reference = torch.optim.AdamW(
        [{"params": groups[:1], "weight_decay": 0.1}, {"params": groups[1:], "weight_decay": 0.0}], **settings
    )
    state = adamw.init(size, dtype)
    for step in range(1, 11):
        gradient = (rng.normal(size=size) * 10.0 ** rng.integers(-4, 2, size)).astype(dtype)
        lr = 1e-2 * step / 10
        for group in reference.param_groups:
            group["lr"] = lr
        for parameter, part in zip(groups, (gradient[:decayed], gradient[decayed:]), strict=True):
            parameter.grad = torch.tensor(part)
        reference.step()
        adamw.update(theta, gradient, state, step=step, lr=lr, beta2=0.98, eps=1e-6, weight_decay=0.1, decayed=decayed)
        expected = np.concatenate([parameter.detach().numpy() for parameter in groups])
        np.testing.assert_allclose(theta, expected, rtol=tolerance, atol=tolerance)
    for ours, name in zip(state, ("exp_avg", "exp_avg_sq"), strict=True):
        theirs = np.concatenate([reference.state[parameter][name].numpy() for parameter in groups])
        np.testing.assert_allclose(ours, theirs, rtol=10 * tolerance, atol=tolerance)


@pytest.mark.parametrize("max_norm", [0.5, 1e4])
def test_clipping(max_norm: float) -> None:
    import torch

    gradient = np.random.default_rng(1).normal(size=2 * BLOCK)
    parameter = torch.nn.Parameter(torch.zeros(gradient.size, dtype=torch.float64))
    parameter.grad = torch.tensor(gradient)
    norm = torch.nn.utils.clip_grad_norm_([parameter], max_norm)
    assert global_norm(gradient) == pytest.approx(norm.item(), rel=1e-13)
    clipped = gradient * clip_scale(global_norm(gradient), max_norm)
    np.testing.assert_allclose(clipped, parameter.grad.numpy(), rtol=1e-5)  # theirs adds 1e-6 to the norm
