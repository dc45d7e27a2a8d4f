"""Twenty steps beside `torch.optim`: SGD, Adafactor, Muon, and AdamW with all that can be put around it.

Where torch differs, the test says so and takes the difference out: SGD's decay is part of the gradient there, Adafactor
multiplies the rate by the size of the parameters, Muon iterates in bfloat16. Torch has no Lion and no Lookahead: these
stand beside loops in tests/optim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mini_bert.optim import optimizer
from mini_bert.optim.layout import Layout, Tensor, length, packed
from mini_bert.optim.optimizer import Settings

pytestmark = pytest.mark.reference

STEPS, DECAY = 20, 0.1
SHAPES = {
    "table": (50, 12),
    "W_Q_0": (12, 12),
    "W1_0": (12, 40),
    "W2_0": (40, 12),
    "gamma": (12,),
    "b_vocabulary": (50,),
}
LAYOUT: Layout = packed(
    Tensor(name, 0, 0, shape, len(shape) == 2, 1, name.startswith("W")) for name, shape in SHAPES.items()
)
each_precision = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def rate(step: int) -> float:
    return 1e-2 * (1 + step % 4)


def gradient(step: int, dtype: Any) -> Any:
    """Of unlike sizes, and one row of the table without any."""
    rng = np.random.default_rng(step)
    g = (rng.normal(size=length(LAYOUT)) * 10.0 ** rng.integers(-3, 2, length(LAYOUT))).astype(dtype)
    g[LAYOUT[0].part].reshape(50, 12)[7] = 0
    return g


def start(dtype: Any) -> Any:
    return np.random.default_rng(0).normal(size=length(LAYOUT)).astype(dtype)


def compare(settings: Settings, references: dict[str, Any], tensors: dict[str, Any], dtype: Any) -> Any:
    """Step both; `references` are torch's optimisers by tensor name, `tensors` what they change."""
    import torch

    theta = start(dtype)
    state = optimizer.fresh(theta, LAYOUT, settings)
    for step in range(1, STEPS + 1):
        g = gradient(step, dtype)
        optimizer.update(theta, g, state, settings, step=step, lr=rate(step), threads=2)
        for tensor in LAYOUT:
            reference, parameter = references[tensor.name], tensors[tensor.name]
            for group in reference.param_groups:
                group["lr"] = rate(step)
            parameter.grad = torch.tensor(g[tensor.part].reshape(tensor.shape))
            if settings.name == "sgd":
                parameter.data.mul_(1 - rate(step) * settings.weight_decay * tensor.decay)
            reference.step()
            np.testing.assert_allclose(
                theta[tensor.part].reshape(tensor.shape),
                parameter.detach().numpy(),
                rtol=1e-6,
                atol=1e-6,
                err_msg=f"{tensor.name}, step {step}",
            )
    return theta


def torch_parameters(dtype: Any) -> dict[str, Any]:
    import torch

    theta = start(dtype)
    return {t.name: torch.nn.Parameter(torch.tensor(theta[t.part].reshape(t.shape))) for t in LAYOUT}


@each_precision
@pytest.mark.parametrize("nesterov", [True, False])
def test_sgd(nesterov: bool, dtype: Any) -> None:
    import torch

    tensors = torch_parameters(dtype)
    references = {
        name: torch.optim.SGD([tensor], lr=1.0, momentum=0.9, nesterov=nesterov) for name, tensor in tensors.items()
    }
    settings = Settings(name="sgd", momentum=0.9, nesterov=nesterov, weight_decay=DECAY)
    compare(settings, references, tensors, dtype)


@each_precision
def test_adafactor(dtype: Any) -> None:
    """With a bound on the size of the parameters that all lie below, torch's factor on the rate is that bound: 1."""
    import torch

    above_all = 100.0
    tensors = torch_parameters(dtype)
    references = {
        tensor.name: torch.optim.Adafactor(
            [tensors[tensor.name]], lr=1.0, eps=(1e-15, above_all), d=1.0, weight_decay=DECAY * tensor.decay
        )
        for tensor in LAYOUT
    }
    for reference in references.values():
        reference.step = _at_rates_over(above_all, reference)
    compare(Settings(name="adafactor", weight_decay=DECAY), references, tensors, dtype)


def _at_rates_over(factor: float, reference: Any) -> Any:
    """A step at the rate divided by `factor`, and the decay, which hears of the rate alone, multiplied by it."""
    step = reference.step

    def at_a_lower_rate() -> None:
        for group in reference.param_groups:
            group["lr"] /= factor
            group.setdefault("initial_decay", group["weight_decay"])
            group["weight_decay"] = factor * group["initial_decay"]
        step()

    return at_a_lower_rate


@each_precision
@pytest.mark.parametrize(("nesterov", "steps"), [(True, 5), (False, 5), (True, 3)])
def test_muon_with_adamw_for_the_rest(nesterov: bool, steps: int, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    tensors = torch_parameters(dtype)
    references = {}
    for tensor in LAYOUT:
        parameter, decay = [tensors[tensor.name]], DECAY * tensor.decay
        if tensor.hidden_matrix:
            references[tensor.name] = torch.optim.Muon(
                parameter,
                lr=1.0,
                weight_decay=decay,
                momentum=0.95,
                nesterov=nesterov,
                ns_steps=steps,
                adjust_lr_fn="match_rms_adamw",
            )
        else:
            references[tensor.name] = torch.optim.AdamW(
                parameter, lr=1.0, betas=(0.9, 0.98), eps=1e-6, weight_decay=decay
            )
    settings = Settings(name="muon", nesterov=nesterov, newton_schulz_steps=steps, beta2=0.98, weight_decay=DECAY)
    compare(settings, references, tensors, dtype)


def test_muon_in_bfloat16_goes_the_same_way() -> None:
    """Torch as it comes: its orthogonal matrices are ours to the digits that bfloat16 has."""
    import torch

    parameter = torch.nn.Parameter(torch.zeros(48, 96))
    g = np.random.default_rng(1).normal(size=(48, 96)).astype(np.float32)
    parameter.grad = torch.tensor(g)
    torch.optim.Muon([parameter], lr=1.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
    tensor = Tensor("W1_0", 0, g.size, g.shape, True, 1, True)
    settings, theta = Settings(name="muon", weight_decay=0.0), np.zeros(g.size, np.float32)
    optimizer.update(theta, g.reshape(-1), optimizer.fresh(theta, (tensor,), settings), settings, step=1, lr=1.0)
    theirs = parameter.detach().numpy().reshape(-1)
    assert np.linalg.norm(theta - theirs) < 0.05 * np.linalg.norm(theirs)


@each_precision
def test_adamw_by_layers(dtype: Any) -> None:
    """Layer-wise rates, and those of positions, are groups with rates of their own."""
    import torch

    layout = packed(
        Tensor(name, 0, 0, shape, len(shape) == 2, depth, False, positions=depth == 1)
        for depth, (name, shape) in enumerate(SHAPES.items())
    )
    settings = Settings(layer_decay=0.7, position_lr_factor=3.0, weight_decay=DECAY)
    theta, tensors = start(dtype), torch_parameters(dtype)
    groups = [{"params": [tensors[t.name]], "weight_decay": DECAY * t.decay, "depth": t.depth} for t in layout]
    reference = torch.optim.AdamW(groups, lr=1.0, eps=1e-6)
    state = optimizer.fresh(theta, layout, settings)
    for step in range(1, STEPS + 1):
        g = gradient(step, dtype)
        optimizer.update(theta, g, state, settings, step=step, lr=rate(step))
        for group in reference.param_groups:
            group["lr"] = rate(step) * 0.7 ** (5 - group["depth"]) * (3.0 if group["depth"] == 1 else 1.0)
        for t in layout:
            tensors[t.name].grad = torch.tensor(g[t.part].reshape(t.shape))
        reference.step()
    for t in layout:
        theirs = tensors[t.name].detach().numpy().reshape(-1)
        np.testing.assert_allclose(theta[t.part], theirs, rtol=1e-6, atol=1e-6, err_msg=t.name)


def test_averaging_is_torchs_up_to_the_weight_of_the_start() -> None:
    """Torch's average begins at the first parameters with all weight; ours is corrected, as Adam's moments are."""
    import torch

    decay = 0.8
    model = torch.nn.Linear(3, 2).double()
    averaged = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay), use_buffers=False
    )
    layout = packed([Tensor("W", 0, 0, (2, 3), True, 0, False)])
    from mini_bert.optim import averaging

    assert length(layout) == 6
    ours, visited = np.zeros(6), []
    for step in range(1, STEPS + 1):
        with torch.no_grad():
            model.weight.add_(torch.tensor(np.random.default_rng(step).normal(size=(2, 3))))
        averaged.update_parameters(model)
        visited.append(model.weight.detach().numpy().reshape(-1).copy())
        averaging.update(visited[-1], ours, step=step, decay=decay)
    theirs = averaged.module.weight.detach().numpy().reshape(-1)
    first = decay ** (STEPS - 1) * visited[0]  # all that the start weighs there; here it has its share 1 − d
    corrected = (theirs - decay * first) / (1 - decay**STEPS)
    np.testing.assert_allclose(ours, corrected, rtol=1e-6, atol=1e-9)
