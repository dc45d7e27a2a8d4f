"""Task sets of meaning: what the readers take from a file, and what they refuse."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from mini_bert.data.task_sets.analogies import Analogy, google_analogies, read_analogies
from mini_bert.data.task_sets.facts import Relation, json_lines, lama_relations, lama_squad, pararel_relations
from mini_bert.data.task_sets.relatedness import read_sentence_pairs, read_sick, read_stsb, sick, stsb
from mini_bert.data.task_sets.stereotypes import crows_pairs, read_crows_pairs, read_winobias, winobias
from mini_bert.data.task_sets.word_similarity import WordPair, read_word_pairs, word_similarity_sets
from mini_bert.errors import DataError


@pytest.fixture
def written(tmp_path):
    def write(text, name="set.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_pairs_of_words_and_sentences(written):
    path = written("\ufefftiger\tcat\t7.35\r\n\r\nTiger\ttiger\t10.00\r\n")
    assert read_word_pairs(path) == [WordPair("tiger", "cat", 7.35), WordPair("Tiger", "tiger", 10.0)]
    (pair,) = read_sentence_pairs(written('He said "no\tHe said no"\t2.5\n'))
    assert pair == ('He said "no', 'He said no"', 2.5, "")
    row = 'main\tMSRvid\t2012\t0001\t4.2\tA "U2" sign.\tThe "sign\thttp://source\n'
    assert read_stsb(written(row))[0] == ('A "U2" sign.', 'The "sign', 4.2, "")
    sick = written("pair_ID\tA\tB\tscore\tjudgement\r\n7\tA man\tA boy\t3\tNEUTRAL\r\n")
    assert read_sick(sick) == [("A man", "A boy", 3.0, "NEUTRAL")]


@pytest.mark.parametrize("read", [read_word_pairs, read_sentence_pairs, read_stsb, read_sick, read_analogies])
@pytest.mark.parametrize(
    "text", ["", "\n \n", "one\n", "a\tb\n", "a\tb\tnan\n", "a\tb\tinf\n", "a\tb\tx\n", b"caf\xe9\tb\t1\n"]
)
def test_a_file_of_another_kind_is_refused_by_its_name(written, read, text):
    path = written(text)
    with pytest.raises(DataError, match=r"set\.txt"):
        read(path)


def test_a_missing_file_is_refused(tmp_path):
    for read in (read_word_pairs, read_analogies, read_crows_pairs, lambda path: list(json_lines(path, ()))):
        with pytest.raises(DataError, match="nowhere"):
            read(tmp_path / "nowhere")


def test_an_unknown_judgement_is_refused(written):
    with pytest.raises(DataError, match="PERHAPS"):
        read_sick(written("1\tA man\tA boy\t3\tPERHAPS\n"))


def test_analogies_know_their_section(written):
    path = written(": family\nboy girl king queen\n\n: gram8-plural\ncat cats dog dogs\n")
    family, plural = read_analogies(path)
    assert family == Analogy("family", "boy", "girl", "king", "queen")
    assert (family.grammatical, plural.grammatical) == (False, True)
    with pytest.raises(DataError, match=":1"):
        read_analogies(written("boy girl king queen\n"))


def test_a_pattern_becomes_a_question():
    relation = Relation("P19", "birth", ("[X] was born in [Y].",), ())
    assert relation.question(0, "Ann [Y]") == "Ann [Y] was born in [MASK]."


def test_lines_of_json_need_their_keys(written):
    path = written('{"a": 1}\n\n{"b": 2}\n')
    with pytest.raises(DataError, match=":3"):
        list(json_lines(path, ("a",)))
    with pytest.raises(DataError, match=":1"):
        list(json_lines(written("[1]\n"), ()))


def test_crows_pairs_may_hold_quotes_and_commas(written):
    text = (
        'n,sent_more,sent_less,stereo_antistereo,bias_type\n0,"She said ""go"", and left.","He said.",stereo,gender\n'
    )
    assert read_crows_pairs(written(text)) == [('She said "go", and left.', "He said.", "gender", "stereo")]
    for broken in (
        "a,b\n1,2\n",
        text.replace("He said.", ""),
        text.splitlines()[0] + "\n",
        text.replace(",gender", ""),
    ):
        with pytest.raises(DataError, match=r"set\.txt"):
            read_crows_pairs(written(broken))


def test_winobias_leaves_out_what_differs_in_more_than_one_pronoun(written):
    shared = "1 [The clerk] left because [{}] was ill.\n2 [The clerk] lost [{}] way as [{}] ran.\n"
    first = written(shared.format("he", "his", "he") + "3 [The cook] saw [him] go.\n4 The cook saw [her].\n", "pro")
    second = written(shared.format("she", "her", "she") + "3 [The cook] saw [her].\n4 The cook saw [her].\n", "anti")
    pairs, left_out = read_winobias(first, second, 1)
    assert [tuple(pair) for pair in pairs] == [("The clerk left because [MASK] was ill.", "he", "she", 1, 0)]
    assert left_out == 3
    with pytest.raises(DataError, match="2 lines"):
        read_winobias(first, written("one\ntwo\n", "short"), 1)


@pytest.mark.data
def test_the_published_sets_have_the_sizes_of_their_papers():
    words = {name: len(pairs) for name, pairs in word_similarity_sets().items()}
    assert words == {
        "WordSim-353": 353,
        "WordSim similarity": 203,
        "WordSim relatedness": 252,
        "SimLex-999": 999,
        "MEN-3000": 3000,
        "RG-65": 65,
    }
    assert len(google_analogies()) == 19544
    assert [len(stsb(split)) for split in ("train", "dev", "test")] == [5749, 1500, 1379]
    assert [len(sick(split)) for split in ("train", "dev", "test")] == [4500, 500, 4927]
    assert all(0 <= pair.score <= 5 for pair in stsb())
    assert Counter(pair.direction for pair in crows_pairs()) == {"stereo": 1290, "antistereo": 218}


@pytest.mark.data
def test_every_published_question_has_one_mask():
    assert len(lama_relations()) == 6
    assert all(question.text.count("[MASK]") == 1 for question in lama_squad())
    relations = pararel_relations()
    assert len(relations) == 39
    for relation in relations:
        for pattern in range(len(relation.patterns)):
            assert relation.question(pattern, relation.facts[0].subject).count("[MASK]") == 1
    for split in ("dev", "test"):
        pairs, left_out = winobias(split)
        assert len(pairs) + left_out == 2 * 396
        assert all(pair.text.count("[MASK]") == 1 and "[" not in pair.text.replace("[MASK]", "") for pair in pairs)
        assert all(json.dumps(pair) for pair in pairs)
