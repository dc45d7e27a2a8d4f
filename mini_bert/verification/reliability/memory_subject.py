"""The training whose memory is watched, or taken away: a process of its own.

    python -m mini_bert.verification.reliability.memory_subject '{"presets": [...], "settings": {...}}'

It trains and evaluates as `mini-bert pretrain` does, and prints one line of JSON: the resident size after each step,
the largest address space, the hash, the shards in flight that were chosen, the warnings, and the seconds that it took
and was expected to take. With `limit` the address space is limited to so many bytes before the first step; with
`room_for` from the beginning, to what so many shards need and a little more. With `command` in their place, it is
`mini-bert` itself, and the line says its exit code and its largest resident size.

A training runs on pages of 4 kB: with huge ones the resident size moves in steps of 2 MB, whenever the kernel finds the
time, and a growth of 1 % could not be told from that.
"""

from __future__ import annotations

import ctypes
import json
import runpy
import sys
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mini_bert.machine import address_space, peak_bytes, resident_bytes

if TYPE_CHECKING:
    from mini_bert.config.schema import Config


def limit_address_space(size: int) -> None:
    """Let this process have no more than `size` bytes of addresses from now on."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


_PR_SET_THP_DISABLE = 41
"""`prctl`'s name for it, linux/prctl.h."""


def use_small_pages() -> None:
    """Keep the kernel from giving this process huge pages, where there are any."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, 1, 0, 0, 0)


def command(order: Mapping[str, Any]) -> dict[str, Any]:
    """`mini-bert` with the words of the order."""
    if order.get("limit"):
        limit_address_space(order["limit"])
    sys.argv[1:], code = order["command"], 0
    try:
        runpy.run_module("mini_bert", run_name="__main__")
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    return {"code": code, "peak_bytes": peak_bytes()}


def training(order: Mapping[str, Any]) -> dict[str, Any]:
    """A training with the presets and settings of the order."""
    from mini_bert.config.load import load_config
    from mini_bert.data.batches import held_out_batches
    from mini_bert.data.tokens import open_tokens
    from mini_bert.evaluation.masked_lm import evaluate_masked_lm
    from mini_bert.training.allocator import give_freed_memory_back
    from mini_bert.training.pretrain import pretrain
    from mini_bert.training.report import Report, RunInfo
    from mini_bert.training.step import StepResult

    use_small_pages()
    noted: dict[str, Any] = {"resident": [], "warnings": []}

    class Watch(Report):
        def started(self, info: RunInfo) -> None:
            noted["in_flight"] = info.forecast.in_flight
            noted["seconds_forecast"], noted["seconds"] = info.forecast.seconds, -time.perf_counter()
            if order.get("limit"):
                give_freed_memory_back()
                limit_address_space(order["limit"])

        def ticked(self, result: StepResult) -> None:
            noted["resident"].append(resident_bytes())

        def warned(self, message: str) -> None:
            noted["warnings"].append(message)

    config = load_config(order["presets"], order["settings"])
    tokens = open_tokens(config.data, config.tokenizer, config.model.vocab_size)
    batches = held_out_batches(tokens.held_out, config, tokens.tokenizer)
    if order.get("room_for"):
        limit_address_space(address_space()[0] + _room_for(config, order["room_for"]))
    result = pretrain(
        config, tokens=tokens, report=Watch(), evaluate=lambda model: evaluate_masked_lm(model, batches).to_dict()
    )
    noted["seconds"] += time.perf_counter()
    return {"step": result.step, "sha256": result.sha256, "address_space": address_space()[1], **noted}


def _room_for(config: Config, shards: int) -> int:
    """Bytes with which that many shards in flight may be chosen, and one more may not."""
    from mini_bert.training.memory import WITH_RESERVE, estimate_training_bytes

    needed = [estimate_training_bytes(config, in_flight, 0) for in_flight in (shards, shards + 1)]
    return int(WITH_RESERVE * sum(needed) / 2)


def main(words: Sequence[str]) -> int:
    """Do as the one word, a JSON object, says."""
    order = json.loads(words[0])
    print(json.dumps(command(order) if "command" in order else training(order)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
