"""The training that ranks share: the default model on random rows of 64×64, one process of an MPI job.

    mpiexec -n 2 python -m mini_bert.verification.reliability.rank_workload '{"steps": 40, "threads": 1}'

Rank 0 prints one line of JSON: `{"sha256": "…", "seconds": [0.21, …], "in_flight": 1}`, of model and optimiser after
the last step, and of each step.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.batch import Batch
    from mini_bert.training.ranks import Ranks

ROWS, LENGTH, MASKED = 64, 64, 614
"""Of a batch; 15 % of its places are masked."""


def main(words: Sequence[str]) -> int:
    """Train as the one word, a JSON object, says: `steps`, `threads`, and `shards` (4)."""
    from mini_bert.training.ranks import ranks_of_this_job

    ranks = ranks_of_this_job()
    with ranks.together():
        result = train(ranks, **json.loads(words[0]))
        if ranks.first:
            print(json.dumps(result), flush=True)
    return 0


def train(ranks: Ranks, steps: int, threads: int, shards: int = 4) -> dict[str, Any]:
    """Train, and see that all ranks end with the same bits."""
    from mini_bert.config.schema import Config, TrainConfig
    from mini_bert.model.bert import MiniBERT
    from mini_bert.training.checkpoint import model_and_optimizer_sha256
    from mini_bert.training.parallel import ShardPool
    from mini_bert.training.step import TrainingState, training_step

    config = Config(train=TrainConfig(batch_size=ROWS, shards=shards, steps=steps))
    state, seconds = TrainingState.fresh(MiniBERT(config.model)), []
    with ShardPool(threads, shards, ranks=ranks) as pool:
        for step in range(steps):
            batch = batch_of(step, config.model.vocab_size)
            ranks.wait()
            begin = time.perf_counter()
            training_step(state, batch, config, steps, pool)
            seconds.append(round(time.perf_counter() - begin, 6))
        sha256 = model_and_optimizer_sha256(state)
        ranks.same("model and optimiser", sha256)
        return {"sha256": sha256, "seconds": seconds, "in_flight": pool.in_flight}


def batch_of(number: int, vocab_size: int) -> Batch:
    """Rows of random pieces with masked places among them; the same on every machine."""
    import numpy as np

    from mini_bert.batch import Batch
    from mini_bert.random_streams import RandomStream

    stream = RandomStream(15, "ranks/pieces", number)
    pieces = 5 + stream.integers(vocab_size - 5, ROWS, LENGTH)
    places = np.sort(np.argsort(RandomStream(15, "ranks/places", number).uniform(1, ROWS * LENGTH)[0])[:MASKED])
    targets = pieces.reshape(-1)[places]
    pieces.reshape(-1)[places] = 4  # [MASK]
    return Batch(pieces, None, None, places, targets)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
