"""Which theorems do the variants of the block fulfil, whatever the weights?

Each says something about one variant, and nothing (None) about the others. They stand in the table of `identities`.
"""

from __future__ import annotations

import numpy as np

from mini_bert.model.bert import MiniBERT
from mini_bert.model.gradients import MiniBERTGradients
from mini_bert.verification.op_identities import apart
from mini_bert.verification.scenario import LOSS, Scenario, as_dtype, full_pass, gradients, readings


def silent_sublayers(scenario: Scenario) -> float | None:
    """Pre-LN, W_O, b_O, W2 and b2 zero: nothing is added to the stream, which stays that of the embeddings."""
    config = scenario.model.config
    if config.norm_placement != "pre":
        return None
    model = as_dtype(scenario.model, np.float64)
    for name, array in model.parameters.items():
        if name.startswith(("W_O_", "b_O_", "W2_", "b2_")):
            array[...] = 0.0
    batch = scenario.batch
    _, cache = model.encode(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    return apart(cache[f"layer_{config.num_hidden_layers - 1}.output"], cache["embeddings.output"])


def open_gates(scenario: Scenario) -> float | None:
    """Gated, W3 zero and b3 one: the plain network, with the same gradients of all that it has."""
    config = scenario.model.config
    if config.feed_forward != "gated" or not config.use_bias:
        return None
    gated = as_dtype(scenario.model, np.float64)
    plain = MiniBERT(config.model_copy(update={"feed_forward": "plain"}), dtype=np.float64)
    for name, array in gated.parameters.items():
        if name.startswith(("W3_", "b3_")):
            array[...] = 1.0 if name.startswith("b") else 0.0
        else:
            plain.parameters[name][...] = array
    of_gated, of_plain = gradients(gated, scenario), gradients(plain, scenario)
    values = [(readings(gated, scenario), readings(plain, scenario)), (of_gated, of_plain)]
    return max(apart(ours[name], theirs[name]) for ours, theirs in values for name in theirs)


def computed_again(scenario: Scenario) -> float | None:
    """Activation checkpointing: how many bits of the loss and its gradients are others."""
    if LOSS not in scenario.cotangents:
        return None
    kept, again = MiniBERTGradients(scenario.model), MiniBERTGradients(scenario.model)
    one = scenario.model.mlm_loss_and_gradients(scenario.batch, kept, scenario.dropout)
    two = scenario.model.mlm_loss_and_gradients(scenario.batch, again, scenario.dropout, activation_checkpointing=True)
    return float(one != two) + float(np.sum(kept.gradients.buffer != again.gradients.buffer))


def final_norm(scenario: Scenario) -> float | None:
    """Pre-LN: the hidden states are of unit mean square before γ and β of the last norm, whatever the stream's size."""
    config, final = scenario.model.config, scenario.model.parameters.final
    if final is None:
        return None
    hidden = full_pass(scenario.model, scenario._replace(dropout=None), None)["encoder.output"]
    before = (hidden if final.beta is None else hidden - final.beta) / final.gamma
    square = (before * before).mean(axis=-1)
    return apart(square, np.ones(square.shape)) if config.layer_norm_eps <= 1e-10 else None
