"""Mini-BERT: a complete BERT whose every forward and backward formula is written out by hand in NumPy.

Dimension key, used as suffixes on arrays of rank two and more:

    B  batch rows                      A  attention heads, 4
    T  tokens in a row, 64             K  width of a head, H / A = 48
    S  key tokens (= T)                I  width of the feed-forward network, 768
    R  flattened rows, B * T           V  pieces in the vocabulary, 8192
    H  width of the residual stream,   M  masked positions
       192                             L  blocks, 3

The gradient of `x` is `dx`, everywhere. Weights are `[in, out]` and used as `x @ W + b`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mini_bert.batch import Batch
    from mini_bert.config.load import load_config
    from mini_bert.config.schema import Config, ModelConfig
    from mini_bert.data.curriculum import implement_curriculum_learning
    from mini_bert.data.masking import mask_tokens
    from mini_bert.errors import MiniBertError
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.gradients import MiniBERTGradients
    from mini_bert.ops.cross_entropy import mlm_cross_entropy
    from mini_bert.ops.softmax import stable_softmax
    from mini_bert.text.wordpiece import WordPiece
    from mini_bert.training.adaptive_masking import implement_adaptive_masking
    from mini_bert.training.pretrain import pretrain

__version__ = "0.1.0"

_HOME = {
    "Batch": "mini_bert.batch",
    "Config": "mini_bert.config.schema",
    "ModelConfig": "mini_bert.config.schema",
    "MiniBERT": "mini_bert.model.bert",
    "MiniBERTGradients": "mini_bert.model.gradients",
    "MiniBertError": "mini_bert.errors",
    "WordPiece": "mini_bert.text.wordpiece",
    "implement_adaptive_masking": "mini_bert.training.adaptive_masking",
    "implement_curriculum_learning": "mini_bert.data.curriculum",
    "load_config": "mini_bert.config.load",
    "mask_tokens": "mini_bert.data.masking",
    "mlm_cross_entropy": "mini_bert.ops.cross_entropy",
    "pretrain": "mini_bert.training.pretrain",
    "stable_softmax": "mini_bert.ops.softmax",
}

__all__ = [
    "Batch",
    "Config",
    "MiniBERT",
    "MiniBERTGradients",
    "MiniBertError",
    "ModelConfig",
    "WordPiece",
    "implement_adaptive_masking",
    "implement_curriculum_learning",
    "load_config",
    "mask_tokens",
    "mlm_cross_entropy",
    "pretrain",
    "stable_softmax",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mini_bert' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
