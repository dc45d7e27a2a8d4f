"""Bugs of dropout: how much, when, and which elements."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Dropout"

_OP = "ops/dropout.py"
_DEFINITION = "tests/ops/test_ops_common_suite.py::test_forward_is_what_the_definition_says"
_GRADIENT = "tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="dropout-not-rescaled",
        title="What is kept is not scaled up by 1 / (1 − p)",
        edits=(
            Edit(
                _OP,
                "    saved = Saved(keep, _LEVELS / (_LEVELS - threshold))\n",
                "    saved = Saved(keep, 1.0)\n",
            ),
        ),
        seen="kaldi-asr/kaldi #2814 (scaled by 1/p), ayrna/dlordinal #138, clab/dynet #186 (two conventions, and users "
        "who apply both).",
        lesson="Training sees sums that are smaller by p than those at inference. LayerNorm takes most of that out "
        "again, so the loss in training is as good as ever; the gap opens between training and held-out text, where "
        "one looks for overfitting. The mean of dropped-out ones has to be 1: that is all the test there is.",
        place="dropout",
        caught_by=f"{_DEFINITION}[dropout-p 0.5]",
    ),
    Bug(
        name="dropout-keeps-p",
        title="The dropout rate is taken for the probability of keeping",
        edits=(
            Edit(
                _OP,
                "    threshold = min(round(p * _LEVELS), _LEVELS - 1)\n",
                "    threshold = min(round((1.0 - p) * _LEVELS), _LEVELS - 1)\n",
            ),
        ),
        seen="pudae/tensorflow-densenet #22, titu1994/Inception-v4 #5, aymericdamien/TensorFlow-Examples #205, "
        "v-iashin/CS231n #8. TensorFlow 1 had both: tf.nn.dropout(keep_prob) and tf.layers.dropout(rate).",
        lesson="At p = 0.5, the number in every example, both are the same. At BERT's 0.1, nine tenths are gone and "
        "the rest is ten times as large. The model still learns frequencies, which need no input, so the loss falls "
        "and then stays; held-out loss, without dropout, is better than in training. Test with a p that is not one "
        "half.",
        place="dropout",
        caught_by=f"{_DEFINITION}[dropout-p 0.1]",
    ),
    Bug(
        name="dropout-fresh-mask-backward",
        title="The backward pass draws a mask of its own",
        edits=(
            Edit(
                _OP,
                "    return (_scale(dy, saved),)\n",
                "    if saved.keep is None:\n"
                "        return (dy,)\n"
                "    keep = np.random.default_rng().random(dy.shape) < 1.0 / saved.scale\n"
                "    return (_scale(dy, saved._replace(keep=keep)),)\n",
            ),
        ),
        seen="allenai/OLMo-core #828 (loss 2.49 instead of 2.19), openai/guided-diffusion #167, pytorch/pytorch "
        "#190717 and #190758: recomputation in the backward pass with another state of the random numbers.",
        lesson="On average over draws the gradient has the right size, and half of it is right, so training goes on "
        "and only ends worse; at rates above 0.1 it may diverge. A gradient check without dropout passes, and one with "
        "dropout needs draws that can be repeated: here a draw is a pure function of seed, site, step and row, so both "
        "passes, and any number of them, see the same.",
        place="dropout",
        caught_by=f"{_GRADIENT}[0-dropout-p 0.5]",
    ),
    Bug(
        name="dropout-mask-shared",
        title="Every site of the residual stream draws the same mask",
        edits=(
            Edit(
                "model/forward_pass.py",
                "stream=self.dropout.at(site), first_row",
                "stream=self.dropout, first_row",
            ),
        ),
        seen="Dao-AILab/flash-attention #314 (consecutive calls used an identical mask), PaddlePaddle/Paddle #7796 "
        "(always the same seed), NervanaSystems/ngraph #3006 (one sequence a thread).",
        lesson="The same channels of the same token are silenced behind every sublayer. Whatever takes part in a step "
        "is never without its companions, so the network is thinned instead of averaged. Rates, scales and gradients "
        "are all right, and the loss falls. Seeded random numbers make it easy: one seed, many sites.",
        place="sites",
        caught_by="tests/model/test_model_dropout.py::test_sites_of_the_encoder",
    ),
    Bug(
        name="dropout-at-inference",
        title="Dropout is on while the model is scored",
        edits=(
            Edit(
                "model/bert.py",
                "            return self._mlm_forward(batch, None, tap)[0]\n",
                '            return self._mlm_forward(batch, RandomStream(0, "dropout"), tap)[0]\n',
            ),
        ),
        seen="karpathy/nanoGPT #240 (“calling functional directly considered dangerous”), ipolharvard/ethos-ares #20, "
        "meta-pytorch/torchtune #1049, huggingface/transformers #695.",
        lesson="Training is right; every number that is reported about it is a little worse than the truth, and the "
        "best checkpoint is chosen by noise. In frameworks with a mode, forgetting to change the mode is enough. Two "
        "calls on one input giving two results would show it, unless, as here, the draw is seeded: then only the "
        "comparison with the plain forward pass does.",
        place="mlm_logits",
        caught_by="tests/model/test_model_masked_rows.py::test_mlm_logits_are_rows_of_forward[ragged]",
    ),
    Bug(
        name="dropout-scale-lost-backward",
        title="The backward pass applies the mask and forgets the factor",
        edits=(
            Edit(
                _OP,
                "    return (_scale(dy, saved),)\n",
                "    return (dy if saved.keep is None else dy * saved.keep,)\n",
            ),
        ),
        seen="Common in course work, where the mask is stored as 0 and 1 and the scaling stands in another line of the "
        "forward pass (mantasu/cs231n #15 is about the two versions).",
        lesson="The gradient through each sublayer is too small by 1 − p, that along the residual stream is right. The "
        "balance shifts by a tenth, which no curve shows. Store the factor with the mask, and apply both by one "
        "function in both directions.",
        place="dropout",
        caught_by=f"{_GRADIENT}[0-dropout-p 0.1]",
    ),
)
