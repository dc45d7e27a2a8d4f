"""Who is compared with whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import Any

from mini_bert.benchmarks.duel import Contestant

_OURS = "mini_bert.benchmarks.numpy_contestants"
_TORCH = "mini_bert.benchmarks.torch_contestants"
_TORCH_LIBRARIES = ("torch",)
_USUAL_LIBRARIES = ("torch", "transformers")

AVX2 = {"OPENBLAS_CORETYPE": "Haswell"}
"""OpenBLAS with the kernels of a processor without AVX-512: the instructions that PyTorch's MKL uses on AMD."""

KEEP_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "4294967296"}
"""glibc keeps freed memory instead of giving it back and faulting it in again: up to a quarter faster for PyTorch."""


def _variants(**choices: tuple[str, ...]) -> tuple[Mapping[str, Any], ...]:
    return tuple(dict(zip(choices, values, strict=True)) for values in product(*choices.values()))


_EAGER = _variants(attention=("sdpa", "plain"), adamw=("foreach", "fused"))
_COMPILED = _variants(attention=("plain", "sdpa"), rows=("exact", "padded"))
_SHOWN = _variants(attention=("sdpa", "plain"))

OURS = Contestant("ours", "Mini-BERT", f"{_OURS}:TrainingStep", libraries=("numpy",))
OURS_DROPOUT = Contestant(
    "ours-dropout", "Mini-BERT, dropout 0.1", f"{_OURS}:TrainingStep", {"dropout": 0.1}, libraries=("numpy",)
)
OURS_AVX2 = Contestant(
    "ours-avx2", "Mini-BERT, AVX2 kernels", f"{_OURS}:TrainingStep", environment=AVX2, libraries=("numpy",)
)
PRODUCTS = Contestant("sgemm", "matrix products alone", "mini_bert.benchmarks.floor:MatrixProducts")
PRODUCTS_AVX2 = Contestant(
    "sgemm-avx2", "matrix products alone, AVX2 kernels", "mini_bert.benchmarks.floor:MatrixProducts", environment=AVX2
)


def _expert(
    name: str, title: str, variants: tuple[Mapping[str, Any], ...], rival: bool = True, **options: Any
) -> Contestant:
    return Contestant(
        name,
        title,
        f"{_TORCH}:ExpertTrainingStep",
        options,
        variants=variants,
        environment=KEEP_MEMORY,
        libraries=_TORCH_LIBRARIES,
        rival=rival,
        dtype="bfloat16" if options.get("bfloat16") else "float32",
    )


TORCH_TRAINING = (
    Contestant(
        "transformers",
        "transformers as people use it",
        f"{_TORCH}:UsualTrainingStep",
        libraries=_USUAL_LIBRARIES,
        rival=True,
    ),
    _expert("torch", "PyTorch", _EAGER),
    _expert("torch-compiled", "PyTorch compiled", _COMPILED, compile=True),
    _expert("torch-bf16", "PyTorch, bf16", _EAGER, bfloat16=True),
    _expert("torch-bf16-compiled", "PyTorch compiled, bf16", _COMPILED, bfloat16=True, compile=True),
)


def beyond(mkl: Mapping[str, str] | None) -> list[Contestant]:
    """Contestants that are shown and do not count, because nobody is offered them: PyTorch with what makes us fast.

    The last-block saving is ours and can be written in PyTorch as well. MKL, which multiplies float32 matrices for
    PyTorch, leaves AVX-512 aside on AMD; `mkl` is the environment in which it does not (see `mkl_avx512`).
    """
    saving = _expert(
        "torch-compiled-last-block",
        "PyTorch compiled, with our last-block saving",
        _SHOWN,
        rival=False,
        compile=True,
        last_block_rows=True,
    )
    if mkl is None:
        return [saving]
    faster = {**KEEP_MEMORY, **mkl}
    plain = _expert("torch-compiled-mkl", "PyTorch compiled, MKL made to use AVX-512", _SHOWN, False, compile=True)
    both = replace(saving, name="torch-compiled-last-block-mkl", title="PyTorch compiled, with both")
    return [saving, replace(plain, environment=faster), replace(both, environment=faster)]


FILL_MASK = Contestant("ours", "Mini-BERT", f"{_OURS}:FillMask", libraries=("numpy",))

TORCH_FILL_MASK = (
    Contestant(
        "transformers",
        "transformers",
        f"{_TORCH}:UsualFillMask",
        variants=({"threads": 2}, {"threads": 1}),
        libraries=_USUAL_LIBRARIES,
        rival=True,
    ),
    Contestant(
        "torch",
        "PyTorch, masked row only",
        f"{_TORCH}:ExpertFillMask",
        variants=({"threads": 2}, {"threads": 1}),
        libraries=_TORCH_LIBRARIES,
        rival=True,
    ),
    Contestant(
        "torch-compiled",
        "PyTorch compiled, masked row only",
        f"{_TORCH}:ExpertFillMask",
        {"compile": True},
        variants=({"threads": 2}, {"threads": 1}),
        libraries=_TORCH_LIBRARIES,
        rival=True,
    ),
)

EMBEDDING_GRADIENT = tuple(
    Contestant(name, title, f"{_OURS}:EmbeddingGradient", {"way": name}, libraries=("numpy",))
    for name, title in (
        ("sorted", "sort, then np.add.reduceat (ours)"),
        ("add.at", "np.add.at"),
        ("loop", "Python loop"),
    )
)
