"""Does the probe find what is there, in the layer where it is, and nothing where nothing is?"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from small_bert import small_bert

from mini_bert.data.task_sets.treebanks import TaggedSentence, Treebank
from mini_bert.errors import InvalidInputError
from mini_bert.inference.hidden_states import POOLINGS, TOKEN, state_names, word_rows, word_states
from mini_bert.model.bert import MiniBERT
from mini_bert.probing import layer_probes, part_of_speech
from mini_bert.probing.base import Items, control_labels, fit_linear_probe, majority_labels
from mini_bert.probing.part_of_speech import probe_part_of_speech
from mini_bert.probing.tagged_words import Part
from mini_bert.reports.pages import tables
from mini_bert.reports.part_of_speech import part_of_speech_picture
from mini_bert.text.wordpiece import WordPiece

TOKENIZER = WordPiece(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde", "##a", "##b", "##c"])
TAGS = ("DET", "NOUN", "VERB")


def sentences(n: int, seed: int) -> list[TaggedSentence]:
    """`a` and `ab` are DET; `b` and `c` NOUN or VERB at random; `d`, `e` and `dc` NOUN at the beginning, else VERB."""
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(n):
        words, tags = [], []
        for word in rng.choice(["a", "ab", "b", "c", "d", "e", "dc"], rng.integers(2, 8)):
            if word[0] == "a":
                tag = "DET"
            elif word in ("b", "c"):
                tag = TAGS[1 + rng.integers(0, 2)]
            else:
                tag = "VERB" if tags else "NOUN"
            words.append(str(word))
            tags.append(tag)
        made.append(TaggedSentence(tuple(words), tuple(tags)))
    return made


BANK = Treebank("made", TAGS, sentences(150, 1), sentences(60, 2), sentences(100, 3))


def model() -> MiniBERT:
    bert = small_bert(max_position_embeddings=9)
    bert.tokenizer = TOKENIZER
    return bert


@pytest.fixture(scope="module")
def result() -> dict:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(part_of_speech, "SEARCHED", 50)
        patch.setattr(layer_probes, "CURVE", (20, 40, 1000))
        return probe_part_of_speech(model(), BANK, seed=5)


def part(of: str) -> Part:
    """All sentences of a part in their own order."""
    return Part.of(TOKENIZER, getattr(BANK, of), TAGS, 9)


def test_it_is_plain_and_the_same_each_time(result: dict) -> None:
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    again = probe_part_of_speech(model(), BANK, seed=5, layers=[0, 1, 2])
    assert [line["accuracy"] for line in again["table"][3:]] == [line["accuracy"] for line in result["table"][3:]]


def test_every_layer_and_pooling_is_searched_and_the_best_on_dev_is_taken(result: dict) -> None:
    places = [(line["of"], line["layer"], line["pooling"]) for line in result["layers"]]
    best = result["best"]
    assert places == [
        *(("trained", layer, pooling) for layer in (0, 1, 2, "token") for pooling in POOLINGS),
        *(("untrained", layer, pooling) for layer in (0, 1, 2) for pooling in POOLINGS),
    ]
    of_layers = [line for line in result["layers"] if line["of"] == "trained" and line["layer"] != "token"]
    most = max(line["accuracy"] for line in of_layers)
    chosen = next(line for line in of_layers if line["accuracy"] == most)
    assert best == {key: chosen[key] for key in best}
    lines = {line["name"]: line for line in result["table"]}
    assert {key: lines["model"][key] for key in best} == best


def test_the_test_line_is_a_probe_of_the_chosen_layer_trained_on_everything(result: dict) -> None:
    """Order of sentences and path of the search change only the last digits of a convex problem's solution."""
    best, bert = result["best"], model()
    name = state_names(bert.config)[best["layer"]]
    train, test = part("train"), part("test")
    x, x_test = (
        word_states(bert, p.rows, (name,), (best["pooling"],), pad_id=0)[name, best["pooling"]] for p in (train, test)
    )
    probe = fit_linear_probe(Items(x, train.labels), [best["strength"]])
    line = result["table"][0]
    assert line["n"] == len(test.labels)
    assert line["accuracy"] == pytest.approx(np.mean(probe.predict(x_test) == test.labels), abs=0.011)
    assert sum(map(sum, result["confusion"]["counts"])) == line["n"]
    assert np.trace(result["confusion"]["counts"]) == pytest.approx(line["accuracy"] * line["n"])


def test_baselines_are_those_of_a_word_list(result: dict) -> None:
    train, test = part("train"), part("test")
    lines = {line["name"]: line for line in result["table"]}
    majority = majority_labels(train.words, train.labels)
    assert lines["majority_per_word"]["accuracy"] == np.mean(majority.predict(test.words) == test.labels)
    by_type = majority_labels(train.types, train.labels).predict(test.types)
    assert lines["majority_per_type"]["accuracy"] == np.mean(by_type == test.labels)
    assert lines["majority"]["accuracy"] == np.mean(test.labels == np.bincount(train.labels).argmax())
    assert lines["model"]["unknown"] == {"accuracy": None, "interval": None, "n": 0}
    assert lines["model"]["known"]["n"] == lines["model"]["n"]
    for line in result["differences"]:
        difference = lines["model"]["accuracy"] - lines[line["name"]]["accuracy"]
        assert line["difference"] == pytest.approx(difference)
        assert line["interval"][0] <= difference <= line["interval"][1]


def test_place_is_read_where_it_matters(result: dict) -> None:
    """Only its place tells the tag of `d`, `e` and `dc`: no word list knows it, and no vector of a piece."""
    lines = {line["name"]: line["accuracy"] for line in result["table"]}
    assert lines["model"] > lines["token"] + 0.03
    assert lines["model"] > lines["majority_per_word"] + 0.03
    assert lines["token"] == pytest.approx(lines["majority_per_word"], abs=0.03)


def test_the_control_task_is_learned_by_heart_from_the_pieces(result: dict) -> None:
    """Few types and many words: a probe on the pieces' own vectors learns nearly all of it; selectivity says so."""
    own = next(line for line in result["layers"] if (line["layer"], line["pooling"]) == ("token", "mean"))
    assert own["control"]["accuracy"] > 0.8
    assert own["selectivity"]["difference"] == pytest.approx(own["accuracy"] - own["control"]["accuracy"])
    control = result["control"]
    assert control["selectivity"]["difference"] == pytest.approx(result["table"][0]["accuracy"] - control["accuracy"])


def test_the_learning_curve_ends_in_the_table(result: dict) -> None:
    curve = result["learning_curve"]
    assert [point["sentences"] for point in curve] == [20, 40, 150]
    assert curve[-1]["accuracy"] == result["table"][0]["accuracy"]
    assert curve[-1]["words"] == result["treebank"]["words"]["train"]
    assert curve[-1]["majority_per_word"]["accuracy"] == result["table"][3]["accuracy"]


def test_words_as_written_do_not_make_types_that_the_model_cannot_see() -> None:
    """An uncased model reads `A` and `a` as one: so does the control task."""
    made = Part.of(TOKENIZER, [TaggedSentence(("A", "a", "ab", "Ab"), ("DET",) * 4)], TAGS, 9)
    assert made.words == ["A", "a", "ab", "Ab"]
    assert made.types == [(5,), (5,), (5, 11), (5, 11)]
    drawn = control_labels(np.arange(3), seed=0)(made.types)
    assert drawn[0] == drawn[1]
    assert drawn[2] == drawn[3]


def test_the_first_sentences_keep_their_words_and_rows() -> None:
    whole = part("train")
    few = whole.upto(7)
    again = Part.of(TOKENIZER, BANK.train[:7], TAGS, 9)
    assert few.words == again.words
    assert few.rows.rows == again.rows.rows
    for got, expected in zip((few.labels, *few.rows[1:]), (again.labels, *again.rows[1:]), strict=True):
        assert np.array_equal(got, expected)
    assert whole.upto(10_000).words == whole.words
    assert (few.sentences, whole.sentences) == (7, 150)


def test_the_untrained_model_is_another(result: dict) -> None:
    """Its lines are those of first values drawn with the seed, not those of the model that is probed."""
    train, dev = part("train"), part("dev")
    untrained = MiniBERT(model().config, dtype=np.float64, seed=5)
    rows = word_rows(TOKENIZER, [sentence.words for sentence in BANK.dev], length=9)
    assert len(rows.row) == len(dev.labels)
    key = (TOKEN, "mean")
    own, other = (word_states(bert, train.rows, (TOKEN,), ("mean",), pad_id=0)[key] for bert in (model(), untrained))
    assert not np.allclose(own, other)
    lines = {line["name"]: line for line in result["table"]}
    assert lines["untrained"]["accuracy"] != lines["model"]["accuracy"]


def test_a_file_and_a_few_sentences_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.conllu"
    file.write_text("".join(f"{i}\t{w}\t_\tDET\t_\t_\t_\t_\t_\t_\n" for i, w in enumerate(["a", "ab"], 1)))
    found = probe_part_of_speech(model(), BANK, test_file=file, max_sentences=30, layers=[1], quick=True)
    assert found["treebank"]["sentences"]["train"] == 30
    assert found["treebank"]["words"]["test"] == 2
    assert found["best"]["layer"] == 1
    assert [line["difference"] for line in found["differences"]] == [
        found["table"][0]["accuracy"] - line["accuracy"] for line in found["table"][1:]
    ]
    assert found["differences"][0]["interval"] == [None, None]
    for table in tables(found):
        assert "None" not in table.plain()


def test_it_is_shown_in_tables(result: dict) -> None:
    shown = "\n".join(table.markdown() for table in tables(result))
    for words in ("pieces' own vectors", "commonest tag of the word", "Control task", "DET", "selectivity"):
        assert words in shown


@pytest.mark.reference
def test_it_is_drawn(result: dict, tmp_path: Path) -> None:
    assert part_of_speech_picture(result, tmp_path / "x.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": [3]}, "layers: got .3.; expected some of 0 to 2"),
        ({"layers": []}, "layers"),
        ({"max_sentences": 0}, "max_sentences"),
        ({"bank": BANK._replace(dev=[])}, "dev: got no sentence"),
        ({"max_sentences": 1, "bank": BANK._replace(train=[TaggedSentence(("a",), ("DET",))])}, "1 class"),
    ],
)
def test_what_cannot_be_probed_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidInputError, match=message):
        probe_part_of_speech(model(), **{"bank": BANK, **arguments})
    with pytest.raises(InvalidInputError, match="without a tokenizer"):
        probe_part_of_speech(small_bert(), BANK)
