"""Which measurements are there, and how is each made of a subject?"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from mini_bert.assessment.subject import Subject
from mini_bert.machine import available_cores

Result = dict[str, Any]

_QUICK_SENTENCES = 200
"""Of pseudo-perplexity."""


class Part(NamedTuple):
    """One measurement."""

    name: str
    """As `--only` takes it."""
    title: str
    measure: Callable[[Subject], Result]
    data: tuple[str, ...] = ()
    """Data sets that it reads."""
    text: bool = False
    """Whether it reads the training text."""
    heads: tuple[str, ...] = ("mlm",)
    """Without these it cannot be asked."""
    in_quick: bool = True
    version: int = 2
    """Goes up when the same model would get another result."""
    hangs_on: Callable[[Subject], dict[str, Any]] = lambda subject: {}
    """What decides the result beside model, text and sample."""


def _masked_lm(subject: Subject) -> Result:
    from mini_bert.evaluation.run import evaluate_run

    return evaluate_run(subject.model, subject.config, subject.tokens, subject.quick, subject.told, kneser_ney=True)


def _breakdown(subject: Subject) -> Result:
    from mini_bert.data.batches import held_out_batches
    from mini_bert.data.piece_counts import piece_counts
    from mini_bert.data.task_sets.treebanks import treebank
    from mini_bert.evaluation.masked_lm_breakdown import masked_lm_breakdown

    tokens = subject.tokens
    return masked_lm_breakdown(
        subject.model,
        held_out_batches(tokens.held_out, subject.config, tokens.tokenizer),
        tokens.tokenizer,
        counts=piece_counts(tokens.train, tokens.tokenizer, subject.told),
        tagged=treebank("ud-ewt").test,
        length=subject.model.config.max_position_embeddings,
        progress=subject.told,
    )


def _pseudo_perplexity(subject: Subject) -> Result:
    from mini_bert.evaluation.pseudo_perplexity import SENTENCES, pseudo_perplexity

    return pseudo_perplexity(
        subject.model,
        subject.tokens.held_out.sentences(),
        sentences=_QUICK_SENTENCES if subject.quick else SENTENCES,
        threads=subject.threads,
        progress=subject.told,
    )


def _pairs(*sets: str) -> Callable[[Subject], Result]:
    def measure(subject: Subject) -> Result:
        from mini_bert.data.task_sets.minimal_pairs import published_pairs
        from mini_bert.probing.minimal_pairs import QUICK_PAIRS, probe_minimal_pairs, sample_of

        most = QUICK_PAIRS if subject.quick else None
        chosen = {name: sample_of(published_pairs(name), most) for name in sets}
        return probe_minimal_pairs(
            subject.model, chosen, ngrams=subject.ngrams, threads=subject.threads, progress=subject.told
        )

    return measure


def _part_of_speech(subject: Subject) -> Result:
    from mini_bert.probing.part_of_speech import probe_part_of_speech

    return probe_part_of_speech(subject.model, quick=subject.quick, progress=subject.told)


def _meaning(subject: Subject) -> Result:
    from mini_bert.probing.meaning import probe_semantic_knowledge

    return probe_semantic_knowledge(subject.model, quick=subject.quick, progress=subject.told)


def _facts(subject: Subject) -> Result:
    from mini_bert.probing.facts import probe_factual_knowledge

    return probe_factual_knowledge(subject.model, quick=subject.quick, threads=subject.threads, progress=subject.told)


def _composition(subject: Subject) -> Result:
    from mini_bert.probing.composition import measure_compositional_understanding

    return measure_compositional_understanding(subject.model, quick=subject.quick)


def _bias(subject: Subject) -> Result:
    from mini_bert.probing.stereotypes import probe_stereotypes

    return probe_stereotypes(subject.model, quick=subject.quick, threads=subject.threads, progress=subject.told)


def _stability(subject: Subject) -> Result:
    from mini_bert.evaluation.stability import measure_representation_stability

    return measure_representation_stability(subject.model, quick=subject.quick, progress=subject.told)


def _attention(subject: Subject) -> Result:
    from mini_bert.analysis.attention_entropy import compute_attention_entropy
    from mini_bert.data.batches import held_out_batches
    from mini_bert.data.order import evenly_spaced

    batches = held_out_batches(subject.tokens.held_out, subject.config, subject.tokens.tokenizer)
    return compute_attention_entropy(subject.model, evenly_spaced(batches, 2) if subject.quick else batches)


def _efficiency(subject: Subject) -> Result:
    from mini_bert.data.batches import held_out_batches
    from mini_bert.data.order import evenly_spaced
    from mini_bert.evaluation.efficiency import measure_efficiency

    batches = held_out_batches(subject.tokens.held_out, subject.config, subject.tokens.tokenizer)
    return measure_efficiency(
        subject.model,
        evenly_spaced(batches, 4),
        subject.config,
        steps_done=subject.steps_done,
        threads=subject.threads,
    )


def _costs(subject: Subject) -> dict[str, Any]:
    return {
        "threads": subject.threads or available_cores(),
        "steps_done": subject.steps_done,
        "train": subject.config.train.model_dump(mode="json"),
        "masking": subject.config.masking.model_dump(mode="json"),
    }


def _learned_how(subject: Subject) -> dict[str, Any]:
    """The recipe of a quick look; and whether the bag of words is missing with scikit-learn."""
    from mini_bert.assessment.fine_tuned import QUICK

    without = {} if find_spec("sklearn") else {"without": "scikit-learn"}
    return {**without, **({"recipe": QUICK._asdict()} if subject.quick else {})}


def _fine_tuning(task: str, title: str, data: str | None = None, *, version: int = 3, in_quick: bool = False) -> Part:
    def measure(subject: Subject) -> Result:
        from mini_bert.assessment.fine_tuned import fine_tuned

        return fine_tuned(subject, task)

    return Part(
        task,
        f"fine-tuning: {title}",
        measure,
        (data or task,),
        heads=(),
        in_quick=in_quick,
        version=version,
        hangs_on=_learned_how,
    )


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part("masked_lm", "hidden pieces of held-out text", _masked_lm, text=True, version=4),
        Part("breakdown", "which hidden pieces", _breakdown, ("ud-ewt",), text=True, in_quick=False),
        Part("perplexity", "pseudo-perplexity", _pseudo_perplexity, text=True),
        Part("attention", "how widely heads look", _attention, text=True, heads=(), version=3),
        Part("efficiency", "what it costs", _efficiency, text=True, heads=(), version=3, hangs_on=_costs),
        Part("pos", "parts of speech", _part_of_speech, ("ud-ewt",), heads=()),
        Part("blimp", "grammar: BLiMP", _pairs("blimp"), ("blimp",), text=True, version=3),
        Part(
            "agreement",
            "grammar: subject and verb",
            _pairs("linzen", "gulordava"),
            ("agreement-linzen", "agreement-gulordava"),
            text=True,
            in_quick=False,
            version=4,
        ),
        Part(
            "meaning",
            "words, analogies, sentences",
            _meaning,
            ("wordsim", "analogies", "stsb", "sick"),
            heads=(),
            version=3,
        ),
        Part("facts", "facts", _facts, ("lama", "pararel"), version=3),
        Part("composition", "composition", _composition, ("sick",), heads=(), version=3),
        Part("bias", "stereotypes", _bias, ("crows-pairs", "winobias")),
        Part("stability", "stability", _stability, ("stsb",)),
        _fine_tuning("sst2", "SST-2", "sst2-glue", version=4, in_quick=True),
        _fine_tuning("cola", "CoLA"),
        _fine_tuning("mrpc", "MRPC"),
        _fine_tuning("rte", "RTE"),
        _fine_tuning("stsb", "STS-B"),
    )
}
"""Every measurement, in the order in which it is made: cheap ones first."""
