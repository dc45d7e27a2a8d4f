"""Tables of minimal pairs and of pseudo-perplexity hold the numbers they were given."""

from __future__ import annotations

from mini_bert.reports.pages import tables


def score(accuracy, n=200, ties=0, **more):
    return {"n": n, "accuracy": accuracy, "interval": [accuracy - 0.05, accuracy + 0.04], "ties": ties, **more}


def scores(**others):
    return {
        "pll": score(0.65),
        "pll_within_word": score(0.6),
        "changed": None,
        "shorter": score(0.5, ties=150),
        **others,
    }


RESULT = {
    "kind": "minimal_pairs",
    "sets": [
        {
            "name": "blimp",
            "n": 200,
            "total": scores(pll=score(0.65, interval_over_paradigms=[0.4, 0.8])),
            "same_length": {"pll": score(0.7), "pll_within_word": score(0.68), "changed": None},
            "differences": [{"baseline": "shorter", "accuracy": 0.15, "interval": [0.1, 0.2]}],
            "phenomena": [{"phenomenon": "npi_licensing", "n": 200, "scores": scores()}],
            "paradigms": [
                {"paradigm": name, "phenomenon": "npi_licensing", "n": 100, "scores": scores()} for name in ("a", "b")
            ],
            "identical": 2,
            "unknown_share": 0.0125,
            "longer_than_a_row": 3,
        }
    ],
}


def test_ways_and_paradigms() -> None:
    ways, paradigms = tables(RESULT)
    assert ways.title == "BLiMP: 200 minimal pairs"
    assert ways.rows == (
        ("Mini-BERT", "65.0 ± 5.0 %", "0.0 %", "70.0 %", "—"),
        ("within words left to right", "60.0 ± 5.0 %", "0.0 %", "68.0 %", "—"),
        ("fewer pieces", "50.0 ± 5.0 %", "75.0 %", "—", "+15.0 (10.0 – 20.0)"),
    )
    notes = " ".join(ways.notes)
    for told in (
        "40.0 – 80.0 %",
        "2 paradigms",
        "so tie: 2",
        "[UNK]: 1.25 %",
        "in windows: 3",
        "in 0 pairs",
        "--corpus",
    ):
        assert told in notes
    assert paradigms.columns[:3] == ("", "pairs", "Mini-BERT")
    assert paradigms.rows[0] == ("a", "100", "65.0 ± 5.0", "60.0", "—", "50.0")


def test_pseudo_perplexity() -> None:
    entry = {"way": "plain", "per": "piece", "nats": 2.5, "perplexity": 12.18, "interval": [11.0, 13.5]}
    result = {
        "kind": "pseudo_perplexity",
        "documents": 7,
        "sentences": 100,
        "of_sentences": 2000,
        "pieces": 2200,
        "words": 1900,
        "unknown_share": 0.001,
        "scores": [entry, entry | {"way": "within_word", "per": "word", "interval": [None, None]}],
    }
    (table,) = tables(result)
    assert table.rows == (
        ("plain, a piece", "2.500", "12.2", "11 – 13.5"),
        ("within words left to right, a word", "2.500", "12.2", "—"),
    )
    assert "100 of 2,000 sentences" in table.notes[0]
