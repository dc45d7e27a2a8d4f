"""Bugs of LayerNorm, and of where the residual stream is normalised."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Layer normalisation and residuals"

_OP, _BLOCK = "ops/layer_norm.py", "model/block.py"
_DEFINITION = "tests/ops/test_ops_common_suite.py::test_forward_is_what_the_definition_says"
_GRADIENT = "tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="layer-norm-mean-dropped",
        title="The backward pass forgets that the mean depends on the input",
        edits=(Edit(_OP, "    dx -= mean\n", ""),),
        seen="tenstorrent/tt-metal #53204 (the mean was subtracted twice: “silent, loss still decreases”), "
        "pjreddie/darknet #1634 and AlexeyAB/darknet #4605 (terms missing in the batch norm that this grew from).",
        lesson="Three paths lead from x to y: directly, through the mean, and through the deviation. Leaving one out "
        "keeps the direction of the gradient roughly right, and the loss falls. What is lost is an identity: a "
        "LayerNorm cannot see a shift of its whole row, so its gradient must sum to 0. Twenty-five of these stand in "
        "the encoder of a BERT with 12 layers, and the faults add up on the way down.",
        place="layer_norm",
        caught_by=f"{_GRADIENT}[0-layer_norm-x [3, 8]]",
    ),
    Bug(
        name="layer-norm-projection-dropped",
        title="The backward pass forgets that the deviation depends on the input",
        edits=(Edit(_OP, "    dx -= x_hat * projection\n", ""),),
        seen="pjreddie/darknet #1634, mlpack/mlpack #2474 (a term of the batch norm's backward pass was wrong for "
        "years), tenstorrent/tt-metal #53204.",
        lesson="The missing term is the one that stops a row from growing: a LayerNorm does not see the scale of its "
        "input, so its gradient must be orthogonal to it. Without the term, activations before each norm are pushed "
        "outward at every step, for no gain. Here it costs the training all but the frequencies. The identity Σ dx x̂ "
        "= 0 finds it without any reference.",
        place="layer_norm",
        caught_by=f"{_GRADIENT}[0-layer_norm-x [3, 8]]",
    ),
    Bug(
        name="layer-norm-gamma-dropped",
        title="The backward pass forgets the factor γ",
        edits=(Edit(_OP, "    dx = dy * gamma  # (LN.6)\n", "    dx = dy.copy()\n"),),
        seen="mlpack/mlpack #1327 brought γ into the backward pass of the batch norm, found by a gradient check; "
        "Oneflow-Inc/oneflow #6149: gradients of γ and β exchanged.",
        lesson="γ begins as 1, so in a fresh model this bug does nothing at all: a gradient check on initial values "
        "passes to the last digit. It grows with training, as γ leaves 1. Check gradients away from the initial "
        "values, where biases are not 0 and scales not 1; here every test moves all parameters first.",
        place="layer_norm",
        caught_by=f"{_GRADIENT}[0-layer_norm-x [3, 8]]",
    ),
    Bug(
        name="epsilon-outside-root",
        title="ε is added to the deviation instead of to the variance",
        edits=(
            Edit(
                _OP,
                "    inverse_deviation = 1.0 / np.sqrt(variance + eps)\n",
                "    inverse_deviation = 1.0 / (np.sqrt(variance) + eps)\n",
            ),
        ),
        seen="codertimo/BERT-pytorch #30 (copied from the Annotated Transformer), hyunwoongko/transformer #7, "
        "hkproj/pytorch-transformer #31.",
        lesson="With ε = 10⁻¹² and rows of ordinary size the two agree to twelve digits, and with 10⁻⁵ still to five: "
        "no training will ever show it. It matters for rows that are nearly constant, where the gradient of the root "
        "at 0 is infinite and only an ε inside keeps it finite. Test with an ε that is as large as the variance.",
        place="layer_norm-epsilon that matters",
        caught_by=f"{_DEFINITION}[layer_norm-epsilon that matters]",
    ),
    Bug(
        name="variance-unbiased",
        title="The variance is divided by H − 1 instead of H",
        edits=(
            Edit(
                _OP,
                "    variance = row_dots(x_hat, x_hat) / H  # (LN.2)\n",
                "    variance = row_dots(x_hat, x_hat) / (H - 1)  # (LN.2)\n",
            ),
            Edit(
                _OP,
                "    projection = row_dots(dx, x_hat) / H\n",
                "    projection = row_dots(dx, x_hat) / (H - 1)\n",
            ),
        ),
        seen="harvardnlp/annotated-transformer #119 and #122 (torch.std has Bessel's correction by default), "
        "allenai/allennlp #953.",
        lesson="Statistics courses teach n − 1, NumPy's default is n, PyTorch's is n − 1. At H = 768 the factor is "
        "1.0007, which γ absorbs within a few steps; forward and backward agree with each other. It stays as a small "
        "distance from every published checkpoint, and as an hour of somebody's life.",
        place="layer_norm",
        caught_by=f"{_DEFINITION}[layer_norm-x [3, 8]]",
    ),
    Bug(
        name="layer-norm-epsilon-1e-5",
        title="The blocks use PyTorch's ε of 10⁻⁵ instead of the configured one",
        edits=(
            Edit(
                _BLOCK,
                "    p = config.hidden_dropout_prob\n    a, attention_saved",
                "    p = config.hidden_dropout_prob\n"
                '    config = config.model_copy(update={"layer_norm_eps": 1e-5})\n'
                "    a, attention_saved",
            ),
        ),
        seen="keras-team/keras-hub #642 (right in the embeddings, 1e-5 in every block), nomic-ai/gpt4all #1946, "
        "idiap/fast-transformers #103, lucidrains/x-transformers #37.",
        lesson="A default that nobody typed. For rows of ordinary size the difference is in the sixth digit, a "
        "training does not notice, and a comparison with a tolerance of 10⁻³ passes. It is the usual reason why an "
        "imported BERT agrees to three digits and not to six, and then everybody blames float32. Compare in float64, "
        "where the excuse is gone.",
        place="block",
        caught_by="tests/model/test_model_composites.py::test_forward_of_a_composite_is_what_the_loops_say[block]",
    ),
    Bug(
        name="residual-around-the-norm",
        title="The second residual is taken before the LayerNorm instead of behind it",
        edits=(
            Edit(
                _BLOCK,
                '    sum2 = run.tap(f"{name}.feed_forward.sum", f + u)\n',
                '    sum2 = run.tap(f"{name}.feed_forward.sum", f + sum1)\n',
            ),
            Edit(_BLOCK, "    du += dsum2  # the residual path\n", ""),
            Edit(
                _BLOCK,
                '    dsum1 = run.tap(f"{name}.attention.sum", dsum1)\n',
                '    dsum1 = run.tap(f"{name}.attention.sum", dsum1 + dsum2)\n',
            ),
        ),
        seen="NVIDIA-NeMo/Speech #4350 (“Fix the post LN bug”, this very line), pytorch/pytorch #61165, "
        "SHI-Labs/Compact-Transformers #25, lbcb-sci/RiNALMo #9: pre-LN and post-LN mixed up.",
        lesson="Pre-LN and post-LN differ in where the residual branches off, one variable name in the code. The "
        "mixture is a network too: it trains, its gradients are right, and its loss may be as good. It is not BERT, "
        "and no BERT's weights fit. Say it as an equation between intermediates, sum = stream + projection, and test "
        "that.",
        place="residual",
        caught_by="tests/model/test_model_properties.py::test_residual_stream_is_a_sum",
    ),
)
