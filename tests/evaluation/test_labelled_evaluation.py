"""Scores of labelled texts, the bag of words, patterns of errors, and what is forgotten."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled_toy import TOKENIZER, masked_batches, nearness, sentiment, small_model

from mini_bert.data.task_sets.labelled import LabelledExample, LabelledSet
from mini_bert.errors import DataError, InvalidInputError, MiniBertError, MissingExtraError, NonFiniteError
from mini_bert.evaluation.bag_of_words import bag_of_words
from mini_bert.evaluation.classification import classes_of, evaluate_labelled, scores
from mini_bert.evaluation.error_patterns import error_patterns, has_negation, worst_cases
from mini_bert.evaluation.forgetting import measure_catastrophic_forgetting, with_old_head
from mini_bert.evaluation.masked_lm import evaluate_masked_lm
from mini_bert.evaluation.task_file import evaluate_task_file
from mini_bert.reports.finetuning import labelled_table
from mini_bert.reports.pages import tables


def outputs_for(examples: LabelledSet, share_right: float = 0.7) -> np.ndarray:
    rng = np.random.default_rng(0)
    outputs = rng.normal(size=(len(examples.examples), len(examples.classes)))
    for row, label in zip(outputs, examples.labels, strict=True):
        if rng.random() < share_right:
            row[label] = row.max() + rng.random()
    return outputs


def three_classes(count: int = 200) -> LabelledSet:
    rng = np.random.default_rng(1)
    rows = [LabelledExample(f"text {i}", None, int(rng.choice(3, p=[0.5, 0.3, 0.2]))) for i in range(count)]
    return LabelledSet("three", tuple(rows), ("a", "b", "c"))


@pytest.mark.parametrize("examples", [sentiment(150), three_classes()], ids=["two", "three"])
def test_scores_are_those_of_scikit_learn(examples: LabelledSet) -> None:
    from sklearn import metrics

    outputs = outputs_for(examples)
    found, called = scores(outputs, examples), outputs.argmax(axis=1)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(examples.labels, called))
    assert found["matthews"] == pytest.approx(metrics.matthews_corrcoef(examples.labels, called))
    assert found["confusion"] == metrics.confusion_matrix(examples.labels, called).tolist()
    shares = np.exp(outputs) / np.exp(outputs).sum(axis=1, keepdims=True)
    assert found["loss"] == pytest.approx(metrics.log_loss(examples.labels, shares))
    assert ("f1" in found) == (len(examples.classes) == 2)
    if "f1" in found:
        assert found["f1"] == pytest.approx(metrics.f1_score(examples.labels, called))
    assert found["interval"][0] < found["score"] < found["interval"][1]
    json.dumps(found)


def test_the_majority_is_beside_the_model_and_worth_nothing_to_matthews() -> None:
    found = scores(outputs_for(three_classes()), three_classes())
    labels = three_classes().labels
    assert found["majority"]["class"] == "a"
    assert found["majority"]["accuracy"] == (labels == 0).mean()
    assert found["majority"]["matthews"] == 0.0


def test_words_that_come_once_are_all_there_is_or_none() -> None:
    """From a thousand texts on what comes once is left out, unless nothing else comes."""
    once = sentiment(1200)._replace(
        examples=tuple(LabelledExample(f"word{number}", None, number % 2) for number in range(1200))
    )
    assert bag_of_words(once, once.take(range(20)), once.take(range(50)))["features"] == 1200
    silent = sentiment(4)._replace(examples=tuple(LabelledExample("!!!", None, number % 2) for number in range(4)))
    with pytest.raises(DataError, match="no word in any text"):
        bag_of_words(silent, silent, silent)


def test_no_blind_guess_beats_the_floor_of_f1() -> None:
    """Where the second class is the rarer one, naming the commonest has an F1 of 0, and naming the second more."""
    examples = sentiment(60)
    few = examples._replace(examples=tuple(one for n, one in enumerate(examples.examples) if one.label == 0 or n % 3))
    second = few.labels.mean()
    assert second < 0.5
    blind = scores(outputs_for(few), few)["majority"]
    assert (blind["class"], blind["f1_class"]) == few.classes
    assert blind["f1"] == pytest.approx(2 * second / (1 + second))
    assert blind["accuracy"] == pytest.approx(1 - second)
    table = labelled_table(scores(outputs_for(few), few))
    assert f"of F1, always '{few.classes[1]}'" in table.notes[0]


@pytest.mark.reference
def test_scores_of_numbers_are_those_of_scipy() -> None:
    from scipy import stats

    examples = nearness()
    outputs = examples.labels[:, None] + np.random.default_rng(0).normal(size=(80, 1))
    found = scores(outputs, examples)
    assert found["pearson"] == pytest.approx(stats.pearsonr(outputs[:, 0], examples.labels).statistic)
    assert found["score"] == found["spearman"] == pytest.approx(stats.spearmanr(outputs[:, 0], examples.labels)[0])
    assert found["loss"] == pytest.approx(((outputs[:, 0] - examples.labels) ** 2).mean())
    assert found["mean"]["loss"] == pytest.approx(examples.labels.var())


def test_a_collapsed_model_has_no_correlation() -> None:
    found = scores(np.full((80, 1), 0.1), nearness())
    assert (found["spearman"], found["spearman_interval"]) == (0.0, [-1.0, 1.0])


def test_a_model_is_scored_by_its_outputs() -> None:
    model = small_model(heads=("classifier",), labels=("negative", "positive"))
    found = evaluate_labelled(model, sentiment(40))
    assert found["kind"] == "labelled"
    assert sum(map(sum, found["confusion"])) == found["n"] == 40
    assert classes_of(model) == ("negative", "positive")
    assert classes_of(small_model(heads=("classifier",), num_labels=1)) == ()
    with pytest.raises(InvalidInputError, match="got 2 outputs; expected 3"):
        evaluate_labelled(model, three_classes())
    with pytest.raises(NonFiniteError):
        scores(np.full((40, 2), np.nan), sentiment(40))


# --- the bag of words -------------------------------------------------------------------------------------------------


def test_a_bag_of_words_learns_what_words_tell() -> None:
    found = bag_of_words(sentiment(200), sentiment(50, seed=1), sentiment(100, seed=2))
    assert found["accuracy"] == 1.0
    assert found == bag_of_words(sentiment(200), sentiment(50, seed=1), sentiment(100, seed=2))


def test_a_bag_of_words_learns_scores_and_the_overlap_of_pairs() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(200)]
    rows = []
    for _ in range(300):
        first = list(rng.choice(words, 10, replace=False))
        kept = int(rng.integers(0, 11))
        second = first[:kept] + [f"x{i}" for i in rng.integers(0, 200, 10 - kept)]
        rows.append(LabelledExample(" ".join(first), " ".join(second), kept / 2))
    parts = [LabelledSet("overlap", tuple(rows[i:j]), (), "spearman") for i, j in ((0, 200), (200, 250), (250, 300))]
    assert bag_of_words(*parts)["spearman"] > 0.9


def test_a_class_that_was_never_learned_is_never_named() -> None:
    train = three_classes().take(i for i, e in enumerate(three_classes().examples) if e.label < 2)
    found = bag_of_words(train, train, three_classes())
    assert [row[2] for row in found["confusion"]] == [0, 0, 0]


def test_without_scikit_learn_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.feature_extraction.text", None)
    with pytest.raises(MissingExtraError, match="probes"):
        bag_of_words(sentiment(), sentiment(), sentiment())


# --- where it errs ----------------------------------------------------------------------------------------------------


def test_groups_are_counted_as_by_hand() -> None:
    texts = ["good", "not good film", "bad a plot was very dull and the", "a film", "n't bad the plot", "the zzz"]
    examples = LabelledSet(
        "x", tuple(LabelledExample(t, None, i % 2) for i, t in enumerate(texts)), ("negative", "positive")
    )
    outputs = np.array([[1.0, 0], [1, 0], [0, 1], [0, 1], [1, 0], [0, 1]])  # right at 0, 3, 4 and 5
    found = error_patterns(outputs, examples, TOKENIZER)
    by_name = {(g["pattern"], g["group"]): (g["n"], g["value"]) for g in found["groups"]}
    assert by_name["negation", "with"] == (2, 0.5)
    assert by_name["negation", "without"] == (4, 0.75)
    assert by_name["class", "negative"] == (3, pytest.approx(2 / 3))
    assert by_name["length", "shortest third"] == (3, 1.0)
    assert by_name["length", "longest third"] == (2, 0.5)
    assert sum(n for (pattern, _), (n, _) in by_name.items() if pattern == "pieces a word") == 6
    assert [case["text"] for case in found["worst"]] == ["not good film", "bad a plot was very dull and the"]
    assert found["worst"][0]["probability"] == pytest.approx(np.e / (1 + np.e))
    json.dumps(found)
    assert len(tables(found)) == 2


@pytest.mark.parametrize(
    ("text", "has"),
    [("it is n't", True), ("Isn't", True), ("don’t", True), ("cannot", True), ("no.", True), ("another note", False)],
)
def test_words_of_negation(text: str, has: bool) -> None:
    assert has_negation(text) == has


def test_worst_scores_are_those_that_miss_most() -> None:
    examples = nearness(30)
    outputs = examples.labels[:, None].copy()
    outputs[7], outputs[3] = outputs[7] + 5, outputs[3] - 4
    assert [case["text"] for case in worst_cases(outputs, examples, 2)] == [
        examples.examples[7].text,
        examples.examples[3].text,
    ]
    assert error_patterns(outputs, examples, TOKENIZER)["measure"] == "mean miss"


# --- what is forgotten ------------------------------------------------------------------------------------------------


def moved(model: Any, by: float) -> Any:
    model.parameters.buffer[...] += by * np.random.default_rng(1).normal(size=model.parameters.buffer.size)
    return model


def test_what_has_not_moved_has_forgotten_nothing() -> None:
    before = small_model()
    after = small_model(heads=("classifier",))
    for name in before.parameters:
        if name in after.parameters:
            after.parameters[name][...] = before.parameters[name]
    found = measure_catastrophic_forgetting(
        before, after, masked_batches(), {"norm": lambda m: m.parameters["W1_0"].sum()}
    )
    assert (found["masked_lm"]["rise"], found["masked_lm"]["interval"]) == (0.0, [0.0, 0.0])
    assert found["probes"]["norm"]["before"] == found["probes"]["norm"]["after"]
    assert len(tables(found)) == 1


def test_the_rise_is_that_of_the_moved_encoder_beneath_the_old_head() -> None:
    before, after = small_model(), moved(small_model(heads=("classifier",)), 0.3)
    joined = with_old_head(before, after)
    np.testing.assert_array_equal(joined.parameters["W_mlm"], before.parameters["W_mlm"])
    np.testing.assert_array_equal(joined.parameters["W_Q_0"], after.parameters["W_Q_0"])
    found = measure_catastrophic_forgetting(before, after, masked_batches())["masked_lm"]
    losses = [evaluate_masked_lm(model, masked_batches()).loss for model in (before, joined)]
    assert [found["before"]["loss"], found["after"]["loss"]] == losses
    assert found["rise"] == pytest.approx(losses[1] - losses[0])


def test_a_head_that_was_learned_along_is_the_one_that_counts() -> None:
    after = moved(small_model(heads=("mlm", "classifier")), 0.3)
    joined = with_old_head(small_model(), after)
    np.testing.assert_array_equal(joined.parameters["W_mlm"], after.parameters["W_mlm"])


def test_models_of_other_shape_or_without_the_head_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="W1_0"):
        with_old_head(small_model(), small_model(heads=("classifier",), intermediate_size=24))
    with pytest.raises(Exception, match="mlm"):
        with_old_head(small_model(heads=("classifier",)), small_model(heads=("classifier",)))


# --- a file of one's own ----------------------------------------------------------------------------------------------


def test_a_file_is_scored_by_the_models_own_names(tmp_path: Path) -> None:
    model = small_model(heads=("classifier",), labels=("negative", "positive"))
    lines = [f"{e.text}\t{('negative', 'positive')[int(e.label)]}" for e in sentiment(30).examples]
    (tmp_path / "x.tsv").write_text("\n".join(["text\tlabel", *lines]))
    result = evaluate_task_file(model, tmp_path / "x.tsv")
    assert [part["kind"] for part in result["results"]] == ["labelled", "error_patterns"]
    assert result["results"][0]["score"] == evaluate_labelled(model, sentiment(30))["score"]
    assert len(tables(result)) == 3
    (tmp_path / "x.tsv").write_text("text\tlabel\nfine\tneutral\n")
    with pytest.raises(DataError, match=r"neutral.*negative, positive"):
        evaluate_task_file(model, tmp_path / "x.tsv")
    with pytest.raises(MiniBertError, match="classifier"):
        evaluate_task_file(small_model(), tmp_path / "x.tsv")
