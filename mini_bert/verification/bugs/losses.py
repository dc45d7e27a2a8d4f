"""Bugs of the loss: what is summed, and what it is divided by."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Loss"

_OP, _BERT = "ops/cross_entropy.py", "model/bert.py"
_MEAN = "tests/ops/test_op_cross_entropy.py::test_mlm_loss_is_the_mean_over_what_is_read"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="minus-100-as-index",
        title="The label −100 of positions that are not read is used as an index",
        edits=(
            Edit(
                _OP,
                "    read = target_ids != IGNORED if mask_pos is None else _as_bool_mask(mask_pos, target_ids.shape)\n",
                "    read = np.ones(target_ids.shape, bool)\n",
            ),
            Edit(
                _OP,
                "    if targets.size and not (targets.min() >= 0 and targets.max() < V):\n",
                "    if targets.size and targets.max() >= V:\n",
            ),
        ),
        seen="AlkiGit/BERT-NumPy: np.put_along_axis with the labels as they are. Versions that disagree about −1 and "
        "−100: huggingface/transformers #2759, EricFillion/happy-transformer #128, alexa/dialoglue pull request 19.",
        lesson="A negative index counts from the end: −100 is the piece V − 100, a rare word, and the model is trained "
        "to predict it at 85 % of all positions. It is easy to learn, so the loss falls fast and far, the best-looking "
        "curve of all. (Here the training reads only what is hidden and never meets the label; the public loss "
        "function does.) An index that wraps is NumPy's courtesy; check bounds where numbers come in.",
        place="mlm_loss",
        caught_by=_MEAN,
    ),
    Bug(
        name="ignore-index-zero",
        title="The label that is ignored is 0 instead of −100",
        edits=(Edit(_OP, "IGNORED = -100\n", "IGNORED = 0\n"),),
        seen="codertimo/BERT-pytorch #49, #98 and #32: NLLLoss(ignore_index=0) for both losses ignores every “not the "
        "next sentence”, and the accuracy stays at 50 % while the loss goes to 0.",
        lesson="0 is a good label: the first class, the first piece. To ignore it is to never train on it, and a loss "
        "that is only asked about one class becomes perfect by always answering the other. A loss near 0 with an "
        "accuracy of a coin is the sign. Whoever chooses a number for “nothing” must choose one that nothing else "
        "bears.",
        place="mlm_loss",
        caught_by="tests/ops/test_op_ignored_label.py::test_mlm_loss_reads_label_0",
    ),
    Bug(
        name="mean-over-all-positions",
        title="The loss is divided by the number of all positions instead of the hidden ones",
        edits=(
            Edit(
                _BERT,
                "        return loss.item(), targets.size\n",
                "        return loss.item(), batch.input_ids.size\n",
            ),
            Edit(
                _OP,
                "backward(np.asarray(1.0 / targets.size, logits.dtype), saved)",
                "backward(np.asarray(1.0 / target_ids.size, logits.dtype), saved)",
            ),
            Edit(
                _OP,
                "    return float(loss.real) / targets.size, dlogits\n",
                "    return float(loss.real) / target_ids.size, dlogits\n",
            ),
        ),
        seen="AlkiGit/BERT-NumPy divides by labels.size; d2l-ai/d2l-en #2688 (a mean, then a mask that does nothing), "
        "CyberZHG/keras-bert #188, huggingface/transformers #17898.",
        lesson="At a masking rate of 15 % the reported loss is seven times too small: it begins at 0.9 instead of at "
        "ln V, and looks wonderful. Gradients are too small by the same factor, clipping never sets in, and Adam does "
        "not care, so the model is as good as without. The first value of the loss is the test: an untrained model "
        "must know nothing, and knowing nothing costs ln V.",
        place="mlm_loss",
        caught_by=_MEAN,
    ),
    Bug(
        name="double-softmax",
        title="Probabilities are given to a loss that expects scores: softmax twice",
        edits=(
            Edit(
                _BERT,
                "            loss, loss_saved = cross_entropy.forward(logits_MV, targets=targets)\n"
                "            (dlogits_MV,) = cross_entropy.backward(np.ones((), self.dtype), loss_saved)\n",
                "            probs_MV, probs_saved = softmax.forward(logits_MV)\n"
                "            loss, loss_saved = cross_entropy.forward(probs_MV, targets=targets)\n"
                "            (dprobs_MV,) = cross_entropy.backward(np.ones((), self.dtype), loss_saved)\n"
                "            (dlogits_MV,) = softmax.backward(dprobs_MV, probs_saved)\n",
            ),
        ),
        seen="Lightning-Universe/lightning-bolts #654, NVIDIA/DeepLearningExamples #468, ariecattan/SciCo #2 (the loss "
        "can not fall below 0.74), bkitano/llama-from-scratch #5.",
        lesson="Softmax of numbers between 0 and 1 is almost uniform: with V pieces the loss cannot fall below ln(V − "
        "1 + e) − 1, one nat under knowing nothing. The gradient is right for it and tiny. The curve lies flat, which "
        "is blamed on the learning rate. Where a loss starts and how low it could ever go are two numbers worth "
        "knowing before training.",
        place="test_loss_is_that_of_the_loops",
        caught_by="tests/verification/test_oracle_bert.py::test_loss_is_that_of_the_loops[padding and segments]",
    ),
    Bug(
        name="log-of-softmax",
        title="The logarithm is taken of the finished probability",
        edits=(
            Edit(
                _OP,
                "    return np.asarray((np.log(totals[:, 0]) - at_targets).sum()), "
                "Saved(exponentials, totals, targets)\n",
                "    at_targets = (exponentials / totals)[np.arange(targets.size), targets]\n"
                "    return np.asarray(-np.log(at_targets).sum()), Saved(exponentials, totals, targets)\n",
            ),
        ),
        seen="AlkiGit/BERT-NumPy computes logits.softmax().log(); codertimo/BERT-pytorch #49 shows what one then sees "
        "of a training that has come to a halt.",
        lesson="log(softmax(z)) and z − logsumexp(z) are the same in a textbook. In float32 a probability below 10⁻⁴⁵ "
        "is 0, its logarithm −∞, and the loss of one confident mistake is infinite. Before that, from 10⁻⁷ on, it has "
        "few digits left. It needs logits some 100 apart, which no short run has.",
        place="cross_entropy",
        caught_by="tests/ops/test_op_cross_entropy.py::test_logits_of_ten_thousand[float32]",
    ),
)
