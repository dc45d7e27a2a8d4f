"""`mini-bert probe pairs|pos|meaning|facts|composition|bias|stability MODEL`: what does it know?"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional

from mini_bert.atomic_files import require_place
from mini_bert.cli import DONE
from mini_bert.cli.models import FILLS_NO_MASKS, find_model, require_head, require_tokenizer, trained_by
from mini_bert.cli.options import ConfigOptions, Flag, option, refuse_beside
from mini_bert.cli.results import print_result
from mini_bert.errors import DataError
from mini_bert.model.shipped import DEFAULT

if TYPE_CHECKING:
    from mini_bert.data.tokens import TokenSet
    from mini_bert.data.work import Progress
    from mini_bert.model.bert import MiniBERT

Model = Positional[
    Annotated[
        str,
        option(
            "a run's name, the path of a checkpoint, or any Hugging Face folder of a BERT; without it, the model that "
            "comes with the package",
            "MODEL",
        ),
    ]
]


_PAIR_SETS = ("blimp", "linzen", "gulordava")


def pairs(
    model: Model = DEFAULT,
    *,
    sets: Annotated[tuple[str, ...] | None, option("which of blimp, linzen, gulordava (default: all)", "SET…")] = None,
    pairs_dir: Path | None = None,
    corpus: tuple[str, ...] = (),
    quick: Flag = False,
    threads: int | None = None,
    json: Flag = False,
) -> int:
    """Which of two sentences does the model hold likelier? Grammar by minimal pairs, beside what counting can do.

    The n-gram baselines count what the run was trained on, or the texts of --corpus; without either they are left out.

    Examples:
      mini-bert probe pairs demo --quick
      mini-bert probe pairs demo --sets blimp --json
      mini-bert probe pairs demo --pairs-dir my_pairs/      # .jsonl files in the format of BLiMP

    Args:
        model: which model.
        pairs_dir: instead of them, a folder of .jsonl files in the format of BLiMP.
        corpus: texts to count n-grams in: names (mini-bert data list), files or patterns.
        quick: 20 pairs a paradigm, n-grams from 2 million tokens: less time and memory.
        threads: worker threads; they change the time, never the result.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.data.task_sets.minimal_pairs import pairs_of_folder, published_pairs
    from mini_bert.probing.minimal_pairs import (
        COUNTED_TOKENS,
        QUICK_COUNTED_TOKENS,
        QUICK_PAIRS,
        probe_minimal_pairs,
        sample_of,
        sentence_ngrams,
    )

    if pairs_dir is not None:
        refuse_beside("--pairs-dir", {"--sets": sets is not None})
    folder, bert = _with_tokenizer(model, "mlm")
    if pairs_dir is not None:
        found = {str(pairs_dir): pairs_of_folder(pairs_dir)}
    else:
        found = {name: published_pairs(name) for name in sets or _PAIR_SETS}
    chosen = {name: sample_of(members, QUICK_PAIRS if quick else None) for name, members in found.items()}
    with preparation() as progress:
        text = _text_to_count(folder, bert, corpus, progress)
        ngrams = None
        if text is not None:
            progress("counting n-grams", 0, 0)
            ngrams = sentence_ngrams(text, bert.config.vocab_size, QUICK_COUNTED_TOKENS if quick else COUNTED_TOKENS)
        result = probe_minimal_pairs(bert, chosen, ngrams=ngrams, threads=threads, progress=progress)
    print_result(result, json=json)
    return DONE


def pos(
    model: Model = DEFAULT,
    *,
    max_sentences: int | None = None,
    test_file: Path | None = None,
    treebank: Literal["ud-ewt", "brown"] = "ud-ewt",
    layers: tuple[int, ...] = (),
    seed: int = 0,
    quick: Flag = False,
    picture: Path | None = None,
    json: Flag = False,
) -> int:
    """Read words' parts of speech off every layer by a linear probe, beside what needs no model.

    Examples:
      mini-bert probe pos demo --quick
      mini-bert probe pos demo --max-sentences 200
      mini-bert probe pos demo --test-file mine.conllu      # tags in column 4 (UPOS)
      mini-bert probe pos demo --treebank brown --max-sentences 2000

    Args:
        model: which model.
        max_sentences: train on so many sentences at most.
        test_file: a CoNLL-U file of your own, instead of the treebank's test part.
        treebank: what is trained on: 17 universal tags of web text, or 104 tags of the Brown corpus.
        layers: of 0 (embeddings) to the last; none: all.
        seed: of the control task, the untrained model, and which sentences are taken.
        quick: 300 sentences of each part, one strength, one pooling: seconds.
        picture: write layers, learning curve and confusion matrix to this .svg or .png.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.probing.part_of_speech import probe_part_of_speech

    if quick:
        refuse_beside("--quick", {"--max-sentences": max_sentences is not None})
    if picture:
        from mini_bert.reports.drawing import require_drawable

        require_drawable(picture)
        require_place(picture)
    _, bert = _with_tokenizer(model)
    with preparation() as progress:
        result = probe_part_of_speech(
            bert,
            treebank,
            test_file=test_file,
            max_sentences=max_sentences,
            layers=layers or None,
            quick=quick,
            seed=seed,
            progress=progress,
        )
    if picture:
        from mini_bert.reports.part_of_speech import part_of_speech_picture

        part_of_speech_picture(result, picture)
    print_result(result, json=json)
    return DONE


def meaning(
    model: Model = DEFAULT,
    *,
    word_pairs: Path | None = None,
    sentence_pairs: Path | None = None,
    quick: Flag = False,
    json: Flag = False,
) -> int:
    """Compare nearness of words and sentences with people's judgements; solve analogies. Nothing is trained for it.

    The published sets are WordSim-353, SimLex-999, MEN and RG-65, Google's analogies, STS-B and SICK.

    Examples:
      mini-bert probe meaning demo --quick
      mini-bert probe meaning demo --json
      mini-bert probe meaning demo --word-pairs mine.tsv     # word, word and score, with tabs between them

    Args:
        model: which model.
        word_pairs: instead of the published sets, lines of two words and a score.
        sentence_pairs: instead of the published sets, lines of two sentences and a score.
        quick: 250 pairs of sentences of each set.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.data.task_sets.relatedness import read_sentence_pairs
    from mini_bert.data.task_sets.word_similarity import read_word_pairs
    from mini_bert.probing.meaning import probe_semantic_knowledge

    words = None if word_pairs is None else {word_pairs.name: read_word_pairs(word_pairs)}
    sentences = None if sentence_pairs is None else {sentence_pairs.name: read_sentence_pairs(sentence_pairs)}
    _, bert = _with_tokenizer(model)
    with preparation() as progress:
        result = probe_semantic_knowledge(
            bert, word_sets=words, sentence_sets=sentences, quick=quick, progress=progress
        )
    print_result(result, json=json)
    return DONE


def facts(model: Model = DEFAULT, *, quick: Flag = False, threads: int | None = None, json: Flag = False) -> int:
    """Fill the gaps of LAMA's and ParaRel's facts, beside the majority answer; is the answer the same if asked anew?

    Asked are the facts whose answer is one piece of the model's vocabulary.

    Examples:
      mini-bert probe facts demo --quick
      mini-bert probe facts demo --json

    Args:
        model: which model.
        quick: 10 facts a relation.
        threads: worker threads; they change the time, never the result.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.probing.facts import probe_factual_knowledge

    _, bert = _with_tokenizer(model, "mlm")
    with preparation() as progress:
        result = probe_factual_knowledge(bert, quick=quick, threads=threads, progress=progress)
    print_result(result, json=json)
    return DONE


def composition(model: Model = DEFAULT, *, quick: Flag = False, json: Flag = False) -> int:
    """Does a small edit that changes the meaning move a sentence farther than one that does not? And SICK.

    Examples:
      mini-bert probe composition demo --quick
      mini-bert probe composition demo --json

    Args:
        model: which model.
        quick: 400 pairs of SICK, every fifth edit.
        json: the result as JSON.
    """
    from mini_bert.probing.composition import measure_compositional_understanding

    _, bert = _with_tokenizer(model)
    print_result(measure_compositional_understanding(bert, quick=quick), json=json)
    return DONE


def bias(model: Model = DEFAULT, *, quick: Flag = False, threads: int | None = None, json: Flag = False) -> int:
    """How often is the stereotype likelier? CrowS-Pairs and WinoBias, with what these numbers do not say.

    Examples:
      mini-bert probe bias demo --quick
      mini-bert probe bias demo --json

    Args:
        model: which model.
        quick: 100 of CrowS-Pairs.
        threads: worker threads; they change the time, never the result.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.probing.stereotypes import probe_stereotypes

    _, bert = _with_tokenizer(model, "mlm")
    with preparation() as progress:
        result = probe_stereotypes(bert, quick=quick, threads=threads, progress=progress)
    print_result(result, json=json)
    return DONE


def stability(
    model: Model = DEFAULT, *, texts: Path | None = None, seed: int = 0, quick: Flag = False, json: Flag = False
) -> int:
    """How far do a typo, capitals, a synonym or another order move a sentence, and do they change the prediction?

    Examples:
      mini-bert probe stability demo --quick
      mini-bert probe stability demo --texts mine.txt        # a sentence a line
      mini-bert probe stability demo --seed 1 --json

    Args:
        model: which model.
        texts: instead of STS-B's dev sentences, a file with a sentence a line.
        seed: of the places that are changed.
        quick: 100 sentences instead of 1,000.
        json: the result as JSON.
    """
    from mini_bert.cli.progress import preparation
    from mini_bert.cli.texts import lines_of_file
    from mini_bert.evaluation.stability import measure_representation_stability

    lines = None if texts is None else lines_of_file(texts)
    _, bert = _with_tokenizer(model)
    with preparation() as progress:
        result = measure_representation_stability(bert, lines, seed=seed, quick=quick, progress=progress)
    print_result(result, json=json)
    return DONE


def _with_tokenizer(name: str, head: str | None = None) -> tuple[Path, MiniBERT]:
    """The folder of a model, and the model, which knows how it was first drawn; it has to have the head."""
    from mini_bert.config.load import load_config
    from mini_bert.model.bert import MiniBERT
    from mini_bert.training.first_model import drawn_by

    folder = find_model(name)
    bert = MiniBERT.from_pretrained(folder)
    require_tokenizer(bert, folder)
    if head is not None:
        require_head(bert, head, name, FILLS_NO_MASKS)
    if (recipe := trained_by(folder)) is not None:
        bert = drawn_by(bert, load_config([str(recipe)]).model)
    return folder, bert


def _text_to_count(folder: Path, bert: MiniBERT, corpus: tuple[str, ...], progress: Progress) -> TokenSet | None:
    """The texts that are named, or those that the run was trained on; None where neither is known, or the latter are
    not to be had."""
    from mini_bert.data.tokens import open_tokens

    recipe = trained_by(folder)
    if not corpus and recipe is None:
        return None
    config = ConfigOptions(corpus=(corpus,)).load(*[] if recipe is None else [str(recipe)])
    V = bert.config.vocab_size
    try:
        return open_tokens(config.data, config.tokenizer, V, tokenizer=bert.tokenizer, progress=progress).train
    except DataError as error:
        if corpus:
            raise
        print(f"Without n-grams: what the model was trained on is not to be had. {error}", file=sys.stderr)
        return None
