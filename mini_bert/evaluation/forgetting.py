"""What does fine-tuning cost? Masked language modelling and probes before and after it, and what two remedies keep.

A model that learns labels moves away from what it was pre-trained on, and nothing calls it back (McCloskey and Cohen
1989; for pre-trained encoders Chen et al. 2020). Measured at the very same held-out masks, token by token: the
fine-tuned encoder beneath the old head for masks, which fine-tuning has not touched, or beneath its own where masks
were learned along. Remedies that are measured beside it: a lower rate, and replay of running text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from mini_bert.batch import Batch
from mini_bert.errors import InvalidInputError
from mini_bert.evaluation.masked_lm import compare, evaluate_masked_lm
from mini_bert.model.bert import MiniBERT

if TYPE_CHECKING:
    from mini_bert.evaluation.finetuning import Finetuning

LOWER = 0.1
"""Factor on the rate, of that remedy."""

Probe = Callable[[MiniBERT], float]


def measure_catastrophic_forgetting(
    before: MiniBERT, after: MiniBERT, batches: Sequence[Batch], probes: Mapping[str, Probe] | None = None
) -> dict[str, Any]:
    """Loss at held-out masks, and what each probe gives, before and after: plain values for JSON, of kind `forgetting`.

    Args:
        before: the pre-trained model, with the head `mlm`.
        after: the same, fine-tuned.
        batches: with masks, as `held_out_batches` makes them.
        probes: each gives a share, such as an accuracy, of a model with the head `mlm`.

    Raises:
        InvalidInputError: `before` has no head `mlm`, or the two are of different shape.
        NonFiniteError: a loss is not finite.
    """
    changed = with_old_head(before, after)
    first, second = evaluate_masked_lm(before, batches), evaluate_masked_lm(changed, batches)
    rise = compare(second, first)
    return {
        "kind": "forgetting",
        "masked": first.n_masked,
        "masked_lm": {
            "before": {"loss": first.loss, "top1": first.top1},
            "after": {"loss": second.loss, "top1": second.top1},
            "rise": rise.mean,
            "interval": list(rise.interval),
        },
        "probes": {
            name: {"before": float(probe(before)), "after": float(probe(changed))}
            for name, probe in (probes or {}).items()
        },
    }


def with_old_head(before: MiniBERT, after: MiniBERT) -> MiniBERT:
    """The fine-tuned encoder with the head for masks: its own, or else that of the model that it began with.

    Raises:
        InvalidInputError: `before` has no such head, or a tensor of the two has another shape.
    """
    before.parameters.require_head("mlm")
    joined = MiniBERT(before.config, dtype=before.dtype, tokenizer=before.tokenizer)
    for name, view in joined.parameters.items():
        given = after.parameters[name] if name in after.parameters else before.parameters[name]
        if given.shape != view.shape:
            raise InvalidInputError(
                "after", got=f"{name} of shape {list(given.shape)}", expected=f"{list(view.shape)}, as in `before`"
            )
        view[...] = given
    return joined


def forgetting_and_remedies(
    experiment: Finetuning,
    before: MiniBERT,
    batches: Sequence[Batch],
    seed: int = 0,
    probes: Mapping[str, Probe] | None = None,
) -> dict[str, Any]:
    """Fine-tune plainly, with a tenth of the rate, and with replay; what each learns, and what each forgets.

    How well the labels are learned is said of the selection: dev is for what has been chosen.

    Args:
        experiment: with text to replay, and a weight of `tasks.masked_lm`.
        before: the model that it begins with, with the head `mlm`.
        batches: held-out masks, of a text that is not replayed.
        seed: of all three.
        probes: as in `measure_catastrophic_forgetting`.

    Raises:
        Interrupted: a signal ended one of the runs.
        MiniBertError: as `Finetuning.trial`.
    """
    before.parameters.require_head("mlm")
    once = {name: cache(probe) for name, probe in (probes or {}).items()}  # `before` is the same all three times
    recipe = experiment.recipe
    ways: list[tuple[str, dict[str, Any]]] = [
        ("plain", {"replay": False}),
        ("lower-rate", {"replay": False, "recipe": recipe._replace(lr=LOWER * recipe.lr)}),
        ("replay", {"replay": True}),
    ]
    found = []
    for name, options in ways:
        trial = experiment.trial(name, seed, **options)
        measured = measure_catastrophic_forgetting(before, trial.model, batches, once)
        found.append({"way": name, "selection": trial.score, "run": str(trial.run), **measured})
    return {
        "kind": "forgetting_remedies",
        "task": experiment.train.name,
        "metric": experiment.train.metric,
        "recipe": recipe._asdict(),
        "lower": LOWER,
        "ways": found,
    }
