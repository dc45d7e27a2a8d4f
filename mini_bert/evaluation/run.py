"""What `mini-bert evaluate RUN` says: the model, the same model untrained and the baselines in one table."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mini_bert.batch import Batch
from mini_bert.evaluation.every_token import every_token, untouched
from mini_bert.evaluation.masked_lm import MaskedLMResult, MaskedLMScorer, compare, evaluate_masked_lm
from mini_bert.evaluation.ngram_baselines import fit_baselines
from mini_bert.evaluation.tasks import scored_tasks
from mini_bert.inference.kneser_ney import fit_kneser_ney
from mini_bert.machine import peak_bytes
from mini_bert.training.first_model import FIRST_VALUES, unigram_counts

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

QUICK_ROWS = 128
COUNTED_TOKENS = 50_000_000
"""Of a longer training text, an evenly spread part is counted for the baselines."""
QUICK_COUNTED_TOKENS = 2_000_000
NGRAM_TOKENS = 24_000_000
"""For the 5-gram, whose counts need some 80 bytes a token while they are made."""

LABELS = {
    "model": "Mini-BERT",
    "untrained": "the same, untrained",
    "unigram": "unigram",
    "bigram": "bigram (left neighbour)",
    "kneser_ney": "5-gram, Kneser-Ney (to the left)",
    "neighbours": "left and right neighbour",
    "neighbours_and_shown": "both and the piece shown",
}
"""Names of the table's lines, in its order."""


def evaluate_run(
    model: MiniBERT,
    config: Config,
    token_corpus: TokenCorpus,
    quick: bool = False,
    progress: Progress | None = None,
    *,
    kneser_ney: bool = False,
) -> dict[str, Any]:
    """Score a model, the same model untrained and the baselines at the same held-out masks.

    Args:
        model: any model with an MLM head.
        config: the run's: held-out rows, masks, seed and first values of the untrained model.
        token_corpus: tokenised with the model's own vocabulary.
        quick: 128 rows, baselines from 2 million tokens, and no accuracy over every token.
        progress: told how far it is.
        kneser_ney: a 5-gram too, counted on at most 24 million tokens, which takes some seconds and 80 bytes a token.

    Returns:
        Plain values for JSON, of kind `evaluation`; `mini_bert.reports.evaluation` draws them.

    Raises:
        InvalidInputError: the corpus does not fit the model.
        DataError: the held-out text makes no row.
    """
    from mini_bert.data.batches import held_out_batches, held_out_masking
    from mini_bert.model.bert import MiniBERT

    begin = time.perf_counter()
    told = progress or (lambda what, done, total: None)
    data = config.data
    if quick:
        data = data.model_copy(update={"held_out_rows": min(QUICK_ROWS, data.held_out_rows)})
    begun = model.config.model_copy(update={name: getattr(config.model, name) for name in FIRST_VALUES})
    config = config.model_copy(update={"model": begun, "data": data})
    tokenizer = token_corpus.tokenizer
    batches = list(held_out_batches(token_corpus.held_out, config, tokenizer))
    masking = held_out_masking()

    told("counting neighbours", 0, 0)
    baselines = fit_baselines(
        token_corpus.train.documents(QUICK_COUNTED_TOKENS if quick else COUNTED_TOKENS),
        model.config.vocab_size,
        mask_id=tokenizer.mask_id,
        mask_share=masking.mask_share,
        random_share=masking.random_share,
        n_special=len(tokenizer.special_ids),
    )
    counted = {"n_tokens": baselines.n_tokens, **baselines.weights._asdict()}
    scorers: dict[str, MaskedLMScorer] = {}
    if kneser_ney:
        told("counting 5-grams", 0, 0)
        documents = token_corpus.train.documents(QUICK_COUNTED_TOKENS if quick else NGRAM_TOKENS)
        scorers["kneser_ney"] = ngrams = fit_kneser_ney(documents, model.config.vocab_size)
        counted["kneser_ney_tokens"] = int(ngrams.unigrams.sum())
    scorers |= {
        "model": model,
        "untrained": MiniBERT(
            begun, dtype=model.dtype, seed=config.run.seed, unigram=unigram_counts(begun, token_corpus)
        ),
        **{name: getattr(baselines, name) for name in LABELS if hasattr(baselines, name)},
    }
    results = {name: _score(LABELS[name], scorers[name], batches, told) for name in LABELS if name in scorers}
    tokens: dict[str, Any] | None = None
    if not quick:
        asked = [every_token(batch, tokenizer.special_ids) for batch in batches]
        scored = _score("every token", model, asked, told)
        tokens = {"accuracy": scored.top1, "interval": list(scored.top1_interval), "n": scored.n_masked}
        tokens["copying"] = sum(map(untouched, asked)) / scored.n_masked
    tasks = scored_tasks(model, config, token_corpus.held_out, tokenizer)
    return {
        "kind": "evaluation",
        "quick": quick,
        **({"tasks": tasks} if tasks else {}),
        "masked_lm": bool(config.tasks.masked_lm),
        "table": [{"name": name, "label": LABELS[name], **result.to_dict()} for name, result in results.items()],
        "differences": [
            _difference(name, results["model"], other) for name, other in results.items() if name != "model"
        ],
        "every_token": tokens,
        "baselines": counted,
        "held_out": {
            "corpus": list(config.data.corpus),
            "documents": token_corpus.held_out.n_documents,
            "rows": results["model"].n_rows,
            "masked": results["model"].n_masked,
            "mask_seed": config.evaluation.mask_seed,
            "masking": masking.model_dump(mode="json"),
        },
        "parameters": int(model.parameters.buffer.size),
        "seconds": time.perf_counter() - begin,
        "peak_memory_bytes": peak_bytes(),
    }


def _score(what: str, scorer: MaskedLMScorer, batches: Sequence[Batch], told: Progress) -> MaskedLMResult:
    rows = sum(len(batch.input_ids) for batch in batches)
    return evaluate_masked_lm(scorer, batches, progress=lambda done: told(f"scoring: {what}", done, rows))


def _difference(name: str, model: MaskedLMResult, other: MaskedLMResult) -> dict[str, Any]:
    difference = compare(model, other)
    ends = difference.interval.ends()
    return {"name": name, "label": LABELS[name], "loss": difference.mean, "interval": ends}
