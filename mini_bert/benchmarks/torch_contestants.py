"""The other side: PyTorch and transformers, as people use them and as an expert would.

What all of them get: the weights, batches and masks of our own step; the learning rate, betas, epsilon and decay of our
AdamW; two threads. The masks are made beforehand, which saves them the time that our step spends on masking.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mini_bert.benchmarks.torch_bert import build, load_hugging_face
from mini_bert.benchmarks.worker import Unavailable
from mini_bert.benchmarks.workload import MASK, sentences

if TYPE_CHECKING:
    from mini_bert.benchmarks.workload import Workload


class UsualTrainingStep:
    """`BertForMaskedLM` as people train it: logits everywhere, labels of -100, dropout 0.1, `torch.optim.AdamW`."""

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        import torch
        from transformers import BertForMaskedLM

        torch.set_num_threads(threads)
        torch.manual_seed(workload.seed)
        self._model = BertForMaskedLM.from_pretrained(workload.model)
        self._model.train()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=workload.lr, eps=1e-6, weight_decay=0.01)
        self._batches = []
        for batch in workload.masked_batches():
            labels = np.full(batch.input_ids.size, -100)
            labels[batch.masked_positions] = batch.target_ids
            self._batches.append(
                {
                    "input_ids": torch.from_numpy(batch.input_ids.astype(np.int64)),
                    "attention_mask": torch.ones(batch.input_ids.shape, dtype=torch.int64),
                    "labels": torch.from_numpy(labels.reshape(batch.input_ids.shape)),
                }
            )
        self._clip = torch.nn.utils.clip_grad_norm_

    def step(self, number: int) -> float:
        """One update; returns the mean loss in nats."""
        loss = self._model(**self._batches[number % len(self._batches)]).loss
        loss.backward()
        self._clip(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.item()

    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        return _facts()


class ExpertTrainingStep:
    """The module of `torch_bert`: masked rows decoded only, no dropout, one product for Q K V, AdamW over all tensors.

    Options: `compile`; `bfloat16` (autocast); `attention`, `sdpa` or `plain`; `adamw`, `foreach` or `fused`;
    `last_block_rows`; `rows`: `exact`, or `padded` to the largest number of masked rows, so that shapes never change.
    """

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._module = load_hugging_face(
            build(
                workload.model_config,
                attention=options.get("attention", "sdpa"),
                last_block_rows=options.get("last_block_rows", False),
            ),
            _tensors(workload),
        )
        self._loss: Callable[..., Any] = self._module
        if options.get("compile"):
            _require_compiler()
            self._loss = torch.compile(self._module)
        self._autocast: Callable[[], Any] = contextlib.nullcontext
        if options.get("bfloat16"):
            self._autocast = lambda: torch.autocast("cpu", torch.bfloat16)
        self._parameters = list(self._module.parameters())
        decayed = [p for p in self._parameters if p.dim() > 1]
        others = [p for p in self._parameters if p.dim() == 1]
        fused = options.get("adamw", "foreach") == "fused"
        self._optimizer = torch.optim.AdamW(
            [{"params": decayed, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}],
            lr=workload.lr,
            eps=1e-6,
            fused=fused,
            foreach=not fused,
        )
        batches = workload.masked_batches()
        most = max(batch.masked_positions.size for batch in batches)  # type: ignore[union-attr]
        padded = options.get("rows", "exact") == "padded"
        self._batches = [
            (
                torch.from_numpy(batch.input_ids.astype(np.int64)),
                torch.from_numpy(_padded(batch.masked_positions, most if padded else 0, 0)),
                torch.from_numpy(_padded(batch.target_ids, most if padded else 0, -100)),
            )
            for batch in batches
        ]
        if options.get("compile") and not padded:
            for _, positions, targets in self._batches:
                torch._dynamo.mark_dynamic(positions, 0)
                torch._dynamo.mark_dynamic(targets, 0)
        self._clip = torch.nn.utils.clip_grad_norm_

    def step(self, number: int) -> float:
        """One update; returns the mean loss in nats."""
        with self._autocast():
            loss = self._loss(*self._batches[number % len(self._batches)])
        loss.backward()
        self._clip(self._parameters, 1.0, foreach=True)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        return _facts()


class UsualFillMask:
    """transformers' fast tokenizer and `BertForMaskedLM` in inference mode, written out without its slower pipeline."""

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        import torch
        from transformers import BertForMaskedLM, BertTokenizerFast

        torch.set_num_threads(options.get("threads", threads))
        self._torch = torch
        self._tokenizer = BertTokenizerFast.from_pretrained(workload.model)
        self._model = BertForMaskedLM.from_pretrained(workload.model).eval()
        self._sentences = sentences()

    def step(self, number: int) -> float:
        """Fill one sentence; returns the probability of the likeliest piece."""
        encoded = self._tokenizer(self._sentences[number % len(self._sentences)], return_tensors="pt")
        with self._torch.inference_mode():
            logits = self._model(**encoded).logits
            masked = logits[encoded["input_ids"] == self._tokenizer.mask_token_id]
            best = masked.softmax(-1).topk(5)
        answer = list(zip(self._tokenizer.convert_ids_to_tokens(best.indices[0]), best.values[0].tolist(), strict=True))
        return float(answer[0][1])

    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        return _facts()


class ExpertFillMask:
    """The module of `torch_bert` behind the bare fast tokenizer: the masked row decoded only.

    Options: `compile`; `threads`, where one is faster than all; `last_block_rows`.
    """

    def __init__(self, workload: Workload, options: dict[str, Any], threads: int) -> None:
        import torch
        from tokenizers import Tokenizer

        torch.set_num_threads(options.get("threads", threads))
        self._torch = torch
        self._tokenizer = Tokenizer.from_file(str(Path(workload.model) / "tokenizer.json"))
        module = build(workload.model_config, last_block_rows=options.get("last_block_rows", False))
        self._logits = load_hugging_face(module, _tensors(workload)).eval().logits
        if options.get("compile"):
            _require_compiler()
            self._logits = torch.compile(self._logits)
        self._sentences = sentences()

    def step(self, number: int) -> float:
        """Fill one sentence; returns the probability of the likeliest piece."""
        ids = self._tokenizer.encode(self._sentences[number % len(self._sentences)]).ids
        with self._torch.inference_mode():
            rows = self._torch.tensor([position for position, i in enumerate(ids) if i == MASK])
            best = self._logits(self._torch.tensor([ids]), rows).softmax(-1).topk(5)
        pieces = [self._tokenizer.id_to_token(i) for i in best.indices[0].tolist()]
        answer = list(zip(pieces, best.values[0].tolist(), strict=True))
        return float(answer[0][1])

    def facts(self) -> dict[str, Any]:
        """Versions and threads."""
        return _facts()


def _tensors(workload: Workload) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(Path(workload.model) / "model.safetensors")


def _padded(values: Any, length: int, filler: int) -> Any:
    padded = np.full(max(length, len(values)), filler, np.int64)
    padded[: len(values)] = values
    return padded


def _require_compiler() -> None:
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl"]
    if not any(name and shutil.which(name) for name in names):
        raise Unavailable("torch.compile needs a C++ compiler (g++ or clang++), and there is none")


def _facts() -> dict[str, Any]:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    for name in ("transformers", "tokenizers"):
        with contextlib.suppress(PackageNotFoundError):
            versions[name] = version(name)
    return {"versions": versions, "threads": torch.get_num_threads()}
