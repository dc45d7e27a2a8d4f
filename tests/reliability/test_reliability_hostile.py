from __future__ import annotations

import os
import pickle
import time

import numpy as np
import pytest
import yaml

from mini_bert.interop import bert_config, safetensors_guard, torch_pickle
from mini_bert.verification.reliability import hostile
from mini_bert.verification.reliability.hostile_files import mutations, pickles, texts, trial
from mini_bert.verification.reliability.hostile_files.readers import READERS
from mini_bert.verification.reliability.promise import Scale

QUICK = Scale(quick=True)


def test_nothing_hangs(tmp_path):
    outcome = hostile.nothing_hangs(QUICK, tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried == len(READERS) * len(trial.SPECIALS)


@pytest.mark.slow
def test_nothing_runs(tmp_path):
    outcome = hostile.nothing_runs(QUICK, tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried > 450


@pytest.mark.slow
def test_spoiled_files_open_or_are_refused(tmp_path):
    outcome = hostile.spoiled_files(QUICK, tmp_path)
    assert outcome.kept, outcome.failures
    assert outcome.tried == 150 * len(READERS)
    assert 0 < outcome.measured["opened"] < outcome.tried


@pytest.mark.nightly
def test_spoiled_files_for_ten_minutes(tmp_path):
    end, first = time.monotonic() + 600, 10_000
    while time.monotonic() < end:
        outcome = hostile.spoiled_files(Scale(), tmp_path / str(first), first)
        assert outcome.kept, outcome.failures
        first += 10_000


@pytest.mark.parametrize("kind", READERS)
def test_a_few_spoiled_files_of_each_kind(kind, tmp_path):
    good = READERS[kind].surround(tmp_path)
    cases = [(str(number), mutations.spoiled(good, kind, number)) for number in range(8)]
    found = trial.examine(kind, cases, tmp_path / "in" / "files", refuse=False)
    assert found.tried == 8
    assert not found.failures


def test_spoiling_is_a_pure_function_and_changes_what_it_is_given():
    good = [b'{"a": 1, "b": [2, 3]}\n', b"x: 1\ny: 2\n"]
    files = [mutations.spoiled(good, "x", number) for number in range(300)]
    assert files == [mutations.spoiled(good, "x", number) for number in range(300)]
    assert sum(file in good for file in files) < 30
    assert len(set(files)) > 250
    assert max(map(len, files)) <= mutations.LARGEST


def test_a_good_file_that_does_not_open_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(bert_config, "read", lambda *_: 1 / 0)
    (failure,) = trial.examine("config.json", [], tmp_path / "files", refuse=False).failures
    assert "ZeroDivisionError" in failure


def examine(kind, content, folder, *, refuse=True):
    return trial.examine(kind, [("it", content)], folder / "files", refuse=refuse).failures


def test_another_error_is_a_failure(tmp_path, monkeypatch):
    right = bert_config.read
    monkeypatch.setattr(bert_config, "read", lambda path: right(path) if b"id" not in path.read_bytes() else 1 / 0)
    assert "ZeroDivisionError" in examine("config.json", b'{"id', tmp_path)[0]


def test_a_file_that_should_be_refused_and_opens_is_a_failure(tmp_path):
    good = safetensors_guard.to_bytes({"x": np.ones(3)})
    assert examine("model.safetensors", good, tmp_path) == ["model.safetensors, it: it was opened"]


@pytest.mark.parametrize("name", ["calls os.system", "calls builtins.exec", "pickled by Python, protocol 2"])
def test_a_deed_that_is_done_is_a_failure(name, tmp_path, monkeypatch):
    def unpickle(path, **_):
        content = path.read_bytes()
        return pickle.loads(content[content.index(b"\x80\x02") :]) if b"canary" in content else {}

    monkeypatch.setattr(torch_pickle, "load", unpickle)
    content = pickles.calls()[name].content
    before = b"\x80\x02" + pickles.call("os", "system", pickles.text(pickles.DEED)) + b"."
    assert any(
        "it has run something" in failure for failure in examine("pytorch_model.bin", before + content, tmp_path)
    )


@pytest.mark.slow
def test_time_and_memory_that_are_spent_are_failures(tmp_path, monkeypatch):
    def spend(path, **_):
        if path.read_bytes() != b"spend":
            return {}
        np.ones(40 * 2**20).sum()  # 320 MB
        end = time.process_time() + 1.1
        while time.process_time() < end:
            pass
        return {}

    monkeypatch.setattr(torch_pickle, "load", spend)
    failures = examine("pytorch_model.bin", b"spend", tmp_path, refuse=False)
    assert any("it took 1." in failure for failure in failures)
    assert any("memory grew by 3" in failure for failure in failures)


def test_what_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "_PATIENCE", 0.2)
    monkeypatch.setattr(bert_config, "_fields", lambda path: os.read(os.open(path, os.O_RDONLY), 1))
    reader = READERS["config.json"]._replace(surround=lambda folder: [])
    monkeypatch.setitem(READERS, "config.json", reader)
    assert examine("config.json", "a pipe", tmp_path) == ["config.json, it: it hung"]


def test_a_process_that_dies_is_a_failure(tmp_path, monkeypatch):
    monkeypatch.setattr(hostile, "READERS", {"no such kind": None})
    (failure,) = hostile.nothing_hangs(QUICK, tmp_path).failures
    assert "its process ended with 1 KeyError: 'no such kind'" in failure


def test_the_canary_sings_where_yaml_is_read_in_good_faith(tmp_path, monkeypatch):
    """What the absence of `canary` says: another reader would have made the file."""
    monkeypatch.chdir(tmp_path)
    for name in ("object/apply", "object/new", "in full", "by a directive"):
        yaml.unsafe_load(texts.yaml_files()[f"!!python/{name}"])
        assert (tmp_path / "canary").exists(), name
        (tmp_path / "canary").unlink()
