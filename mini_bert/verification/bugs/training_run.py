"""What does a bug do to a training that anybody could have started? A small real one, run where the bug is injected.

The text is Python's own help (`pydoc_data.topics`), which stands on every machine; the model is the debug preset; all
goes through the real `pretrain`, with padding, dropout, checkpoints and held-out scores. The run goes on to its end,
and then once more from the checkpoint at two thirds: a run that was resumed has to end with the very same bits.
"""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path
from typing import Any

STEPS = 600
RESUMED_AT = 400

_SETTINGS: dict[str, object] = {
    "model.hidden_dropout_prob": 0.1,
    "model.attention_probs_dropout_prob": 0.1,
    "data.layout": "sentences",
    "data.held_out_fraction": 0.1,
    "data.held_out_rows": 512,
    "train.batch_size": 32,
    "train.lr": 5e-3,
    "train.steps": STEPS,
    "train.log_every": 10,
    "train.save_every": RESUMED_AT,
    "train.keep_checkpoints": 9,
    "train.evaluate_every": 100,
    "run.threads": 1,
}
"""One sentence a row, so that there is padding; a learning rate at which 600 steps show what attention is for."""


def small_training(seed: int) -> dict[str, Any]:
    """Train in folders of its own, and say what a person would have seen.

    Returns:
        steps, losses: of the training batches; held_out: pairs of step and loss; resumed: the losses after the resume,
        from `RESUMED_AT` on; same_bits: whether the resumed run ended with the same parameters; seconds; and stopped:
        in words what ended it early, None otherwise.
    """
    begin = time.perf_counter()
    kept = os.environ.get("MINI_BERT_CACHE")
    with tempfile.TemporaryDirectory(prefix="mini-bert-bug-") as folder:
        os.environ["MINI_BERT_CACHE"] = str(Path(folder) / "cache")
        seen: dict[str, Any] = {"steps": [], "losses": [], "held_out": [], "resumed": [], "same_bits": None}
        try:
            _train(Path(folder), seed, seen)
        except Exception as error:
            said = str(error).replace(folder, "…").splitlines()[:1]
            seen["stopped"] = ": ".join([type(error).__name__, *said])
        else:
            seen["stopped"] = None
        finally:
            os.environ.pop("MINI_BERT_CACHE")
            if kept is not None:
                os.environ["MINI_BERT_CACHE"] = kept
    return {**seen, "seconds": round(time.perf_counter() - begin, 1)}


def _train(folder: Path, seed: int, seen: dict[str, Any]) -> None:
    from mini_bert.config.load import load_config
    from mini_bert.data.batches import held_out_batches
    from mini_bert.data.tokens import open_tokens
    from mini_bert.evaluation.masked_lm import evaluate_masked_lm
    from mini_bert.training.pretrain import pretrain
    from mini_bert.training.report import Report

    _write_text(folder / "text")
    names = {"data.corpus": [f"{folder}/text/*.txt"], "run.directory": f"{folder}/runs", "run.seed": seed}
    config = load_config(["training/debugging"], {**_SETTINGS, **names, "run.name": "whole"})
    tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size, workers=1)
    batches = held_out_batches(tokens.held_out, config, tokens.tokenizer)

    class Seen(Report):
        """Writes down what is reported, while it is: a run that fails leaves what it had shown."""

        def __init__(self, resumed: bool) -> None:
            self._resumed = resumed

        def stepped(self, record: dict[str, Any]) -> None:
            if self._resumed:
                seen["resumed"].append(record["loss"])
            else:
                seen["steps"].append(record["step"])
                seen["losses"].append(record["loss"])

        def evaluated(self, record: dict[str, Any]) -> None:
            if not self._resumed:
                seen["held_out"].append([record["step"], record["loss"]])

    def evaluate(model: Any) -> dict[str, float]:
        return {"loss": evaluate_masked_lm(model, batches).loss}

    whole = pretrain(config, tokens=tokens, evaluate=evaluate, report=Seen(resumed=False))
    middle = whole.run / "checkpoints" / f"checkpoint-{RESUMED_AT}"
    again = config.model_copy(update={"run": config.run.model_copy(update={"name": "again", "resume": str(middle)})})
    resumed = pretrain(again, tokens=tokens, evaluate=evaluate, report=Seen(resumed=True))
    seen["same_bits"] = resumed.sha256 == whole.sha256


def _write_text(folder: Path) -> None:
    """One file a topic of Python's help, in the order of their names."""
    from pydoc_data.topics import topics

    folder.mkdir()
    for name, text in sorted(topics.items()):
        (folder / f"{name}.txt").write_text(text, encoding="utf-8")
