"""Labelled sets: splits that share nothing, files of every kind, and everything that a label must not be."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from labelled_toy import sentiment

from mini_bert.data.task_sets.labelled import (
    TASKS,
    LabelledExample,
    LabelledSet,
    load_task,
    read_labelled,
    split_off,
)
from mini_bert.errors import DataError

TSV = 'sentence\tlabel\nit \'s "good" , \t1\nbad\t0\n\n   fine  \t1\n'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_table_with_tabs_has_quotes_as_letters(tmp_path: Path) -> None:
    found = read_labelled(write(tmp_path / "x.tsv", TSV))
    assert found == LabelledSet(
        "x",
        (
            LabelledExample('it \'s "good" ,', None, 1),
            LabelledExample("bad", None, 0),
            LabelledExample("fine", None, 1),
        ),
        ("0", "1"),
    )
    assert found.labels.dtype == np.int64


def test_the_same_table_in_every_format(tmp_path: Path) -> None:
    expected = read_labelled(write(tmp_path / "x.tsv", TSV))
    rows = [{"label": int(e.label), "sentence": e.text, "id": 7} for e in expected.examples]
    quoted = 'label,sentence\n1,"it \'s ""good"" ,"\n0,bad\n1,fine\n'
    for path in (
        write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, rows))),
        write(tmp_path / "x.csv", quoted),
        write(tmp_path / "x.tsv.gz", gzip.compress(TSV.encode())),
        write(tmp_path / "x.tsv", b"\xef\xbb\xbf" + TSV.replace("\n", "\r\n").encode()),
    ):
        assert read_labelled(path)._replace(name="x") == expected


def test_pairs_and_scores(tmp_path: Path) -> None:
    found = read_labelled(write(tmp_path / "x.tsv", "score\tsentence1\tsentence2\n4.75\ta\tb\n3\tc\td\n-1\te\tf\n"))
    assert found.regression
    assert found.metric == "spearman"
    assert found.examples[0] == LabelledExample("a", "b", 4.75)
    assert found.labels.tolist() == [4.75, 3.0, -1.0]


def test_names_of_classes_and_their_numbers_mean_the_same(tmp_path: Path) -> None:
    classes = ("negative", "positive")
    for labels in ("positive negative positive", "1 0 1"):
        text = "sentence\tlabel\n" + "".join(f"x\t{label}\n" for label in labels.split())
        assert read_labelled(write(tmp_path / "x.tsv", text), classes).labels.tolist() == [1, 0, 1]


def test_whole_numbers_are_classes_in_order_of_size(tmp_path: Path) -> None:
    text = "sentence\tlabel\n" + "".join(f"x\t{label}\n" for label in (10, 9, 2, 10, 9, 2, 2))
    assert read_labelled(write(tmp_path / "x.tsv", text)).classes == ("2", "9", "10")


BAD: list[tuple[str, str, str]] = [
    ("x.tsv", "", "no example"),
    ("x.tsv", "sentence\tlabel\n", "no example"),
    ("x.tsv", "it is good\t1\nbad\t0\n", "the columns it is good, 1"),
    ("x.tsv", "index\tsentence\n0\ta\n", "expected a text"),
    ("x.tsv", "sentence\tlabel\na\t1\nb\n", r"x\.tsv:3: got 1 fields"),
    ("x.tsv", "sentence\tlabel\n\t1\n", "nothing in sentence"),
    ("x.tsv", "sentence\tlabel\na\t-1\nb\t1\n", "the label '-1'.*kept secret"),
    ("x.tsv", "sentence\tlabel\na\t\nb\t1\n", "the label ''"),
    ("x.tsv", "sentence\tlabel\na\tnan\nb\t1\n", "the label 'nan'"),
    ("x.tsv", "sentence\tlabel\na\t1\nb\t1\n", "one label only, '1'"),
    ("x.tsv", "sentence\tsentence\tlabel\na\tb\t1\n", "each name once"),
    ("x.tsv", "sentence1\tlabel\na\t1\n", "sentence1 alone"),
    ("x.csv", 'sentence,label\n"a,1\n', "CSV"),
    ("x.jsonl", '{"sentence": "a", "label": 1\n', "a JSON object"),
    ("x.jsonl", "[1]\n", "got list"),
    ("x.jsonl", '{"sentence": "a", "label": 1}\n{"sentence": "b"}\n', r"x\.jsonl:2"),
    ("x.jsonl", '{"sentence": "a", "label": null}\n{"sentence": "b", "label": 1}\n', "the label ''"),
    ("x.jsonl", '{"sentence": 3, "label": 1}\n', "nothing in sentence"),
    ("x.jsonl", '{"text": "a", "label": 1}\n{"text": "b", "pair": "c", "label": 0}\n', "pairs and single texts"),
    ("x.txt", "sentence\tlabel\na\t1\n", r"the suffix '\.txt'"),
    ("x.tsv", "sentence\tlabel\na\t0.5\nb\t1.5\nc\tinf\n", r"x\.tsv:4: got the score 'inf'"),
    ("x.tsv", "sentence\tlabel\na\t0.5\nb\tn/a\nc\t0.5\n", r"x\.tsv:3: got the score 'n/a'"),
    ("x.tsv", "sentence\tlabel\na\t0\nb\t1\nc\tinf\n", r"x\.tsv:4: got the score 'inf'"),
    ("x.tsv", "sentence\tlabel\na\t0\nb\t1\nc\t0.0\n" + "d\t1\n" * 3, r"x\.tsv:4: got the label '0\.0' beside '0'"),
    ("x.tsv", "sentence\tlabel\na\t0.5\nb\t1e200\n", r"x\.tsv:3: got the score '1e200'"),
    ("x.tsv", "sentence\tlabel\na\t0.5\n", "got one score"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD, ids=range(len(BAD)))
def test_what_is_no_labelled_file_is_refused_by_name_and_line(
    name: str, content: str, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=message):
        read_labelled(write(tmp_path / name, content))


def test_other_trouble_with_a_file_is_an_error_of_ours(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="UTF-8"):
        read_labelled(write(tmp_path / "x.tsv", b"sentence\tlabel\n\xff\t1\n"))
    with pytest.raises(DataError, match="No such file"):
        read_labelled(tmp_path / "none.tsv")
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(DataError, match="folder"):
        read_labelled(tmp_path / "folder.tsv")
    texts = "".join(f"x\t{label}\n" for label in range(3000))
    with pytest.raises(DataError, match="3,000 different labels"):
        read_labelled(write(tmp_path / "x.tsv", f"sentence\tlabel\n{texts}"))


def test_scores_that_are_kept_secret_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", "sentence1\tsentence2\tscore\na\tb\t-1\nc\td\t-1\n")
    with pytest.raises(DataError, match=r"x\.tsv:2.*kept secret"):
        read_labelled(path, ())
    assert read_labelled(write(path, "sentence\tlabel\na\t-1\nb\t0.5\n")).labels.tolist() == [-1, 0.5]


def test_a_line_of_json_may_be_of_any_length(tmp_path: Path) -> None:
    lines = [json.dumps({"text": "a" * length, "label": label}) for length, label in ((3, 0), (1 << 21, 1))]
    (_, long) = read_labelled(write(tmp_path / "x.jsonl", "\n".join(lines))).examples
    assert len(long.text) == 1 << 21


@pytest.mark.parametrize(
    ("classes", "label"),
    [(("no", "yes"), "-1"), (("no", "yes"), "2"), (("no", "yes"), "ja"), (("1", "2"), "0"), ((), "yes"), ((), "inf")],
)
def test_a_label_that_a_model_does_not_know_is_refused(classes: tuple[str, ...], label: str, tmp_path: Path) -> None:
    path = write(tmp_path / "x.tsv", f"sentence\tlabel\na\t1\nb\t{label}\n")
    with pytest.raises(DataError, match=rf"x\.tsv:3.*'{label}'"):
        read_labelled(path, classes)


def test_a_sample_is_drawn_by_a_seed_and_keeps_the_order() -> None:
    whole = sentiment(100)
    drawn = whole.sample(30)
    assert drawn == whole.sample(30) != whole.sample(30, seed=1)
    places = [whole.examples.index(example) for example in drawn.examples]
    assert len(drawn.examples) == 30
    assert places == sorted(places)
    assert whole.sample(None) == whole.sample(1000) == whole


def test_a_split_shares_no_text_and_no_phrase() -> None:
    whole = sentiment(400)
    train, selection = split_off(whole, 0.2, 1000)
    assert split_off(whole, 0.2, 1000) == (train, selection)
    assert len(selection.examples) == round(0.2 * len({example.text for example in whole.examples}))
    assert len(train.examples) <= 320
    learned = {example.text for example in train.examples}
    for example in selection.examples:
        words = example.text.split()
        spans = {" ".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
        assert not spans & learned
    assert len(split_off(whole, 0.2, 5)[1].examples) == 5


def test_copies_of_few_texts_are_still_shared_out() -> None:
    rows = [LabelledExample(f"text {n % 12}", None, n % 2) for n in range(200)]
    train, selection = split_off(LabelledSet("x", tuple(rows), ("n", "y")), 0.1, 100)
    assert len(selection.examples) == 1
    assert {example.text for example in rows} - {example.text for example in train.examples} == {
        selection.examples[0].text
    }


def test_no_text_is_chosen_by_that_was_learned_within_another() -> None:
    """Whole sentences and phrases of them: only sentences are drawn, and their phrases are not learned from."""
    sentences = [f"a film {i} of some charm and {i} of wit" for i in range(40)]
    phrases = [f"film {i} of some charm" for i in range(40)] + [f"{i} of wit" for i in range(40)]
    rows = [LabelledExample(text, None, n % 2) for n, text in enumerate([*phrases, *sentences])]
    train, selection = split_off(LabelledSet("x", tuple(rows), ("n", "y")), 0.1, 100)
    assert len(selection.examples) == 12
    assert {example.text for example in selection.examples} <= set(sentences)
    learned = {example.text for example in train.examples}
    assert len(learned) == 120 - 3 * 12
    assert not any(f" {text} " in f" {example.text} " for text in learned for example in selection.examples)


def test_of_pairs_only_the_same_pair_is_kept_apart() -> None:
    rows = [LabelledExample("a b", f"c {i % 20}", i % 2) for i in range(40)]
    rows += [LabelledExample("a", "b", 0)] * 40
    train, selection = split_off(LabelledSet("x", tuple(rows), ("n", "y")), 0.3, 100)
    assert not {e[:2] for e in train.examples} & {e[:2] for e in selection.examples}


@pytest.mark.parametrize("count", [0, 1])
def test_too_little_for_both_parts_is_refused(count: int) -> None:
    with pytest.raises(DataError, match="enough to learn from"):
        split_off(sentiment(4).take(range(count)), 0.5, 10)


def test_the_hash_is_that_of_the_content() -> None:
    whole = sentiment(10)
    assert whole.sha256 == sentiment(10).sha256
    assert whole.sha256 == whole._replace(name="another").sha256
    changed = whole.examples[0]._replace(label=1 - whole.examples[0].label)
    assert whole.sha256 != whole._replace(examples=(changed, *whole.examples[1:])).sha256


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(DataError, match="sst2"):
        load_task("sst-2")


SIZES = {
    "sst2": (67_349, 872),
    "cola": (8_551, 1_043),
    "mrpc": (4_076, 1_725),
    "rte": (2_490, 277),
    "stsb": (5_749, 1_500),
}


@pytest.mark.data
@pytest.mark.parametrize("task", TASKS)
def test_published_sets_have_their_published_sizes(task: str) -> None:
    train, dev = load_task(task), load_task(task, "dev")
    assert (len(train.examples), len(dev.examples)) == SIZES[task]
    assert not {e[:2] for e in train.examples} & {e[:2] for e in dev.examples} or task in ("cola", "stsb", "mrpc")
    if task == "sst2":
        assert np.bincount(dev.labels).tolist() == [428, 444]
        assert dev.examples[0].text.startswith("it 's a charming")
    if task == "rte":
        assert dev.examples[1].label == 0  # entailment
    if task == "stsb":
        assert dev.regression
        assert (dev.labels.min(), dev.labels.max()) == (0.0, 5.0)


@pytest.mark.data
def test_a_published_test_file_without_labels_is_refused() -> None:
    from mini_bert.data.task_sets.columns import fetched

    (path,) = fetched("sst2-glue", "test.tsv")
    with pytest.raises(DataError, match="the columns index, sentence"):
        read_labelled(path)
