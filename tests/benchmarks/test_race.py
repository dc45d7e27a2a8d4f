"""The race: its arithmetic by hand, and whole trainings of both sides at a small size, stopped and gone on with."""

from __future__ import annotations

import json

import pytest

from mini_bert.benchmarks.race import race as races
from mini_bert.benchmarks.race.racers import Racer, transformers_at
from mini_bert.benchmarks.race.result import Course, Machine, Point, RaceResult
from mini_bert.benchmarks.race.tables import table
from mini_bert.cli import main
from mini_bert.errors import ConfigError, DataError


def course(name: str, library: str, blocks: list[float], losses: list[float]) -> Course:
    curve = [Point(step=100 * n, loss=loss, interval=(loss - 0.1, loss + 0.1)) for n, loss in enumerate(losses, 1)]
    return Course(
        name=name,
        title=name,
        library=library,
        minutes=1.0,
        step_seconds=blocks,
        steps=100 * len(losses),
        settings={},
        curve=curve,
    )


@pytest.fixture
def result() -> RaceResult:
    theirs = course("usual", "transformers", [0.5, 0.7, 0.6], [7.0, 6.0, 5.0])
    ours = course("fast", "mini-bert", [0.1, 0.1, 0.2], [6.0, 5.1, 4.9, 4.0])
    machine = Machine(processor="a processor", threads=2, facts={})
    return RaceResult(corpus="text", held_out_rows=64, rows=64, tokens=64, machine=machine, courses=[theirs, ours])


def test_seconds_are_steps_times_the_median_of_the_blocks(result):
    assert result.course("usual").seconds(300) == pytest.approx(180.0)
    assert result.course("fast").reached(5.0) == pytest.approx(30.0)
    assert result.course("fast").reached(3.9) is None
    assert result.times_sooner("fast", "usual") == pytest.approx(6.0)
    assert result.times_sooner("usual", "fast") is None


def test_the_table_says_so(result):
    rows = {row[0]: row for row in table(result).rows}
    assert rows["usual"] == ("usual", "600", "300", "5.000", "3.0 min")
    assert rows["fast"] == ("fast", "100", "400", "4.000", "30.0 s, 6.0 times sooner")


@pytest.mark.parametrize("text", ["", "{}", "[1", '{"corpus": 3}'])
def test_a_file_that_is_no_race_is_refused(text, tmp_path):
    (tmp_path / "race.json").write_text(text)
    with pytest.raises(DataError, match="expected a race as mini-bert writes it"):
        RaceResult.read(tmp_path / "race.json")


def test_a_race_is_read_as_it_was_written(result, tmp_path):
    result.write(tmp_path / "race.json")
    assert RaceResult.read(tmp_path / "race.json") == result


def test_who_was_not_clocked_is_named(result):
    with pytest.raises(DataError, match=r"no racer faster; expected one of usual, fast.*--clock"):
        result.course("faster")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--show"], "Run one: mini-bert race"),
        (["--only", "slow"], "expected names among usual, tuned, default, fast, faster"),
        (["--threads", "0"], "threads: got 0; expected at least 1"),
    ],
)
def test_what_cannot_be_raced_is_refused_in_words(words, said, tmp_path, capsys):
    assert main(["race", "--out", str(tmp_path), *words]) == 2
    assert said in capsys.readouterr().err


RECIPE = {
    "optimizer.name": "muon",
    "optimizer.ema_decay": 0.9,
    "model.decoder_bias_init": "unigram",
    "model.position_embedding_type": "rotary",
    "tasks.token_order": 0.5,
}
"""What the clock has to build as the training does."""


@pytest.mark.reference
@pytest.mark.slow
def test_both_sides_train_and_go_on_where_they_were_stopped(tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    words = [a + b + c for a in "bdfgk" for b in "aeiou" for c in "lmnrs"]
    sentences = [f"{words[n % 125]} follows {words[n % 61]} and then {words[n % 7]} ." for n in range(4000)]
    paragraphs = [" ".join(sentences[n : n + 20]) for n in range(0, 4000, 20)]
    text.write_text("\n\n\n".join(paragraphs))
    small = {
        "model.vocab_size": 128,
        "model.hidden_size": 32,
        "model.num_hidden_layers": 2,
        "model.num_attention_heads": 2,
        "model.intermediate_size": 64,
        "model.max_position_embeddings": 32,
        "train.batch_size": 8,
        "data.held_out_rows": 16,
    }
    racers = (transformers_at(1e-3, "usual", "theirs"), Racer("default", "ours", "mini-bert", 0.01, settings=RECIPE))
    measured = races.measure_clock(tmp_path, racers, corpus=str(text), threads=1, rounds=2, steps=2, overrides=small)
    courses = [c.model_copy(update={"steps": 300}) for c in measured.courses]
    measured.model_copy(update={"courses": courses}).write(tmp_path / "race.json")

    whole = races.run_race(tmp_path, tmp_path / "whole", racers, threads=1, overrides=small)
    for trained in whole.courses:
        assert trained.finished
        learned = 0.3 if trained.library == "transformers" else 0.0  # ours begins with the frequencies
        assert trained.curve[-1].loss < trained.curve[0].loss - learned, trained.name

    stopped = {"told": 0}

    def stop_at_last(message: str) -> None:
        stopped["told"] += 1
        if "step 290" in message:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        races.run_race(tmp_path, tmp_path / "parts", racers[:1], threads=1, overrides=small, told=stop_at_last)
    lines = (tmp_path / "parts" / "usual" / "curve.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 290
    again = races.run_race(tmp_path, tmp_path / "parts", racers[:1], threads=1, overrides=small)
    assert [p.step for p in again.course("usual").curve] == [p.step for p in whole.course("usual").curve]
    assert again.course("usual").curve[-1].loss == pytest.approx(whole.course("usual").curve[-1].loss, abs=1e-5)

    other = (transformers_at(2e-3, "usual", "theirs"), racers[1])
    with pytest.raises(ConfigError, match=r"begun with train.lr 0.001; expected train.lr 0.002. Delete the folder"):
        races.run_race(tmp_path, tmp_path / "parts", other[:1], threads=1, overrides=small)
    clocked = races.measure_clock(tmp_path, other, corpus=str(text), threads=1, rounds=1, steps=2, overrides=small)
    assert clocked.course("default").steps == 300
    assert clocked.course("default").curve == again.course("default").curve
    assert clocked.course("usual").steps != 300
    assert clocked.course("usual").curve == []
