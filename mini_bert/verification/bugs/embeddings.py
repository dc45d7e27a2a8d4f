"""Bugs of the embeddings: tables that are not read, not normalised, or do not learn."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Embeddings"

_MODEL = "model/embeddings.py"
_FORWARD = "tests/model/test_model_composites.py::test_forward_of_a_composite_is_what_the_loops_say[embeddings]"
_GRADIENT = "tests/model/test_model_composites.py::test_gradients_of_a_composite_by_complex_step[embeddings]"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="gradient-cut-at-embedding",
        title="The table of token embeddings gets no gradient from the look-up",
        edits=(
            Edit(
                _MODEL,
                '    embedding.add_rows(grads.token_embeddings, saved.token.ids, tap("embeddings.token", dsum_BTH))\n',
                '    tap("embeddings.token", dsum_BTH)\n',
            ),
        ),
        seen="AlkiGit/BERT-NumPy looks up in `token_embedding.data`, which its automatic differentiation does not "
        "follow: none of its three tables learns. queenie88/A-GCN #4: a forgotten detach().",
        lesson="A network on top of random, fixed vectors still learns a great deal, so the loss falls. Where the "
        "decoder is tied to the table, as here, the table even moves, by its other gradient. After training, look "
        "which parameters have changed, and how; better, compare every gradient with a difference quotient: this one "
        "is off by 100 %.",
        place="token_embeddings",
        caught_by=_GRADIENT,
    ),
    Bug(
        name="repeated-ids-overwritten",
        title="A token that occurs several times gets the gradient of one occurrence only",
        edits=(
            Edit(
                "ops/embedding.py",
                "    dE[sorted_ids[starts]] += np.add.reduceat(rows_of(dy)[order], starts, axis=0)\n",
                "    dE[sorted_ids] += rows_of(dy)[order]\n",
            ),
        ),
        seen="HIPS/autograd #39 and #136 (why it uses np.add.at), apache/mxnet #9172, pymc-devs/pytensor #2242 "
        "(“silent wrong numbers, not a crash”).",
        lesson="`E[ids] += g` reads, adds and writes back once for each row: of several additions to one row the last "
        "one stays. The most frequent words, which occur many times in every batch, lose most of their gradient. Adam "
        "rescales what is left, and the loss looks as always. A test without a repeated id cannot see it: put the same "
        "id three times into the smallest case.",
        place="embedding-repeated ids",
        caught_by="tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step[0-embedding-repeated ids]",
    ),
    Bug(
        name="position-gradient-averaged",
        title="The gradient of the positions is the mean over the batch instead of the sum",
        edits=(
            Edit(
                _MODEL,
                "    dposition_TH = dsum_BTH.sum(axis=0)\n",
                "    dposition_TH = dsum_BTH.mean(axis=0)\n",
            ),
        ),
        seen="Common in hand-written code: what was broadcast forward has to be summed backward, and `mean` is what "
        "one writes for “over the batch”. rasbt/stat453-deep-learning-ss21 #5 has the same class of fault in a bias.",
        lesson="Broadcasting is a copy, and the gradient of a copy is a sum. The mean is too small by the number of "
        "rows, the same factor everywhere in the tensor, and Adam takes constant factors out again: the loss curve is "
        "the same but for ε and for clipping. It changes with the batch size and with the number of shards, though: "
        "one batch cut into two no longer gives the sum of its parts.",
        place="position_embeddings",
        caught_by=_GRADIENT,
    ),
    Bug(
        name="positions-forgotten",
        title="Position embeddings are made but never added",
        edits=(
            Edit(
                _MODEL,
                '        sum_BTH = token_BTH + tap("embeddings.position", params.position_embeddings[: run.T])\n',
                "        sum_BTH = token_BTH.copy()\n",
            ),
            Edit(
                _MODEL,
                '        grads.position_embeddings[: run.T] += tap("embeddings.position", dposition_TH)\n',
                "        pass\n",
            ),
        ),
        seen="guocheng2025/Transformer-Encoder #1 (the file is there and nothing imports it), iacobo/continual #16.",
        lesson="Attention does not know order: without positions, BERT is a bag of words. A bag of words gets most of "
        "the way on short training, since frequencies and company explain more than syntax does, so the loss is worse "
        "by less than one would think. The property to test is stated in one sentence: exchange two words, and "
        "something other than their places has to change.",
        place="embeddings",
        caught_by=_FORWARD,
    ),
    Bug(
        name="segments-always-zero",
        title="All tokens are in segment 0, whatever was asked for",
        edits=(
            Edit(
                _MODEL,
                "params.segment_embeddings[0] if types_BT is None else params.segment_embeddings[types_BT]",
                "params.segment_embeddings[0]",
            ),
            Edit(_MODEL, "Saved(token_saved, types_BT, ", "Saved(token_saved, None, "),
        ),
        seen="huggingface/transformers #263 (token_type_ids=None for pairs) and #17082 (a tokenizer that gave only "
        "zeros), antonellof/ferrox #44 (only row 0 of the table is loaded).",
        lesson="One sentence has one segment, and all tests with one sentence pass; masked-language-model training of "
        "packed text never uses the second. It shows in tasks with two texts, as a ranking that is a little worse. The "
        "second row of the table keeps its initial values for ever: a parameter with no gradient in a test that uses "
        "everything is the sign to look for.",
        place="embeddings",
        caught_by=_FORWARD,
    ),
    Bug(
        name="embeddings-unnormalised",
        title="No LayerNorm behind the sum of the embeddings",
        edits=(
            Edit(
                _MODEL,
                "    x_BTH, norm_saved = norm_forward(sum_BTH, params.gamma, params.beta, config)\n",
                "    x_BTH, norm_saved = sum_BTH, None\n",
            ),
            Edit(
                _MODEL,
                "    dsum_BTH, dgamma, dbeta = norm_backward(dx_BTH, saved.norm)\n"
                "    grads.gamma[...] += dgamma\n"
                "    add_gradient(grads.beta, dbeta)\n",
                "    dsum_BTH = dx_BTH\n",
            ),
        ),
        seen="codertimo/BERT-pytorch adds token, position and segment and goes straight to dropout "
        "(bert_pytorch/model/embedding/bert.py); google-research/albert #3 asks what the norm is for.",
        lesson="Initial embeddings are 50 times smaller than what comes out of a sublayer, so without the norm the "
        "first residual drowns the word in what attention made of it. At this size it trains as well; deeper, less; "
        "and a checkpoint of the real BERT does not fit. Two LayerNorm parameters without a gradient give it away, and "
        "so does the definition.",
        place="embeddings",
        caught_by=_FORWARD,
    ),
)
