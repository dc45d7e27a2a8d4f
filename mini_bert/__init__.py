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
    from mini_bert.analysis.attention_entropy import compute_attention_entropy
    from mini_bert.batch import Batch
    from mini_bert.config.load import load_config
    from mini_bert.config.schema import Config, ModelConfig
    from mini_bert.data.curriculum import implement_curriculum_learning
    from mini_bert.data.masking import mask_tokens
    from mini_bert.errors import MiniBertError
    from mini_bert.evaluation.forgetting import measure_catastrophic_forgetting
    from mini_bert.evaluation.stability import measure_representation_stability
    from mini_bert.inference.pseudo_likelihood import pseudo_log_likelihoods
    from mini_bert.inference.sentence_embeddings import sentence_embeddings
    from mini_bert.model.bert import MiniBERT
    from mini_bert.model.gradients import MiniBERTGradients
    from mini_bert.ops.cross_entropy import mlm_cross_entropy
    from mini_bert.ops.softmax import stable_softmax
    from mini_bert.probing.composition import measure_compositional_understanding
    from mini_bert.probing.facts import probe_factual_knowledge
    from mini_bert.probing.meaning import probe_semantic_knowledge
    from mini_bert.probing.minimal_pairs import probe_minimal_pairs, probe_syntactic_knowledge
    from mini_bert.probing.part_of_speech import probe_part_of_speech
    from mini_bert.text.wordpiece import WordPiece
    from mini_bert.training.adaptive_masking import implement_adaptive_masking
    from mini_bert.training.pretrain import pretrain

__version__ = "0.1.0"

_HOME = {
    "Batch": "mini_bert.batch",
    "Config": "mini_bert.config.schema",
    "MiniBERT": "mini_bert.model.bert",
    "MiniBERTGradients": "mini_bert.model.gradients",
    "MiniBertError": "mini_bert.errors",
    "ModelConfig": "mini_bert.config.schema",
    "WordPiece": "mini_bert.text.wordpiece",
    "compute_attention_entropy": "mini_bert.analysis.attention_entropy",
    "implement_adaptive_masking": "mini_bert.training.adaptive_masking",
    "implement_curriculum_learning": "mini_bert.data.curriculum",
    "load_config": "mini_bert.config.load",
    "mask_tokens": "mini_bert.data.masking",
    "measure_catastrophic_forgetting": "mini_bert.evaluation.forgetting",
    "measure_compositional_understanding": "mini_bert.probing.composition",
    "measure_representation_stability": "mini_bert.evaluation.stability",
    "mlm_cross_entropy": "mini_bert.ops.cross_entropy",
    "pretrain": "mini_bert.training.pretrain",
    "probe_factual_knowledge": "mini_bert.probing.facts",
    "probe_minimal_pairs": "mini_bert.probing.minimal_pairs",
    "probe_part_of_speech": "mini_bert.probing.part_of_speech",
    "probe_semantic_knowledge": "mini_bert.probing.meaning",
    "probe_syntactic_knowledge": "mini_bert.probing.minimal_pairs",
    "pseudo_log_likelihoods": "mini_bert.inference.pseudo_likelihood",
    "sentence_embeddings": "mini_bert.inference.sentence_embeddings",
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
    "compute_attention_entropy",
    "implement_adaptive_masking",
    "implement_curriculum_learning",
    "load_config",
    "mask_tokens",
    "measure_catastrophic_forgetting",
    "measure_compositional_understanding",
    "measure_representation_stability",
    "mlm_cross_entropy",
    "pretrain",
    "probe_factual_knowledge",
    "probe_minimal_pairs",
    "probe_part_of_speech",
    "probe_semantic_knowledge",
    "probe_syntactic_knowledge",
    "pseudo_log_likelihoods",
    "sentence_embeddings",
    "stable_softmax",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'mini_bert' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
