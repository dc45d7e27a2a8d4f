"""Milestones are the models of their steps, and no interruption changes them."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from mini_bert.errors import ConfigError, StorageError
from mini_bert.model.bert import MiniBERT
from mini_bert.training import milestones as module
from mini_bert.training.checkpoint_folders import checkpoints
from mini_bert.training.first_model import first_model
from mini_bert.training.milestones import milestones
from mini_bert.training.pretrain import pretrain
from mini_bert.training.report import Report


def weights(folder):
    return MiniBERT.from_pretrained(folder).parameters.buffer


def test_milestones_are_the_models_of_their_steps(configured, tokens):
    config = configured(train__milestones=(0, 10, 20, 40, 99), train__save_every=10, train__keep_checkpoints=4)
    result = pretrain(config, tokens=tokens)
    kept = milestones(result.run)
    assert list(kept) == [0, 10, 20, 40]
    np.testing.assert_array_equal(weights(kept[0]), first_model(config, tokens).parameters.buffer)
    saved = {int(path.name.split("-")[1]): path for path in checkpoints(result.run)}
    for step in (10, 20, 40):
        assert (kept[step] / "model.safetensors").read_bytes() == (saved[step] / "model.safetensors").read_bytes()
        assert not (kept[step] / "optimizer.safetensors").exists()
    assert not np.array_equal(weights(kept[10]), weights(kept[20]))


def test_a_resumed_run_has_the_same_milestones(configured, tokens):
    class Stop(Report):
        def ticked(self, result):
            if result.step == 15:
                os.kill(os.getpid(), signal.SIGTERM)

    whole = pretrain(configured(run__name="whole", train__milestones=(0, 14, 20)), tokens=tokens)
    config = configured(run__name="parts", train__milestones=(0, 14, 20))
    stopped = pretrain(config, tokens=tokens, report=Stop())
    assert stopped.interrupted
    left_half_done = stopped.run / "milestones" / ".tmp-step-20-1-abcd"
    left_half_done.mkdir()
    resumed = pretrain(configured(run__name="parts", run__resume="auto", train__milestones=(0, 14, 20)), tokens=tokens)
    assert not left_half_done.exists()
    for step, path in milestones(whole.run).items():
        other = milestones(resumed.run)[step]
        assert (path / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()


@pytest.mark.parametrize(("policy", "ends"), [("stop", False), ("go-on", True)])
def test_a_milestone_that_cannot_be_written_is_treated_as_a_checkpoint_is(
    configured, tokens, monkeypatch, policy, ends
):
    def full(model, folder):
        raise StorageError(str(folder), got="No space left on device", expected="room")

    monkeypatch.setattr(module, "save_pretrained", full)
    config = configured(train__milestones=(5,), train__on_save_error=policy)
    if ends:
        assert pretrain(config, tokens=tokens).step == 40
    else:
        with pytest.raises(StorageError, match="step-5"):
            pretrain(config, tokens=tokens)


def test_steps_that_never_come_are_said(configured):
    from mini_bert.config.no_effect import without_effect

    config = configured(train__milestones=(10, 41, 50))
    assert "train.milestones 41, 50 have no effect within 40 steps." in without_effect(config)
    with pytest.raises(ConfigError, match="milestones"):
        configured(train__milestones=(-1,))
