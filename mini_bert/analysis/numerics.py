"""What do fewer bits do to this model? All experiments of the numerics lab, on one model and real text.

`mini-bert numerics` calls `run_numerics`; `mini_bert.reports.numerics` draws what it returns.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.analysis import depth, loss_scaling, precision, precision_training, reductions
from mini_bert.analysis.narrow_pass import NarrowScorer, with_rounded_parameters
from mini_bert.analysis.rounding import FORMATS, Format, lookup, rounded
from mini_bert.errors import InvalidInputError
from mini_bert.interop.bert_config import FAITHFUL, model_type
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.ops.contract import identity

if TYPE_CHECKING:
    from mini_bert.batch import Batch
    from mini_bert.config.schema import Config, ModelConfig
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.data.work import Progress

DEFAULT_FORMATS = ("float32", "bfloat16", "float16")

Scores = dict[str, Any]
Evaluate = Callable[[Mapping[str, NarrowScorer], "Sequence[Batch]"], dict[str, Scores]]
"""Scores models by name at the masks of batches; the first is what the others are compared with. A score has at least
`loss`, which is None where a model's numbers are not finite."""

_LONGEST_ROW = 128
_TRACED_TOKENS = {False: 1024, True: 256}
"""Tokens of the pass that is taken apart, by `quick`."""
_SCORED_FLOPS = {False: 4e11, True: 1e10}
_FEWEST_ROWS = 64
_LAST = 20
"""Steps whose mean is the final training loss."""
_BLOCKS = {False: 32, True: 12}
_LOWEST_EXPONENT, _HIGHEST_EXPONENT = -60, 8


def run_numerics(
    model: MiniBERT,
    config: Config,
    token_corpus: TokenCorpus,
    evaluate: Evaluate,
    *,
    formats: Sequence[str] = DEFAULT_FORMATS,
    quick: bool = False,
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare formats with float64 on one model.

    Args:
        model: in float64, with an MLM head.
        config: the run's: held-out rows, masks, seed, optimiser.
        token_corpus: tokenised with the model's own vocabulary.
        evaluate: how models are scored on held-out text.
        formats: names of `mini_bert.analysis.rounding.FORMATS`.
        quick: fewer rows, shorter training.
        threads: trainings that run at once; the result is the same for any number.
        progress: told how far it is.

    Returns:
        Plain values for JSON, of kind `numerics`; what is not finite is None.

    Raises:
        InvalidInputError: a format is unknown, or the model has no MLM head, or is a variant of BERT.
        DataError: the held-out text makes no row.
    """
    from mini_bert.data.batches import held_out_batches

    begin = time.perf_counter()
    told = progress or (lambda what, done, total: None)
    chosen = [lookup(name) for name in formats]
    model.parameters.require_head("mlm")
    if model_type(model.config) != FAITHFUL:
        raise InvalidInputError(
            "MODEL",
            got="a variant of BERT",
            expected="BERT's own architecture",
            advice="The lab does each operation of it over again with fewer bits, and knows no other.",
        )
    length = min(_LONGEST_ROW, model.config.max_position_embeddings)
    config = config.model_copy(
        update={
            "model": model.config.model_copy(update={"max_position_embeddings": length}),
            "data": config.data.model_copy(update={"held_out_rows": _rows(model, config, length, quick)}),
        }
    )
    tokenizer = token_corpus.tokenizer
    batches = held_out_batches(token_corpus.held_out, config, tokenizer)
    traced = batches[0].rows(0, max(1, _TRACED_TOKENS[quick] // length))

    told("the exact pass", 0, 0)
    exact = precision.Exact.of(model, traced)
    assert traced.masked_positions is not None
    return _plain(
        {
            "kind": "numerics",
            "quick": quick,
            "model": {"parameters": model.parameters.buffer.size, "config": model.config.model_dump(mode="json")},
            "text": {"corpus": list(config.data.corpus), "rows": len(traced.input_ids), "tokens": traced.input_ids.size,
                     "masked": traced.masked_positions.size, "loss": exact.loss},
            "formats": [_facts(format) for format in FORMATS.values()],
            "constants": _constants(model, config, chosen),
            "passes": [_pass(exact, format, told) for format in chosen],
            "native_float32": precision.native_points(exact, FORMATS["float32"]),
            "gradient_exponents": _gradient_exponents(exact),
            "depth": _depths(model.config, traced, chosen, quick, told),
            "accuracy": _accuracy(model, chosen, batches, evaluate, told),
            "training": _trainings(config, token_corpus, chosen, evaluate, batches, quick, threads, told),
            "seconds": time.perf_counter() - begin,
        }
    )  # fmt: skip


def _rows(model: MiniBERT, config: Config, length: int, quick: bool) -> int:
    """As many held-out rows as cost so many operations."""
    c = model.config
    blocks = c.num_hidden_layers * (4 * c.hidden_size**2 + 2 * c.hidden_size * c.intermediate_size)
    rows = int(_SCORED_FLOPS[quick] / (2 * length * blocks))
    return min(config.data.held_out_rows, max(_FEWEST_ROWS, rows))


def _facts(format: Format) -> dict[str, Any]:
    names = ("bits", "largest", "smallest_normal", "smallest", "epsilon")
    return {**format._asdict(), **{name: getattr(format, name) for name in names}}


def _constants(model: MiniBERT, config: Config, formats: Sequence[Format]) -> list[dict[str, Any]]:
    """Numbers that stand in the code of every BERT, and what a format makes of them; None: infinite."""
    from mini_bert.ops.attention import MASKED_SCORE

    constants = {
        "score of a masked key": MASKED_SCORE,
        "ε of LayerNorm": model.config.layer_norm_eps,
        "ε of AdamW": config.optimizer.eps,
        "ε of Adam elsewhere": 1e-8,
    }
    return [
        {"name": name, "value": value, "as": {f.name: float(rounded(np.array([value]), f)[0]) for f in formats}}
        for name, value in constants.items()
    ]


def _pass(exact: precision.Exact, format: Format, told: Progress) -> dict[str, Any]:
    """One format: every intermediate, every gradient, loss scales, and sums in the format."""
    told(f"{format.name}: forward and backward", 0, 0)
    narrow = precision.narrow_pass(exact, format)
    sums = precision.narrow_pass(exact, format, reductions.narrow_sums_tap(narrow.model, format))
    last = exact.model.config.num_hidden_layers - 1
    layer, into_norm = exact.model.parameters.layers[last], exact.forward[f"layer_{last}.feed_forward.sum"]
    eps = exact.model.config.layer_norm_eps
    narrow_enough = format.mantissa_bits < FORMATS["float32"].mantissa_bits

    def rounding_alone(done: int, total: int) -> None:
        told(f"{format.name}: one rounding at a time", done, total)

    return {
        "format": format.name,
        "loss": narrow.loss,
        "same_best": narrow.same_best,
        "forward": narrow.forward,
        "backward": narrow.backward,
        "gradients": narrow.gradients,
        "alone": precision.alone(exact, format, told=rounding_alone) if narrow_enough else None,
        "loss_scales": loss_scaling.scan(narrow, exact) if narrow_enough else None,
        "narrow_sums": {
            "loss": sums.loss,
            "logits": sums.forward[-1].error,
            "same_best": sums.same_best,
            "operations": reductions.compare(exact.model, exact.forward, format),
            "large_inputs": reductions.layer_norm_of_large_inputs(into_norm, layer.gamma2, layer.beta2, eps, format),
        },
    }


def _gradient_exponents(exact: precision.Exact) -> dict[str, Any]:
    """How many gradients lie between 2^E and 2^(E+1)."""
    bounds = _LOWEST_EXPONENT, _HIGHEST_EXPONENT
    return {
        "lowest": _LOWEST_EXPONENT,
        "intermediates": loss_scaling.exponents(exact.backward.values(), *bounds),
        "parameters": loss_scaling.exponents(exact.gradients.values(), *bounds),
    }


def _depths(
    config: ModelConfig, batch: Batch, formats: Sequence[Format], quick: bool, told: Progress
) -> list[dict[str, Any]]:
    results = []
    for format in formats:
        told(f"{format.name}: {_BLOCKS[quick]} blocks", 0, 0)
        results.append(
            {"format": format.name, **depth.error_by_depth(config, batch, format, blocks=_BLOCKS[quick])._asdict()}
        )
    return results


def _accuracy(
    model: MiniBERT, formats: Sequence[Format], batches: Sequence[Batch], evaluate: Evaluate, told: Progress
) -> list[dict[str, Any]]:
    """Held-out scores by format, weights alone and intermediates too; float32 is what they are compared with."""
    told("scoring", 0, 0)
    float32 = MiniBERT.from_parameters(Parameters(model.config, buffer=model.parameters.buffer.astype(np.float32)))
    scorers = {"float32": NarrowScorer(float32, FORMATS["float32"])}
    for format in formats:
        if format.mantissa_bits < FORMATS["float32"].mantissa_bits:
            scorers[format.name] = NarrowScorer(float32, format)
            scorers[f"{format.name}, weights alone"] = NarrowScorer(float32, format, identity)
            narrow_sums = reductions.narrow_sums_tap(with_rounded_parameters(float32, format), format)
            scorers[f"{format.name}, sums too"] = NarrowScorer(float32, format, narrow_sums)
    scores = evaluate(scorers, batches)
    best = {name: np.concatenate([*scorer.best, []]) for name, scorer in scorers.items()}
    return [
        {
            "name": name,
            "same_best": float(np.mean(best[name] == best["float32"])) if score["loss"] is not None else None,
            **score,
        }
        for name, score in scores.items()
    ]


def _trainings(
    config: Config,
    token_corpus: TokenCorpus,
    formats: Sequence[Format],
    evaluate: Evaluate,
    held_out: Sequence[Batch],
    quick: bool,
    threads: int | None,
    told: Progress,
) -> dict[str, Any]:
    """A small model trained by every recipe whose formats were asked for, scored in the format it was trained in."""
    small = precision_training.small_config(config, quick)
    curves = precision_training.train_all(
        small, token_corpus, [format.name for format in formats], quick=quick, threads=threads, told=told
    )
    return {
        "model": small.model.model_dump(mode="json"),
        "rows": small.train.batch_size,
        "steps": len(curves[0].losses),
        "last": min(_LAST, len(curves[0].losses)),
        "curves": [_curve(curve, evaluate, held_out) for curve in curves],
    }


def _curve(curve: precision_training.TrainingCurve, evaluate: Evaluate, held_out: Sequence[Batch]) -> dict[str, Any]:
    scorer = NarrowScorer(curve.model, lookup(curve.recipe.compute))
    return {
        **curve.recipe._asdict(),
        "rate": curve.rate,
        "losses": curve.losses,
        "final": float(np.mean(curve.losses[-_LAST:])),
        "held_out": evaluate({curve.recipe.name: scorer}, held_out)[curve.recipe.name]["loss"],
        "lost": curve.lost,
        "lost_by_size": float(np.mean(curve.lost_norm)) if curve.lost_norm else None,
        "skipped": curve.skipped,
        "scale": curve.scale,
    }


def _plain(value: Any) -> Any:
    """Plain values for JSON: five figures, None for what is not finite, dictionaries for named tuples."""
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        if not math.isfinite(value):
            return None
        short = float(f"{value:.5g}")
        return short if math.isfinite(short) else float(value)
    return int(value) if isinstance(value, np.integer) else value
