"""What is wrong with the gradients and the results, in numbers? Runs where a bug is injected, or none.

Three questions, each with its own kind of blindness:

    gradient       does the backward pass differentiate the forward pass, whatever that computes?     (complex step)
    definition     is the forward pass the one that the definition describes?                         (loops)
    results        the same of the whole model: its losses, sparse and dense, its scores and its sentence head

A bug in the backward pass is seen by the first alone; one that is in both passes, so that they agree, by the second
alone. Everything is imported inside the functions: the bug has to be injected first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

Numbers = dict[str, Any]

_ENTRIES = 8
"""Single entries of each tensor that are compared, besides one direction."""

_IDS = ((2, 17, 4, 9, 9, 3), (2, 8, 4, 3, 0, 0), (2, 4, 30, 17, 3, 0))
_SEGMENTS = ((0, 0, 0, 1, 1, 1), (0, 0, 0, 0, 0, 0), (0, 1, 1, 1, 1, 0))
_POSITIONS = (1, 2, 4, 8, 13, 14)
_TARGETS = (17, 5, 3, 25, 1, 10)


def operation_errors() -> Numbers:
    """Operation → `definition` and `gradient`: its largest relative errors over all of its cases.

    What stopped an operation stands in the place of both, as text.
    """
    from mini_bert.verification.gradient_check import operations

    return {
        name: _attempt(lambda operation=operation: _operation(operation)) for name, operation in operations().items()
    }


def model_errors() -> Numbers:
    """`results` and `gradients` of a model of the debug preset: what → relative error, check → parameter → the same.

    The batch has padding, two segments, a different number of hidden pieces in each row, repeated ids, and dropout.
    """
    return {
        "results": {
            "the training loss": _attempt(_sparse_loss),
            "mlm_cross_entropy": _attempt(_dense_loss),
            "the scores of hidden pieces": _attempt(_scores),
            "the logits of the sentence head": _attempt(_sentence_logits),
        },
        "gradients": {
            "masked_lm": _attempt(_masked_lm_gradients),
            "nsp": _attempt(_sentence_gradients),
            "logits": _attempt(_dense_gradient),
        },
    }


def _attempt(measure: Callable[[], Any]) -> Any:
    """What it measures, or in words what stopped it; a failure of one measurement is a symptom as any other."""
    try:
        return measure()
    except Exception as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"


def _operation(operation: Any) -> dict[str, float]:
    import numpy as np

    from mini_bert.verification.gradient_check import check_operation
    from mini_bert.verification.oracles.operations import ORACLES

    definition = gradient = 0.0
    for case in operation.CASES:
        values, constants = case.make(np.random.default_rng(7))
        lists = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in constants.items()}
        oracle = ORACLES[operation.__name__.rpartition(".")[2]]
        expected = np.array(oracle(*(value.tolist() for value in values), **lists), np.float64)
        with np.errstate(all="ignore"):
            output, _ = operation.forward(*(np.array(value, np.float64) for value in values), **constants)
            gradient = _larger(gradient, check_operation(operation, case).worst.error)
        definition = _larger(definition, _relative(output, expected))
    return {"definition": definition, "gradient": gradient}


def _model(dtype: Any, **settings: Any) -> Any:
    """A model of the debug preset, away from its initial values, where half of the gradients are next to nothing."""
    import numpy as np

    from mini_bert.config.load import load_config
    from mini_bert.model.bert import MiniBERT

    sizes = {"vocab_size": 120, "hidden_dropout_prob": 0.2, "attention_probs_dropout_prob": 0.2, **settings}
    config = load_config(["model/debug"]).model.model_copy(update=sizes)
    model = MiniBERT(config, dtype=dtype)
    model.parameters.buffer[...] += 0.2 * np.random.default_rng(3).normal(size=model.parameters.buffer.size)
    return model


def _batch() -> Any:
    import numpy as np

    from mini_bert.batch import Batch

    ids = np.array(_IDS, np.int32)
    return Batch(ids, ids != 0, np.array(_SEGMENTS), np.array(_POSITIONS), np.array(_TARGETS), first_row=4)


def _dropout() -> Any:
    from mini_bert.random_streams import RandomStream

    return RandomStream(11, "dropout", 4)


def _loops(model: Any, dropout: Any) -> float:
    from mini_bert.verification.oracles.bert import masked_lm

    batch = _batch()
    loss, _ = masked_lm(
        model.config,
        {name: value.tolist() for name, value in model.parameters.items()},
        batch.input_ids.tolist(),
        list(_POSITIONS),
        list(_TARGETS),
        attention_mask=batch.attention_mask.tolist(),
        token_type_ids=batch.token_type_ids.tolist(),
        dropout=dropout,
        first_row=batch.first_row,
    )
    return loss


def _sparse_loss() -> float:
    """Of the mean loss that training sees, with dropout."""
    import numpy as np

    from mini_bert.model.parameters import Parameters

    model = _model(np.float64)
    loss, masked = model.mlm_loss_and_gradients(_batch(), Parameters(model.config, np.float64), _dropout())
    expected = _loops(model, _dropout()) / len(_POSITIONS)
    return abs(loss / masked - expected) / expected


def _dense(model: Any) -> tuple[Any, Any, Any]:
    """Logits at all positions, targets with −100 wherever nothing is to be predicted, and the cache."""
    import numpy as np

    batch = _batch()
    logits, cache = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids, head="mlm")
    targets = np.full(batch.input_ids.shape, -100)
    targets.flat[np.array(_POSITIONS)] = _TARGETS
    return logits, targets, cache


def _dense_loss() -> float:
    """Of the mean loss by the public way: `forward`, then `mlm_cross_entropy`."""
    import numpy as np

    from mini_bert.ops.cross_entropy import mlm_cross_entropy

    model = _model(np.float64)
    logits, targets, _ = _dense(model)
    expected = _loops(model, None) / len(_POSITIONS)
    return abs(mlm_cross_entropy(logits, targets)[0] - expected) / expected


def _scores() -> float:
    """Of the logits that a model is scored by, at the hidden positions, without dropout."""
    import numpy as np

    from mini_bert.verification.oracles.bert import head_logits, hidden_states

    model, batch = _model(np.float64), _batch()
    run = _conditions(model)
    hidden = hidden_states(run, batch.input_ids.tolist(), batch.token_type_ids.tolist())
    expected = np.array(head_logits(run, "mlm", hidden)).reshape(-1, model.config.vocab_size)
    return _relative(model.mlm_logits(batch), expected[np.array(_POSITIONS)])


def _sentence_logits() -> float:
    import numpy as np

    from mini_bert.verification.oracles.bert import head_logits, hidden_states

    model, batch = _model(np.float64, heads=("nsp",)), _batch()
    run = _conditions(model)
    hidden = hidden_states(run, batch.input_ids.tolist(), batch.token_type_ids.tolist())
    logits, _ = model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids, head="nsp")
    return _relative(logits, np.array(head_logits(run, "nsp", hidden)))


def _conditions(model: Any) -> Any:
    """What the loops read, without dropout."""
    from mini_bert.verification.oracles.bert import Conditions

    batch = _batch()
    parameters = {name: value.tolist() for name, value in model.parameters.items()}
    return Conditions(model.config, parameters, batch.attention_mask.tolist(), None, batch.first_row)


def _dense_gradient() -> dict[str, float]:
    """Of the gradient of that loss with respect to the logits, along one random direction."""
    import numpy as np

    from mini_bert.ops.cross_entropy import mlm_cross_entropy

    logits, targets, _ = _dense(_model(np.float64))
    direction, h = np.random.default_rng(1).normal(size=logits.shape), 1e-4
    ends = [mlm_cross_entropy(logits + by * direction, targets)[0] for by in (-h, h)]
    got = float((mlm_cross_entropy(logits, targets)[1] * direction).sum())
    expected = (ends[1] - ends[0]) / (2 * h)
    error = abs(got - expected) / max(abs(got), abs(expected), 1e-12)
    return {"logits": error if error > 1e-6 else 0.0}


def _masked_lm_gradients() -> dict[str, float]:
    """Of every parameter, of the loss that training sees."""
    import numpy as np

    from mini_bert.model.parameters import Parameters

    def loss(model: Any, gradients: Any) -> Any:
        return model.mlm_loss_and_gradients(_batch(), gradients, _dropout())[0]

    model, moved = _model(np.float64), _model(np.complex128)
    gradients, scratch = Parameters(model.config, np.float64), Parameters(moved.config, np.complex128)
    loss(model, gradients)
    return _checked(lambda: loss(moved, scratch), moved, gradients)


def _sentence_gradients() -> dict[str, float]:
    """Of every parameter, of the logits of the next-sentence head; those of the masked-LM head are 0."""
    import numpy as np

    from mini_bert.model.gradients import MiniBERTGradients

    batch, heads = _batch(), {"heads": ("nsp",)}

    def forward(model: Any) -> Any:
        return model.forward(batch.input_ids, batch.attention_mask, batch.token_type_ids, head="nsp")

    model, moved = _model(np.float64, **heads), _model(np.complex128, **heads)
    logits, cache = forward(model)
    cotangent = np.random.default_rng(2).normal(size=logits.shape)
    gradients = MiniBERTGradients(model)
    gradients.backward_from_logits(cotangent, cache)
    return _checked(lambda: (cotangent * forward(moved)[0]).sum(), moved, gradients.gradients, entries=2)


def _checked(
    objective: Callable[[], Any], moved: Any, gradients: Mapping[str, Any], entries: int = _ENTRIES
) -> dict[str, float]:
    """Parameter → the largest of the errors along a direction and at single entries; in the order of the model."""
    from mini_bert.verification.gradient_check import COMPLEX_STEP, check_samples

    check = check_samples("model", COMPLEX_STEP, objective, moved.parameters, gradients, entries=entries)
    errors: dict[str, float] = {}
    for tensor in check.tensors:
        errors[tensor.name] = _larger(errors.get(tensor.name, 0.0), tensor.error)
    return errors


def _larger(one: float, other: float) -> float:
    """The larger error, NaN being the largest of all."""
    return math.inf if math.isnan(one) or math.isnan(other) else max(one, other)


def _relative(got: Any, expected: Any) -> float:
    import numpy as np

    if np.shape(got) != np.shape(expected):
        return math.inf
    scale = max(float(np.linalg.norm(np.ravel(expected))), 1e-12)
    return float(np.linalg.norm(np.ravel(got - expected))) / scale
