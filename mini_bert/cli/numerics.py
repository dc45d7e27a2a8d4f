"""`mini-bert numerics [MODEL]`: what do fewer bits do to it?"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, UseAppendAction, arg

from mini_bert.atomic_files import require_place
from mini_bert.cli import DONE
from mini_bert.cli.models import find_model, require_tokenizer, trained_by
from mini_bert.cli.options import ConfigOptions, Flag, option, require_at_least_one
from mini_bert.cli.results import print_result
from mini_bert.errors import InvalidInputError

if TYPE_CHECKING:
    from mini_bert.analysis.narrow_pass import NarrowScorer
    from mini_bert.batch import Batch
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT


def numerics(
    model: Positional[Annotated[str | None, arg(metavar="[MODEL]", help_behavior_hint="")]] = None,
    *,
    formats: Annotated[
        UseAppendAction[tuple[str, ...]],
        option("a format beside float64; may be repeated (default: float32 bfloat16 float16)", "FORMAT", name="format"),
    ] = (),
    corpus: Annotated[tuple[str, ...], option("texts, instead of those that the run was trained on", "CORPUS…")] = (),
    quick: Flag = False,
    out: Annotated[str | None, option("folder for numerics.json and a picture", "FOLDER")] = None,
    threads: Annotated[int | None, option("trainings that run at once (default: one a core)", "INT")] = None,
    json: Flag = False,
) -> int:
    """Compare float64 with float32, bfloat16 and float16: error by layer and operation, range, accuracy, training.

    MODEL is a run's name, the path of a checkpoint, or any Hugging Face folder of a BERT; without one it is the newest
    run here, or, where there is none, the untrained default model. Narrow formats are simulated, exactly to the bit:
    parameters and every intermediate are rounded. Formats: float32, bfloat16, float16, float8_e5m2, float8_e4m3.

    Examples:
      mini-bert numerics --quick
      mini-bert numerics demo
      mini-bert numerics demo --format bfloat16 --format float8_e4m3
      mini-bert numerics demo --out results

    Args:
        model: which model.
        quick: fewer tokens and a shorter training: half a minute instead of several.
        json: the result as JSON.
    """
    from mini_bert.analysis.numerics import DEFAULT_FORMATS, run_numerics
    from mini_bert.analysis.rounding import lookup
    from mini_bert.cli.progress import preparation
    from mini_bert.reports.drawing import require_drawable
    from mini_bert.reports.numerics import findings
    from mini_bert.reports.numerics_picture import write_numerics
    from mini_bert.reports.quantities import duration

    for name in formats:
        lookup(name)
    require_at_least_one("--threads", threads)
    if out is not None:
        require_drawable()
        require_place(Path(out) / "numerics.json")
    folder = _folder(model)
    with preparation() as progress:
        bert, config, tokens = _open(folder, corpus, progress)
        result = run_numerics(
            bert,
            config,
            tokens,
            _scores,
            formats=tuple(dict.fromkeys(formats)) or DEFAULT_FORMATS,
            quick=quick,
            threads=threads,
            progress=progress,
        )
    result["model"]["name"] = _name(folder)
    if out is not None:
        for path in write_numerics(result, Path(out)):
            print(path, file=sys.stderr)
    print_result(result, json=json)
    print(f"Took {duration(result['seconds'])}.", file=sys.stderr)
    if not json:
        print("In short\n" + "\n".join(f"- {sentence}" for sentence in findings(result)))
    return DONE


def _folder(model: str | None) -> Path | None:
    """The model's folder; of the newest run if none is named, None where there is no run."""
    if model is not None:
        return find_model(model)
    runs = sorted(Path("runs").glob("*/latest"), key=lambda path: path.stat().st_mtime)
    if not runs:
        print("No run here yet: the untrained default model. First train one: mini-bert demo.", file=sys.stderr)
        return None
    print(f"The newest run: {runs[-1].parent.name}", file=sys.stderr)
    return find_model(str(runs[-1].parent))


def _name(folder: Path | None) -> str:
    if folder is None:
        return "untrained"
    recipe = trained_by(folder)
    return folder.resolve().name if recipe is None else recipe.parent.name


def _open(folder: Path | None, corpus: Sequence[str], progress: Progress) -> tuple[MiniBERT, Config, TokenCorpus]:
    """The model in float64, its run's configuration, and its text."""
    import numpy as np

    from mini_bert.data.tokens import open_tokens
    from mini_bert.interop.bert_config import FAITHFUL, model_type
    from mini_bert.model.bert import MiniBERT

    recipe = None if folder is None else trained_by(folder)
    beneath = ["training/pretraining"] if recipe is None else [str(recipe)]
    config = ConfigOptions(corpus=(tuple(corpus),)).load(*beneath)
    bert = MiniBERT(config.model, dtype=np.float64) if folder is None else MiniBERT.from_pretrained(folder, np.float64)
    if folder is not None:
        require_tokenizer(bert, folder)
    if model_type(bert.config) != FAITHFUL:
        raise InvalidInputError(
            "MODEL",
            got=f"{folder}, a model of type {model_type(bert.config)}",
            expected="the faithful architecture, whose every rounding this follows",
        )
    bert.parameters.require_head("mlm")
    tokens = open_tokens(
        config.data, config.tokenizer, bert.config.vocab_size, tokenizer=bert.tokenizer, progress=progress
    )
    return bert, config, tokens


def _scores(scorers: Mapping[str, NarrowScorer], batches: Sequence[Batch]) -> dict[str, dict[str, Any]]:
    """Held-out scores by name, and each one's difference from the first; a loss of None where it is not finite."""
    from mini_bert.errors import NonFiniteError
    from mini_bert.evaluation.masked_lm import compare, evaluate_masked_lm

    scores: dict[str, dict[str, Any]] = {}
    first = None
    for name, scorer in scorers.items():
        try:
            result = evaluate_masked_lm(scorer, batches)
        except NonFiniteError:
            scores[name] = {"loss": None}
            continue
        first = first or result
        difference = compare(result, first)
        scores[name] = {
            **result.to_dict(),
            "difference": {"mean": difference.mean, "interval": list(difference.interval)},
        }
    return scores
