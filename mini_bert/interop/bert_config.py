"""What does a `config.json` of Hugging Face say in the words of our schema, and ours in theirs?

Field names are theirs. A setting that changes the mathematics and is not here is refused by name; one that does not
(`use_cache`, `torch_dtype`, `transformers_version`, …) is passed over. A variant that is no faithful BERT says so as
`"model_type": "mini-bert"`, which their automatic classes refuse, and names its activation `mini-bert:gelu`, at which
their BERT classes stop: these only warn of a `model_type` that is not theirs, and would compute something else.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from mini_bert.config.schema import ModelConfig
from mini_bert.errors import CheckpointError
from mini_bert.foreign_files import LARGEST_JSON, parse_json, read_regular_file

ARCHITECTURES: dict[str, tuple[str, ...]] = {
    "BertModel": (),
    "BertForMaskedLM": ("mlm",),
    "BertForPreTraining": ("mlm", "nsp"),
    "BertForNextSentencePrediction": ("nsp",),
    "BertForSequenceClassification": ("classifier",),
    "BertForTokenClassification": ("token_classifier",),
}
"""Their classes and our heads."""

_OTHER_HEADS = ("BertForQuestionAnswering", "BertForMultipleChoice")
"""Classes whose encoder is ours and whose head is not."""

CLASSIFIERS = ("classifier", "token_classifier")

ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh", "gelu_python_tanh"), "gelu_new"),
    "relu": "relu",
}
"""Their names of the activations that are here. `gelu_fast` differs from `gelu_new` in the eleventh digit."""

_REQUIRED = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
)
_OPTIONAL = (
    "type_vocab_size",
    "hidden_act",
    "hidden_dropout_prob",
    "attention_probs_dropout_prob",
    "layer_norm_eps",
    "initializer_range",
)
FAITHFUL, VARIANT = "bert", "mini-bert"
"""Values of `model_type`: what transformers computes, and what it does not know."""

_STOPS = f"{VARIANT}:"
"""Put before the name of a variant's activation."""

_VARIANTS = (
    "position_embedding_type",
    "rope_theta",
    "relative_attention_num_buckets",
    "relative_attention_max_distance",
    "attention_gate",
    "feed_forward",
    "norm",
    "norm_placement",
    "use_bias",
)
"""Settings of the architecture that BERT has not; in a folder of ours they are all there, or none is."""

_FAITHFUL = {
    "model_type": FAITHFUL,
    "position_embedding_type": "absolute",
    "attention_gate": "none",
    "feed_forward": "plain",
    "norm": "layer_norm",
    "norm_placement": "post",
    "use_bias": True,
    "is_decoder": False,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "pruned_heads": {},
    "quantization_config": None,
    "auto_map": None,
}
"""Settings that change the mathematics, or say that other code computes it, with the one value that is ours."""


class Declared(NamedTuple):
    """What a folder's `config.json` says of it."""

    config: ModelConfig
    """All that it says of the shape; no heads where it names none."""
    heads: tuple[str, ...] | None
    """None: it does not say."""
    architecture: str | None
    """The class that it names."""
    tied: bool
    """Whether the decoder is the table of token embeddings."""


def architecture_of(heads: Collection[str]) -> str | None:
    """Their class that has just these heads; None where they have none."""
    return next((name for name, own in ARCHITECTURES.items() if set(own) == set(heads)), None)


def model_type(config: ModelConfig) -> str:
    """`bert` for the faithful architecture; `mini-bert` for a variant, which transformers refuses by that name."""
    default = ModelConfig()
    return FAITHFUL if all(getattr(config, name) == getattr(default, name) for name in _VARIANTS) else VARIANT


def to_json(config: ModelConfig, dtype: str, pad_token_id: int) -> dict[str, Any]:
    """The fields of a `config.json`; where no class of theirs has just these heads, `heads` is one of our own.

    How the first values were drawn is not written: it says nothing about these.
    """
    architecture, kind = architecture_of(config.heads), model_type(config)
    fields: dict[str, Any] = {
        "model_type": kind,
        "architectures": [architecture or "BertModel"],
        **{name: getattr(config, name) for name in (*_REQUIRED, *_OPTIONAL)},
        **({"hidden_act": _STOPS + config.hidden_act} if kind == VARIANT else {}),
        **{name: getattr(config, name) for name in (_VARIANTS if kind == VARIANT else ())},
        "pad_token_id": pad_token_id,
        "tie_word_embeddings": True,
        "dtype": dtype,
    }
    if architecture is None:
        fields["heads"] = list(config.heads)
    if any(head in config.heads for head in CLASSIFIERS):
        fields["id2label"] = {str(number): label for number, label in enumerate(config.label_names)}
        fields["label2id"] = {label: number for number, label in enumerate(config.label_names)}
    return fields


def read(path: Path, wanted: Collection[str] | None = None) -> Declared:
    """A `config.json`, checked; `wanted` are the heads that the caller asks for, if any.

    Raises:
        CheckpointError: it is not there, no JSON, or not the configuration of a BERT that can be computed here.
    """
    fields = _fields(path)
    variant = _is_variant(fields, path)
    act = fields.get("hidden_act", "gelu")
    if variant and isinstance(act, str):
        act = act.removeprefix(_STOPS)
    if not isinstance(act, str) or act not in ACTIVATIONS:
        raise CheckpointError(f"hidden_act in {path}", got=f"{act!r:.80}", expected=f"one of {', '.join(ACTIVATIONS)}")
    architecture, heads = _architecture(fields, path, wanted)
    num_labels, labels = _labels(fields, path, strict=heads is None or any(head in heads for head in CLASSIFIERS))
    settings = {name: fields[name] for name in (*_REQUIRED, *_OPTIONAL) if name in fields}
    settings |= {name: fields[name] for name in (_VARIANTS if variant else ())}
    settings |= {"hidden_act": ACTIVATIONS[act], "num_labels": num_labels, "labels": labels, "heads": heads or ()}
    try:
        config = ModelConfig(**settings)
    except ValueError as error:
        raise CheckpointError(
            str(path),
            got=f"a setting that is refused ({error})",
            expected="a variant that there is" if variant else "a faithful BERT",
        ) from error
    return Declared(config, heads, architecture, fields.get("tie_word_embeddings") is not False)


def _is_variant(fields: dict[str, Any], path: Path) -> bool:
    """Whether it is a variant of ours, and no faithful BERT.

    Raises:
        CheckpointError: it is neither, or it does not say enough of itself.
    """
    variant = fields.get("model_type") == VARIANT
    needed = (*_REQUIRED, *_VARIANTS) if variant else _REQUIRED
    for name, value in _FAITHFUL.items():
        allowed = variant and name in ("model_type", *_VARIANTS)
        if not allowed and fields.get(name, value) not in (value, None):
            advice = f"Only the faithful BERT loads, and variants of model_type {VARIANT}."
            raise CheckpointError(f"{name} in {path}", got=f"{fields[name]!r:.80}", expected=repr(value), advice=advice)
    absent = [name for name in needed if name not in fields]
    if absent:
        expected = f"all settings of a model of type {VARIANT}" if variant else "the configuration of a BERT"
        raise CheckpointError(str(path), got=f"no {absent[0]}", expected=expected)
    return variant


def _fields(path: Path) -> dict[str, Any]:
    try:
        fields = parse_json(read_regular_file(path, LARGEST_JSON))
    except OSError as error:
        named_as_google_does = (path.parent / "bert_config.json").is_file()
        raise CheckpointError(
            str(path),
            got=error.strerror,
            expected="the config.json of a model folder",
            advice="Rename bert_config.json to config.json."
            if named_as_google_does
            else "Name a checkpoint, a Hugging Face folder or a run.",
        ) from error
    except ValueError as error:
        raise CheckpointError(str(path), got=f"no JSON ({error})", expected="the configuration of a BERT") from error
    if not isinstance(fields, dict):
        raise CheckpointError(str(path), got=f"a JSON {type(fields).__name__}", expected="a JSON object")
    return fields


def _architecture(
    fields: dict[str, Any], path: Path, wanted: Collection[str] | None
) -> tuple[str | None, tuple[str, ...] | None]:
    """The class that is named, and its heads; nothing, where none is named."""
    names = fields.get("architectures") or None
    if names is not None and not (isinstance(names, list) and isinstance(names[0], str)):
        raise CheckpointError(f"architectures in {path}", got=f"{names!r:.80}", expected="a list of names")
    architecture = names[0] if names else None
    if "heads" in fields:
        heads = fields["heads"]
        return architecture, tuple(heads) if isinstance(heads, list) else (heads,)
    if architecture is None:
        return None, None
    if architecture in ARCHITECTURES:
        return architecture, ARCHITECTURES[architecture]
    encoder_is_ours = architecture in _OTHER_HEADS
    if encoder_is_ours and wanted is not None:
        return architecture, ()
    raise CheckpointError(
        f"architectures in {path}",
        got=f"{architecture!r:.80}",
        expected=f"one of {', '.join(ARCHITECTURES)}",
        advice="Its encoder alone can be read: heads=()." if encoder_is_ours else "",
    )


def _labels(fields: dict[str, Any], path: Path, *, strict: bool) -> tuple[Any, tuple[str, ...]]:
    """How many classes there are, and their names; no names where they are but LABEL_0, LABEL_1, …

    Where no classifier reads them, labels that cannot be understood do no harm, unless `strict`.
    """
    names = fields.get("id2label")
    if not isinstance(names, dict) or not names:
        return 2 if fields.get("num_labels") is None else fields["num_labels"], ()
    try:
        by_number = {int(number): str(label) for number, label in names.items()}
    except ValueError:
        by_number = {}
    if sorted(by_number) != list(range(len(names))):
        if strict:
            raise CheckpointError(
                f"id2label in {path}", got=f"{names!r:.80}", expected=f"names for the numbers 0 to {len(names) - 1}"
            )
        return len(names), ()
    labels = tuple(by_number[number] for number in range(len(names)))
    return len(labels), () if labels == tuple(f"LABEL_{number}" for number in range(len(labels))) else labels
