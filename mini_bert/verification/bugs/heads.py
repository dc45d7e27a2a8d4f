"""Bugs of the heads: which rows they read, and what they add."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Heads"

_HEADS, _READING = "model/heads.py", "model/forward_pass.py"
_FORWARD = "tests/model/test_model_composites.py::test_forward_of_a_composite_is_what_the_loops_say"
_GRADIENT = "tests/model/test_model_composites.py::test_gradients_of_a_composite_by_complex_step"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="decoder-bias-missing",
        title="The decoder has no bias",
        edits=(
            Edit(_HEADS, "    logits += head.b_vocabulary\n", ""),
            Edit(_HEADS, "    head.b_vocabulary[...] += dlogits.sum(axis=0)\n", ""),
        ),
        seen="vllm-project/vllm #46835 (not applied for tied embeddings), huggingface/transformers #7167 (not in the "
        "file, so made anew), deepset-ai/FARM #533.",
        lesson="The bias is how a model says how frequent each piece is, before it has read anything: the first thing "
        "that training learns. Without it the same has to go through a direction of the hidden state, which even this "
        "small model has learned within a hundred steps. Nothing shows. An imported model prefers rare words a little "
        "too much.",
        place="mlm",
        caught_by=f"{_FORWARD}[mlm]",
    ),
    Bug(
        name="decoder-bias-twice",
        title="The decoder's bias is added twice",
        edits=(
            Edit(
                _HEADS,
                "    logits += head.b_vocabulary\n",
                "    logits += head.b_vocabulary\n    logits += head.b_vocabulary\n",
            ),
            Edit(
                _HEADS,
                "    head.b_vocabulary[...] += dlogits.sum(axis=0)\n",
                "    head.b_vocabulary[...] += 2.0 * dlogits.sum(axis=0)\n",
            ),
        ),
        seen="huggingface/transformers #2957 and #2928: in version 2.4.0 the bias became part of the linear layer and "
        "was still added behind it.",
        lesson="A model trained so learns half the bias, and nobody will ever know. One trained elsewhere and opened "
        "here exaggerates frequencies: its answers are more common words than they should be, and still words. "
        "Released, with tests, in the most used library of the field: the tests compared the model with itself.",
        place="mlm",
        caught_by=f"{_FORWARD}[mlm]",
    ),
    Bug(
        name="pooler-reads-last-token",
        title="The pooler reads the last token instead of [CLS]",
        edits=(
            Edit(_HEADS, "linear.forward(x_BTH[:, 0], params.pooler.W", "linear.forward(x_BTH[:, -1], params.pooler.W"),
            Edit(_HEADS, "        dx_BTH[:, 0] = dfirst_BH", "        dx_BTH[:, -1] = dfirst_BH"),
        ),
        seen="allenai/allennlp #4474 (cls_is_last_token was set for RoBERTa); with left padding the same happens by "
        "itself: huggingface/sentence-transformers #3767.",
        lesson="Attention carries everything everywhere, so the last token can learn to do the job of the first, and "
        "fine-tuning ends a point or two lower. In a padded batch the last token is padding. The check is to disturb "
        "one position after the other, and to see which of them the result depends on directly.",
        place="pooler",
        caught_by="tests/model/test_model_public_face.py::test_pooler_reads_the_first_token_alone",
    ),
    Bug(
        name="nsp-gradient-cut",
        title="The sentence head learns, and nothing of it reaches the encoder",
        edits=(Edit(_HEADS, "        dx_BTH[:, 0] = dfirst_BH  # only [CLS] was read\n", ""),),
        seen="AlkiGit/BERT-NumPy wraps x.data[:, 0] in a new tensor before the head.",
        lesson="A classifier on frozen features: it reaches a respectable accuracy, and the encoder it was meant to "
        "teach stays as it was. The loss of the other task goes on falling and hides it. Gradients of the encoder "
        "under this loss alone are exactly 0, and exact zeros are always worth a question.",
        place="nsp",
        caught_by=f"{_GRADIENT}[nsp]",
    ),
    Bug(
        name="gather-without-row-offset",
        title="Hidden positions are read from the first row of the batch, whatever their own row",
        edits=(
            Edit(
                _READING,
                "        return x_BTH.reshape(-1, x_BTH.shape[-1])[self.positions]\n",
                "        return x_BTH.reshape(-1, x_BTH.shape[-1])[self.positions % x_BTH.shape[1]]\n",
            ),
            Edit(
                _READING,
                "        dx_BTH.reshape(-1, dx_BTH.shape[-1])[self.positions] += dx_MH\n",
                "        flat = dx_BTH.reshape(-1, dx_BTH.shape[-1])\n"
                "        np.add.at(flat, self.positions % dx_BTH.shape[1], dx_MH)\n",
            ),
        ),
        seen="violet-zct/pytorch_NMT #10 (the offset counted rows of another length), RUCAIBox/RecBole #1113 (a "
        "position beside the right one, “approximately right evaluation results”). BERT's own gather_indexes adds the "
        "offsets in a line of its own.",
        lesson="To read some positions out of a flattened batch one needs b T + t, and t alone is a valid index too. "
        "All rows are then judged by what stands in the first one. Targets do not match what is read, the model can "
        "learn little but frequencies, and the loss stays near that plateau, where many a healthy training lies for a "
        "while as well. With a batch of one row it is right: test with three rows of different content.",
        place="gather",
        caught_by="tests/model/test_model_reading.py::test_scatter_add_is_the_adjoint_of_gather",
    ),
)
