"""Bugs of the block's variants: pre-LN, gated feed-forward networks, blocks that are computed again."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Variants of the block"

_PRE, _GATED = "model/pre_norm_block.py", "model/gated_feed_forward.py"
_FORWARD = "tests/model/test_model_composites.py::test_forward_of_a_composite_is_what_the_loops_say"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="checkpointed-block-drops-others",
        title="A block that is computed again draws another dropout mask",
        edits=(
            Edit(
                "model/bert.py",
                '                _, kept = blocks.block_forward(kept, layer, config, saved.run, f"layer_{i}", read)\n',
                '                other = saved.run.dropout and saved.run.dropout.at("again")\n'
                "                again = saved.run._replace(dropout=other)\n"
                '                _, kept = blocks.block_forward(kept, layer, config, again, f"layer_{i}", read)\n',
            ),
        ),
        seen="allenai/OLMo-core #828 (the loss moved by 0.3 when checkpointing was switched off), "
        "openai/guided-diffusion #167, ankanbhunia/PIDM #66, pytorch/pytorch #190717 and #190758; the reason for "
        "preserve_rng_state, pytorch/pytorch #14253.",
        lesson="The loss is that of one network and the gradient that of another, with other units missing. On average "
        "over masks it is not even far off, so the training goes on and is only worse. Whoever has no dropout never "
        "meets it, and a setting that is said to cost time and nothing else is the last that one suspects. Ask for the "
        "same bits with and without, with dropout on; a tolerance would have to be wide enough to let this through.",
        place="activation_checkpointing",
        caught_by="tests/model/test_model_activation_checkpointing.py::test_the_same_bits[dropout-faithful]",
    ),
    Bug(
        name="pre-norm-residual-behind-the-norm",
        title="In the pre-LN block, the residual is what the attention reads instead of what the norm reads",
        edits=(
            Edit(
                _PRE,
                "    u = a + (x_BTH if read is None else read.gather(x_BTH))\n",
                "    u = a + (n_BTH if read is None else read.gather(n_BTH))\n",
            ),
            Edit(
                _PRE,
                "    if read is not None:\n"
                "        assert dqueries_MH is not None\n"
                "        read.scatter_add(dn_BTH, dqueries_MH)\n",
                "    if read is None:\n"
                "        dn_BTH += du\n"
                "    else:\n"
                "        assert dqueries_MH is not None\n"
                "        read.scatter_add(dn_BTH, dqueries_MH + du)\n",
            ),
            Edit(
                _PRE,
                "    if read is None:\n"
                "        dx_BTH += du  # the residual path\n"
                "    else:\n"
                "        read.scatter_add(dx_BTH, du)\n"
                "    return dx_BTH\n",
                "    return dx_BTH\n",
            ),
        ),
        seen="pytorch/pytorch #61165 (the first norm_first), tracel-ai/burn #1056, dmlc/gluon-nlp #1488, "
        "Howuhh/faster-trajectory-transformer #3.",
        lesson="x = norm(x), then x + attention(x): one variable is reused, and the straight way through the network, "
        "for which pre-LN was made, is gone. All shapes and gradients are right, and it trains. Deep models need the "
        "warm-up again that pre-LN was to spare. Set every sublayer's output to 0: the stream has to come out as it "
        "went in, to the bit.",
        place="pre_norm_block",
        caught_by=f"{_FORWARD}[pre_norm_block]",
    ),
    Bug(
        name="gate-activated",
        title="The activation is put on the gate instead of on its partner",
        edits=(
            Edit(_GATED, "linear.forward(x, params.W1, params.b1)", "linear.forward(x, params.W3, params.b3)"),
            Edit(
                _GATED,
                "gate, third_saved = linear.forward(x, params.W3, params.b3)",
                "gate, third_saved = linear.forward(x, params.W1, params.b1)",
            ),
            Edit(
                _GATED,
                "    grads.W1[...] += dW1\n    add_gradient(grads.b1, db1)\n",
                "    grads.W3[...] += dW1\n    add_gradient(grads.b3, db1)\n",
            ),
            Edit(
                _GATED,
                "    grads.W3[...] += dW3\n    add_gradient(grads.b3, db3)\n",
                "    grads.W1[...] += dW3\n    add_gradient(grads.b1, db3)\n",
            ),
        ),
        seen="ml-explore/mlx-lm #767, lucidrains/x-transformers #9, ooples/AiDotNet.Tensors #46.",
        lesson="The two matrices have the same shape and begin from the same distribution, so a network that is "
        "trained from nothing is as good with them exchanged: only the names are wrong. The day somebody opens a "
        "checkpoint of another program, or is opened by one, every layer computes nonsense that is finite and has the "
        "right shape. A name in a file is a claim about an equation; compare values with code that nobody here wrote.",
        place="gated_feed_forward",
        caught_by=f"{_FORWARD}[gated_feed_forward]",
    ),
)
