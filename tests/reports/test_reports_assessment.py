"""Does the one table hold the figures of the parts, each beside the right other ones?"""

from __future__ import annotations

from typing import Any

import pytest

from mini_bert.reports.assessment import assessment_table, comparison_table, seeds_table
from mini_bert.reports.headlines import _OF_KIND, headlines
from mini_bert.reports.neighbours import NEIGHBOURS
from mini_bert.reports.pages import TABLES, tables


def scored(value: float, **more: Any) -> dict[str, Any]:
    return {"accuracy": value, "interval": [value - 0.02, value + 0.03], **more}


TRIALS = [{"score": 0.82, "interval": [0.80, 0.85]}, {"score": 0.84, "interval": [0.82, 0.87]}]
"""Over texts at most 3 points, over the two seeds (given beside the mean) 1: together √10."""


def line(name: str, loss: float, top1: float) -> dict[str, Any]:
    return {
        "name": name,
        "label": f"the {name}",
        "loss": loss,
        "loss_interval": [loss - 0.1, loss + 0.1],
        "perplexity": 100 * loss,
        "top1": top1,
        "top1_interval": [top1 - 0.01, top1 + 0.01],
        "top5": 2 * top1,
        "top5_interval": [top1, 3 * top1],
    }


def by(name: str, value: float) -> dict[str, Any]:
    return {"by": name, "value": value, "interval": [value - 0.1, value + 0.1]}


RESULTS: dict[str, dict[str, Any]] = {
    "masked_lm": {
        "kind": "evaluation",
        "table": [line("model", 4, 0.3), line("untrained", 9, 0.0), line("unigram", 7, 0.05), line("bigram", 5, 0.2)],
    },
    "breakdown": {"kind": "masked_lm_breakdown", "calibration": {"model": {"error": 0.03, "floor": 0.02}}},
    "perplexity": {
        "kind": "pseudo_perplexity",
        "scores": [
            {"way": way, "per": per, "perplexity": p, "interval": [p - 1, p + 1]}
            for way, per, p in (("plain", "piece", 50.0), ("plain", "word", 90.0), ("within_word", "word", 120.0))
        ],
    },
    "attention": {
        "kind": "attention_entropy",
        "rows": 2,
        "queries": 80,
        "heads": [
            {
                "layer": 0,
                "head": n,
                "entropy": 1.5,
                "interval": [1.4, 1.7],
                "share": share,
                "first": 0.1,
                "last": 0.25,
                "previous": 0.01,
                "next": 0.02,
            }
            for n, share in enumerate((0.2, 0.6))
        ],
    },
    "efficiency": {
        "kind": "efficiency",
        "parameters": 2_966_144,
        "flops_a_token": 2_800_000.0,
        "training_flops": 3.2e14,
        "tokens_a_second": 51_240.0,
        "threads": 2,
        "processor": "a processor",
    },
    "pos": {
        "kind": "part_of_speech",
        "treebank": {"sentences": {"train": 321}},
        "table": [
            {"name": "model", **scored(0.9), "unknown": scored(0.7)},
            {"name": "untrained", **scored(0.6), "unknown": scored(0.3)},
            {"name": "majority_per_word", **scored(0.84), "unknown": scored(0.31)},
            {"name": "majority_per_type", **scored(0.86), "unknown": scored(0.36)},
            {"name": "majority", **scored(0.2), "unknown": scored(0.1)},
        ],
        "control": {"selectivity": {"difference": 0.25, "interval": [0.24, 0.26]}},
    },
    "blimp": {
        "kind": "minimal_pairs",
        "chance": 0.5,
        "sets": [
            {
                "name": "blimp",
                "total": {
                    "pll": scored(0.6),
                    "shorter": scored(0.45),
                    "unigram": scored(0.4),
                    "kneser_ney": scored(0.55),
                },
            }
        ],
    },
    "agreement": {
        "kind": "minimal_pairs",
        "chance": 0.5,
        "sets": [
            {
                "name": "linzen",
                "total": {"pll": scored(0.8), "shorter": scored(0.45)},
                "paradigms": [
                    {"paradigm": "0 attractors", "scores": {"pll": scored(0.9), "kneser_ney": scored(0.7)}},
                    {"paradigm": "1 attractor", "scores": {"pll": scored(0.3)}},
                ],
            }
        ],
    },
    "meaning": {
        "kind": "meaning",
        "results": [
            {
                "kind": "word_similarity",
                "sets": [
                    {
                        "set": "MEN-3000",
                        "spearman": [
                            by("static embeddings", 0.3),
                            by("untrained, static embeddings", 0.01),
                            by("letters in common", 0.16),
                        ],
                    },
                    {"set": "RG-65", "spearman": []},
                ],
            },
            {
                "kind": "analogies",
                "groups": [
                    {
                        "group": "all",
                        "accuracy": [by("3CosAdd", 0.05), by("nearest to c", 0.03), by("untrained, 3CosAdd", 0.0)],
                    }
                ],
            },
            {
                "kind": "sentence_similarity",
                "sets": [
                    {
                        "set": "STS-B test",
                        "correlations": [
                            {"by": name, "spearman": value, "spearman_interval": [value - 0.1, value + 0.1]}
                            for name, value in (
                                ("mean, layer 1", 0.4),
                                ("mean, layer 2", 0.5),
                                ("mean, layer 2, standardized", 0.9),
                                ("untrained, mean, layer 2", 0.45),
                                ("words in common", 0.55),
                            )
                        ],
                    }
                ],
            },
        ],
    },
    "facts": {
        "kind": "facts",
        "sets": [
            {
                "set": "ParaRel",
                "scores": [
                    {"by": "model", "top1": 0.1, "top1_interval": [0.08, 0.12]},
                    {"by": "majority answer", "top1": 0.3},
                    {"by": "named in the subject, else majority", "top1": 0.35},
                ],
                "consistency": {"value": 0.4, "interval": [0.3, 0.5]},
            }
        ],
    },
    "composition": {
        "kind": "composition",
        "edits": {
            "triples": [
                {"edit": "negation", "by": "model", **scored(0.8)},
                {"edit": "negation", "by": "untrained", **scored(0.2)},
                {"edit": "negation", "by": "words in common", **scored(0.5)},
            ]
        },
    },
    "bias": {
        "kind": "stereotypes",
        **{
            key: {"groups": [{"group": "all", "share": 0.55, "interval": [0.5, 0.6]}, {"group": "age", "share": 0.9}]}
            for key in ("crows_pairs", "winobias")
        },
    },
    "stability": {
        "kind": "stability",
        "lines": [
            {"change": "typo", "by": "model", "same_piece": {"value": 0.7, "interval": [0.6, 0.8]}},
            {"change": "another text", "by": "model", "same_piece": None},
            {"change": "typo", "by": "untrained", "same_piece": {"value": 0.6, "interval": [0.5, 0.7]}},
        ],
    },
    "sst2": {
        "kind": "finetuning",
        "task": "sst2",
        "examples": {"train": 450, "selection": 50},
        "metric": "accuracy",
        "arms": [
            {"name": "model", "mean": 0.83, "interval": [0.82, 0.84], "trials": TRIALS},
            {"name": "from scratch", "mean": 0.79},
        ],
        "bag_of_words": {"score": 0.8},
        "first_seed": {"majority": {"class": "positive", "accuracy": 0.51}},
    },
}


def assessment(name: str = "mine", **changed: Any) -> dict[str, Any]:
    parts = [{"name": part, "title": part, "result": result} for part, result in (RESULTS | changed).items()]
    return {
        "kind": "assessment",
        "model": {
            "name": name,
            "parameters": 2_966_144,
            "corpus": ["text.txt"],
            "vocabulary": "abc",
            "held_out_text": {"corpus": ["text.txt"], "length": 64},
        },
        "quick": False,
        "parts": parts,
        "seconds": 90.0,
        "peak_memory_bytes": 746_000_000,
    }


ROWS = {
    "hidden pieces: loss": ("4.00 ± 0.10", "9.00", "5.00 the bigram"),
    "hidden pieces: perplexity": ("400", "900", "500 the bigram"),
    "hidden pieces: first guess right": ("30.0 ± 1.0 %", "0.0 %", "20.0 % the bigram"),
    "calibration error": ("3.0 %", "—", "2.0 % by chance alone"),
    "pseudo-perplexity a piece": ("50 (49 – 51)", "—", "—"),
    "pseudo-perplexity a word, within words": ("120 (119 – 121)", "—", "—"),
    "attention entropy, of the most possible": ("40.0 %", "—", "—"),
    "attention on a token beside, of the head that looks there most": ("2.0 %", "—", "—"),
    "encoding: million operations a token": ("2.80", "—", "—"),
    "encoding: tokens a second, 2 threads": ("51,240", "—", "—"),
    "training: 10¹⁵ operations in all": ("0.32", "—", "—"),
    "parts of speech, best layer": ("90.0 ± 3.0 %", "60.0 %", "86.0 % commonest tag of its pieces"),
    "parts of speech, unknown words": ("70.0 ± 3.0 %", "30.0 %", "36.0 % commonest tag of its pieces"),
    "parts of speech: selectivity": ("25.0 ± 1.0 %", "—", "—"),
    "grammar: BLiMP": ("60.0 ± 3.0 %", "—", "55.0 % 5-gram"),
    "agreement: Linzen": ("80.0 ± 3.0 %", "—", "50.0 % chance"),
    "agreement: Linzen, 0 attractors": ("90.0 ± 3.0 %", "—", "70.0 % 5-gram"),
    "words: MEN-3000": ("0.30 ± 0.10", "0.01", "0.16 letters in common"),
    "analogies, 3CosAdd": ("5.0 ± 10.0 %", "0.0 %", "3.0 % nearest to c"),
    "sentences: STS-B test, mean, layer 2": ("0.50 ± 0.10", "0.45", "0.55 words in common"),
    "facts: ParaRel": ("10.0 ± 2.0 %", "—", "35.0 % named in the subject, else majority"),
    "facts: same answer if asked anew": ("40.0 ± 10.0 %", "—", "—"),
    "composition: negation": ("80.0 ± 3.0 %", "20.0 %", "50.0 % words in common"),
    "stereotypes: WinoBias": ("55.0 ± 5.0 %", "—", "50.0 % no preference"),
    "same guess in spite of: typo": ("70.0 ± 10.0 %", "60.0 %", "—"),
    "fine-tuned: sst2, accuracy, 2 seeds": ("83.0 ± 3.2 %", "79.0 %", "80.0 % bag of words"),
}


@pytest.mark.parametrize("what", ROWS)
def test_each_figure_stands_beside_what_it_has_to_be_compared_with(what: str) -> None:
    rows = {row[0]: row[1:4] for row in assessment_table(assessment()).rows}
    assert rows[what] == ROWS[what]


def test_no_figure_is_named_twice_and_neighbours_are_found() -> None:
    keys = [figure.key for part in assessment()["parts"] for figure in headlines(part)]
    assert len(set(keys)) == len(keys)
    assert set(NEIGHBOURS) - {"cola"} <= set(keys)
    rows = {row[0]: row[4] for row in assessment_table(assessment()).rows}
    assert rows["grammar: BLiMP"].startswith("69.5 %")


def test_of_all_figures_only_those_that_are_asked_for() -> None:
    rows = assessment_table(assessment(), ("blimp", "masked_lm.loss")).rows
    assert [row[0] for row in rows] == ["hidden pieces: loss", "grammar: BLiMP"]


def test_what_was_left_out_is_said() -> None:
    result = assessment()
    result["parts"][0] = {"name": "masked_lm", "title": "hidden pieces", "left_out": "There is no network."}
    table = assessment_table(result)
    assert table.notes[0] == "Not measured: hidden pieces. There is no network."
    assert not any(row[0].startswith("hidden pieces") for row in table.rows)


def test_parts_that_were_asked_for_are_shown_whole() -> None:
    perplexity = RESULTS["perplexity"] | {
        "sentences": 10,
        "of_sentences": 20,
        "documents": 3,
        "unknown_share": 0.0,
        "pieces": 100,
        "words": 80,
    }
    for score in perplexity["scores"]:
        score["nats"] = 4.0
    result = assessment() | {"parts": [{"name": "perplexity", "title": "", "result": perplexity}]}
    result["parts"].append({"name": "none", "title": "", "left_out": "No."})
    assert len(tables(result)) == 1
    assert [table.title for table in tables(result | {"whole": True})][1:] == [
        "Pseudo-perplexity of 100 pieces in 80 words"
    ]


def test_every_kind_with_a_headline_has_a_table_of_its_own() -> None:
    of_several = {"meaning"}
    assert set(_OF_KIND) - of_several <= set(TABLES)
    assert {RESULTS[part]["kind"] for part in RESULTS} == set(_OF_KIND)
    (heads,) = tables(RESULTS["attention"])
    assert heads.rows[1] == ("layer 0, head 1", "1.50 (1.40 – 1.70)", "60.0 %", "1.0 %", "2.0 %", "10.0 %", "25.0 %")
    (costs,) = tables(RESULTS["efficiency"])
    assert costs.rows[3] == ("tokens encoded a second, 2 threads", "51,240")


def test_two_models_side_by_side() -> None:
    better = {**RESULTS["blimp"], "sets": [{"name": "blimp", "total": {"pll": scored(0.65)}}]}
    other = assessment("other", blimp=better)
    other["parts"] = [part for part in other["parts"] if part["name"] != "pos"]
    table = comparison_table({"kind": "comparison", "assessments": [assessment(), other]})
    rows = {row[0]: row[1:] for row in table.rows}
    assert table.columns == ("", "mine", "other", "second − first")
    assert rows["grammar: BLiMP"] == ("60.0 ± 3.0 %", "65.0 ± 3.0 %", "+5.0")
    assert rows["hidden pieces: loss"] == ("4.00 ± 0.10", "4.00 ± 0.10", "+0.00")
    assert rows["parts of speech, best layer"] == ("90.0 ± 3.0 %", "—", "—")


@pytest.mark.parametrize(
    ("changed", "left_out"),
    [
        ({"held_out_text": {"corpus": ["other.txt"], "length": 64}}, {"hidden pieces: loss"}),
        ({"vocabulary": "xyz"}, {"hidden pieces: loss", "facts: ParaRel", "analogies, 3CosAdd"}),
    ],
)
def test_figures_of_other_questions_are_not_subtracted(changed: dict[str, Any], left_out: set[str]) -> None:
    other = assessment("other")
    other["model"] |= changed
    table = comparison_table({"kind": "comparison", "assessments": [assessment(), other]})
    differences = {row[0]: row[3] for row in table.rows}
    asked = ("hidden pieces: loss", "facts: ParaRel", "analogies, 3CosAdd", "grammar: BLiMP")
    assert {what for what in asked if differences[what] == "—"} == left_out
    assert "asked something else" in table.notes[-1]


def test_baselines_from_another_text_than_the_one_trained_on_are_said() -> None:
    result = assessment()
    text = {"corpus": ["other.txt"], "documents": 3, "of_documents": 9, "known": 0.5}
    result["model"]["held_out_text"] = {**text, "beside": "training text"}
    assert "3 of the 9 documents of other.txt. 50.0 % of it stand" in assessment_table(result).plain()
    result["model"]["held_out_text"] = {**text, "known": None, "beside": "the rest"}
    shown = assessment_table(result).plain()
    assert "is not at hand: n-grams are counted on the rest of this one" in shown
    assert "stand in sentences" not in shown


def test_the_best_floor_stands_there() -> None:
    """A model beneath the commonest class shows nothing, however far above a bag of words."""
    rte = {**RESULTS["sst2"], "task": "rte", "bag_of_words": {"score": 0.5}}
    (row,) = (row for row in assessment_table(assessment(rte=rte)).rows if "rte" in row[0])
    assert row[3] == "51.0 % always one class"


def test_one_model_after_more_and_more_steps() -> None:
    untrained = {**RESULTS["blimp"], "sets": [{"name": "blimp", "total": {"pll": scored(0.5)}}]}
    first = assessment("mine", blimp=untrained)
    table = tables({"kind": "history", "steps": [0, 1000], "assessments": [first, assessment()]})[0]
    assert table.columns == ("", "0", "1,000", "without a model")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["grammar: BLiMP"] == ("50.0 %", "60.0 %", "55.0 % 5-gram")


def test_several_seeds_after_the_same_steps() -> None:
    def history(steps: list[int], *shares: float) -> dict[str, Any]:
        pairs = [{**RESULTS["blimp"], "sets": [{"name": "blimp", "total": {"pll": scored(share)}}]} for share in shares]
        return {"kind": "history", "steps": steps, "assessments": [assessment(blimp=of) for of in pairs]}

    table = seeds_table(
        [history([0, 100, 700], 0.5, 0.55, 0.7), history([0, 100], 0.5, 0.6), history([0, 100], 0.47, 0.59)]
    )
    assert table.columns == ("", "0 steps", "100 steps")
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["grammar: BLiMP"] == ("49.0 % (47.0 … 50.0)", "58.0 % (55.0 … 60.0)")
    assert table.notes == ()


def test_quick_figures_are_called_so_in_every_table() -> None:
    quick = {**assessment(), "quick": True}
    history = {"kind": "history", "steps": [100], "assessments": [quick]}
    for table in (assessment_table(quick), tables(history)[0], seeds_table([history])):
        (note,) = (note for note in table.notes if "less than whole" in note)
        assert "from 321 sentences" in note
        assert "sst2 from 500 texts" in note
