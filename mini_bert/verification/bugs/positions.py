"""Bugs of positions in attention: whose place, which way round, and how far."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Positions in attention"

_VARIANTS = "tests/model/test_model_attention_variants.py"
_GRADIENT = "tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="queries-counted-from-zero",
        title="Where only some queries are computed, they are turned as if they stood at 0, 1, 2 …",
        edits=(
            Edit(
                "model/positions.py",
                "    return None if read is None else read.places_in_row(run.T)[:, None, :]\n",
                "    return None if read is None else np.arange(read.shape[1])[None, None, :]\n",
            ),
        ),
        seen="pytorch/executorch #2010 (the branch with a cache of keys took the first rows of the table), "
        "lucidrains/rotary-embedding-torch #11 (a cache that forgot the offset), ml-explore/mlx-lm #1396.",
        lesson="A table of positions is added before anything is left out, and so nobody has to remember where a token "
        "stood. Positions in attention are needed later, when a query may be one of a few: the masked tokens of the "
        "last block here, the newest token of a generation elsewhere. Shapes fit, values are plausible, and training "
        "goes on: the loss falls, since the other blocks are right. Compute everything and compare with what was "
        "computed of a part.",
        place="rotary",
        caught_by=f"{_VARIANTS}::test_computing_only_what_the_loss_reads_is_exact[no dropout-ragged-rotary, no gate]",
    ),
    Bug(
        name="rotary-backward-not-turned-back",
        title="The backward pass of rotary embeddings turns gradients forward once more",
        edits=(
            Edit(
                "ops/rotary.py",
                "    return (_turned(dy, saved.turns.conj()),)\n",
                "    return (_turned(dy, saved.turns),)\n",
            ),
        ),
        seen="PaddlePaddle/Paddle #74716 (the factor with the sine on the wrong side of the rotation in a fused "
        "backward pass; its test used tables for which both are the same). huggingface/candle #3612 had no gradient at "
        "all there.",
        lesson="A rotation keeps lengths whichever way it goes, so norms of gradients look right to the last digit. At "
        "position 0 they are right; at others W_Q and W_K learn from a gradient that has been turned away from where "
        "it should point, by twice the angle, and the slow pairs hardly. The transpose of a rotation is the rotation "
        "back: a derivative that nobody derived says so at once.",
        place="rotary",
        caught_by=f"{_GRADIENT}[0-rotary-one after the other]",
    ),
    Bug(
        name="alibi-slopes-one-too-steep",
        title="ALiBi's slopes begin at 1 instead of 2^(−8/A)",
        edits=(
            Edit(
                "ops/alibi.py",
                "    whole = 2.0 ** (-8.0 * np.arange(1, power + 1) / power)\n",
                "    whole = 2.0 ** (-8.0 * np.arange(power) / power)\n",
            ),
        ),
        seen="paiml/aprender #2143 (exponents h instead of h + 1). For numbers of heads that are no power of two: "
        "ml-explore/mlx #3071, huggingface/transformers #28380.",
        lesson="The paper counts heads from 1, and arrays count from 0. Every slope is too steep by the same factor, "
        "so that heads see less far than they should; they still learn, and nothing in a loss says what slopes were "
        "meant. Weights that were trained with other slopes give worse text and no error. Nothing is differentiated "
        "here, so no gradient check can see it: pin the numbers of the paper.",
        place="slopes",
        caught_by="tests/ops/test_op_positions.py::test_slopes[4-exponents2]",
    ),
    Bug(
        name="shared-table-overwritten",
        title="Each layer writes its gradient to the one table of position biases instead of adding",
        edits=(
            Edit(
                "model/positions.py",
                "    grads.relative_bias[...] += dtable  # one table: each layer adds\n",
                "    grads.relative_bias[...] = dtable  # one table: each layer adds\n",
            ),
        ),
        seen="Common in hand-written backward passes where a parameter that is used once is assigned, and then comes "
        "to be shared between layers; the same class of fault as a tied decoder of which one gradient is lost.",
        lesson="What is left is the gradient of the first layer alone, the last one to be computed. With one layer it "
        "is right, and a test with one layer passes. Adam takes out the size, so the table still moves, and in a "
        "direction that is half right. A second pass that adds to the first would have shown it too: gradients of two "
        "batches are then those of the second.",
        place="relative_bias",
        caught_by=f"{_VARIANTS}::test_layers_share_one_table_of_biases",
    ),
)
