"""A long training needs no more memory than a short one (R19)."""

from __future__ import annotations

import subprocess
import sys

import pytest

_TRAIN = """
import numpy as np
from pathlib import Path
from mini_bert.batch import Batch
from mini_bert.config.load import load_config
from mini_bert.model.bert import MiniBERT
from mini_bert.training.parallel import ShardPool
from mini_bert.training.step import TrainingState, training_step

config = load_config(["model/tiny"], {"train.batch_size": 16})
state = TrainingState.fresh(MiniBERT(config.model))
rng = np.random.default_rng(0)
sizes = []
with ShardPool(2, config.train.shards) as pool:
    for step in range(500):
        ids = rng.integers(5, config.model.vocab_size, (16, 64))
        counts = rng.choice([9, 10], 16)  # 15 % of 62
        positions = np.concatenate([64 * b + np.sort(rng.choice(62, n, replace=False)) for b, n in enumerate(counts)])
        batch = Batch(ids, masked_positions=positions, target_ids=ids.reshape(-1)[positions])
        training_step(state, batch, config, 500, pool)
        sizes.append(int(Path("/proc/self/statm").read_text().split()[1]))
print(max(sizes[50:150]), max(sizes[400:]))
"""


@pytest.mark.slow
def test_500_steps_grow_resident_memory_by_less_than_a_hundredth() -> None:
    done = subprocess.run([sys.executable, "-c", _TRAIN], capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late < 1.01 * early
