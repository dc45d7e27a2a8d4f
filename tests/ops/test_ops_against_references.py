"""Operations beside PyTorch's autograd in float64, and erf beside SciPy's."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import numpy as np
import pytest

from mini_bert.ops.contract import Case
from mini_bert.ops.erf import erf
from mini_bert.verification import torch_positions
from mini_bert.verification.gradient_check import gradient_errors, operations

pytestmark = pytest.mark.reference


def torch_output(name: str, tensors: list[Any], constants: dict[str, Any], saved: Any) -> Any:
    import torch
    from torch.nn import functional as F

    if name == "linear":
        return F.linear(tensors[0], tensors[1].T, tensors[2])
    if name == "embedding":
        return F.embedding(torch.from_numpy(constants["ids"]), tensors[0])
    if name == "layer_norm":
        x, gamma, beta = tensors
        return F.layer_norm(x, x.shape[-1:], gamma, beta, constants["eps"])
    if name == "rms_norm":
        norm = torch.nn.RMSNorm(tensors[0].shape[-1], constants["eps"], elementwise_affine=False)
        return norm(tensors[0]) * tensors[1]
    if name == "cross_entropy":
        return F.cross_entropy(tensors[0], torch.from_numpy(constants["targets"]), reduction="sum")
    if name == "squared_error":
        return F.mse_loss(tensors[0][:, 0], torch.from_numpy(constants["targets"]), reduction="sum")
    if name == "dropout":  # the draw is ours; what is done with it is compared
        return tensors[0] if saved.keep is None else tensors[0] * torch.from_numpy(saved.keep) * saved.scale
    if name == "attention":
        return torch_attention(tensors, constants, saved)
    if name in torch_positions.FUNCTIONS:
        return torch_positions.FUNCTIONS[name](*tensors, **constants)
    one_input = {
        "gelu": F.gelu,
        "gelu_new": lambda x: F.gelu(x, approximate="tanh"),
        "relu": F.relu,
        "sigmoid": torch.sigmoid,
        "tanh": torch.tanh,
        "softmax": lambda x: F.softmax(x, dim=-1),
    }
    return one_input[name](*tensors)


def torch_attention(tensors: list[Any], constants: dict[str, Any], saved: Any) -> Any:
    import torch
    from torch.nn import functional as F

    Q, K, V, *bias = tensors
    mask = None if constants["mask_BS"] is None else torch.from_numpy(constants["mask_BS"])[:, None, None, :]
    all_rows_have_keys = mask is None or bool(mask.any(dim=-1).all())
    if saved.dropout.keep is None and all_rows_have_keys and not bias:
        return F.scaled_dot_product_attention(Q, K, V, attn_mask=mask)
    scores = Q @ K.transpose(-1, -2) / Q.shape[-1] ** 0.5
    scores = scores + bias[0] if bias else scores
    scores = scores if mask is None else scores.masked_fill(~mask, -1e9)
    weights = scores.softmax(dim=-1)
    if saved.dropout.keep is not None:
        weights = weights * torch.from_numpy(saved.dropout.keep) * saved.dropout.scale
    return weights @ V


CASES = [
    pytest.param(name, operation, case, id=f"{name}-{case.name}")
    for name, operation in operations().items()
    for case in operation.CASES
]


@pytest.mark.parametrize(("name", "operation", "case"), CASES)
def test_output_and_gradients_are_those_of_torch(name: str, operation: ModuleType, case: Case) -> None:
    import torch

    rng = np.random.default_rng(5)
    values, constants = case.make(rng)
    output, saved = operation.forward(*values, **constants)
    cotangent = rng.normal(size=output.shape)
    gradients = operation.backward(cotangent, saved)

    tensors = [torch.from_numpy(value.copy()).requires_grad_() for value in values]
    reference = torch_output(name, tensors, constants, saved)
    torch_gradients = torch.autograd.grad(reference, tensors, torch.from_numpy(np.asarray(cotangent)))
    np.testing.assert_allclose(output, reference.detach().numpy(), rtol=1e-12, atol=1e-13)
    named = {str(place): gradient for place, gradient in enumerate(gradients)}
    errors = gradient_errors(named, {str(place): g.numpy() for place, g in enumerate(torch_gradients)})
    assert max(error.error for error in errors) <= 1e-10


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 5e-7), (np.float64, 1e-15)])
def test_erf_is_that_of_scipy(dtype: type, bound: float) -> None:
    from scipy import special

    x = np.linspace(-8.0, 8.0, 2_000_001).astype(dtype)
    assert np.abs(erf(x).astype(np.float64) - special.erf(x.astype(np.float64))).max() <= bound


def test_erf_of_complex_numbers_near_the_axis_is_that_of_scipy() -> None:
    from scipy import special

    x = np.linspace(-6.0, 6.0, 10_001) + 1e-3j
    np.testing.assert_allclose(erf(x), special.erf(x), atol=1e-12)
