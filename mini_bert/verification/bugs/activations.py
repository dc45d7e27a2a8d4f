"""Bugs of the activation functions: a near miss in the value, or a derivative of something else."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Activations"

_GELU, _TABLE = "ops/gelu.py", "model/feed_forward.py"
_DEFINITION = "tests/ops/test_ops_common_suite.py::test_forward_is_what_the_definition_says"
_GRADIENT = "tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step"
_ACTIVATION = "tests/model/test_model_properties.py::test_activation_of_feed_forward_and_head[gelu]"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="gelu-tanh-for-erf",
        title="“gelu” is the tanh approximation instead of the exact function",
        edits=(Edit(_TABLE, '"gelu": gelu,', '"gelu": gelu_new,'),),
        seen="CyberZHG/keras-bert #129, TransformerLensOrg/TransformerLens #596, Blaizzy/mlx-embeddings #81, "
        "kyutai-labs/pocket-tts #278 (“never audible”); the other way round in OpenNMT/CTranslate2 #1658.",
        lesson="The two differ by 4.7e-4 at most. A training cannot tell them apart, and neither can a picture. Each "
        "is right in its own model: Google's first checkpoints were trained with erf, the code on GitHub said tanh "
        "later. An imported model computes nearly the right thing in every layer, and its fourth digit is wrong. The "
        "name of a function is part of a checkpoint; compare values, with a bound below the difference.",
        place="gelu",
        caught_by=_ACTIVATION,
    ),
    Bug(
        name="gelu-mixed",
        title="GELU by tanh in the forward pass, the derivative of the erf form in the backward pass",
        edits=(
            Edit(
                _GELU,
                "    return x * Phi, Saved(Phi + x * phi)\n",
                "    y = 0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x * x * x)))\n"
                "    return y, Saved(Phi + x * phi)\n",
            ),
            Edit(
                _GELU,
                "        np.multiply(xb, Phi, out=y_flat[block])  # (GELU.2)\n",
                "        inner = math.sqrt(2.0 / math.pi) * (xb + 0.044715 * xb * xb * xb)\n"
                "        y_flat[block] = 0.5 * xb * (1.0 + np.tanh(inner))\n",
            ),
        ),
        seen="Common where forward and backward stand in different files or kernels, and one of them is made faster; "
        "facebookresearch/xformers #759 speaks of the two forms side by side.",
        lesson="Each half is right by itself, and each has passed its own tests. Together, the gradient is that of a "
        "function that nobody computes, off by up to one part in a thousand. Checks in float32, with the tolerance "
        "that float32 needs, pass. The complex step sees it at 10⁻³ against 10⁻¹⁶.",
        place="gelu",
        caught_by=f"{_GRADIENT}[0-gelu-unit normal]",
    ),
    Bug(
        name="gelu-sigmoid",
        title="“gelu” is x σ(1.702 x)",
        edits=(
            Edit(
                _GELU,
                "    if x.dtype == np.float32:\n"
                "        return _forward_float32(x)\n"
                "    Phi = 0.5 * (1.0 + erf(x * math.sqrt(0.5)))  # (GELU.1)\n"
                "    phi = np.exp(-0.5 * x * x) * _INVERSE_SQRT_2PI  # (GELU.3)\n",
                "    Phi = 1.0 / (1.0 + np.exp(-1.702 * x))\n    phi = 1.702 * Phi * (1.0 - Phi)\n",
            ),
        ),
        seen="ggml-org/ggml #253 and monatis/clip.cpp #10 (CLIP needs this one and not GELU), ml-explore/mlx #744 "
        "(1.773 where 1.702 was meant).",
        lesson="The quick GELU is off by up to 0.02, forty times as much as the tanh form, and it is no worse as an "
        "activation: a network trained with it is as good. The harm is done at the border, when weights move between "
        "one and the other. Gradients agree with it perfectly. Only a value, looked up elsewhere, is against it.",
        place="gelu",
        caught_by=f"{_DEFINITION}[gelu-unit normal]",
    ),
    Bug(
        name="gelu-derivative-without-density",
        title="The derivative of x Φ(x) is taken as Φ(x)",
        edits=(
            Edit(_GELU, "    return x * Phi, Saved(Phi + x * phi)\n", "    return x * Phi, Saved(Phi)\n"),
            Edit(
                _GELU,
                "        np.add(Phi, phi, out=derivative_flat[block])\n",
                "        derivative_flat[block] = Phi\n",
            ),
        ),
        seen="sony/nnabla #690, neoml-lib/neoml #787 and tenstorrent/tt-metal #35971 are repairs of GELU's backward "
        "pass; the last gave the wrong sign at −3.7.",
        lesson="x is treated as a constant gate and the product rule is forgotten. Φ is positive everywhere, while the "
        "true derivative is negative below −0.75 and above 1 on the right, so the network is told that more is always "
        "better. It trains as well all the same. The slope of GELU at 1 is 1.083, and Φ(1) is 0.841: one number is a "
        "test.",
        place="gelu",
        caught_by=f"{_GRADIENT}[0-gelu-unit normal]",
    ),
    Bug(
        name="relu-for-gelu",
        title="The documentation says GELU, the code computes ReLU",
        edits=(Edit(_TABLE, '"gelu": gelu,', '"gelu": relu,'),),
        seen="AlkiGit/BERT-NumPy (its readme says GELU), timeseriesAI/tsai #361, leffff/graphormer-pyg #23 (no "
        "activation at all).",
        lesson="Not even a bug, if the page said so. ReLU trains as well at this size, and all gradients are right. A "
        "claim that no test repeats is a hope: the values of the activation are compared with x times the normal "
        "distribution, taken from the standard library.",
        place="gelu",
        caught_by=_ACTIVATION,
    ),
    Bug(
        name="tanh-derivative-unsquared",
        title="The derivative of tanh is taken as 1 − y instead of 1 − y²",
        edits=(Edit("ops/tanh.py", "(dy * (1.0 - saved.y * saved.y),)", "(dy * (1.0 - saved.y),)"),),
        seen="microsoft/knossos-ksc #505 (wrong “since they were introduced”), yizt/numpy_neural_network #6 (the "
        "derivative taken at the gradient instead of the value), scutan90/DeepLearning-500-questions #466.",
        lesson="In BERT, tanh stands in one place, the pooler, which masked-language-model training never uses: the "
        "whole pre-training is clean. The bug waits for the first classification. At y = 0 both forms are 1, so near "
        "the initial values the error is small. Test every operation by itself, not only the ones on today's path.",
        place="tanh",
        caught_by=f"{_GRADIENT}[0-tanh-x [3, 4]]",
    ),
)
