"""Bugs of the backward pass between the operations: gradients lost, overwritten, averaged, or taken the wrong way."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Backward pass"

_ATTENTION, _BLOCK = "model/attention.py", "model/block.py"
_GRADIENT = "tests/model/test_model_composites.py::test_gradients_of_a_composite_by_complex_step"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="tied-gradient-lookup-only",
        title="The tied table gets the gradient of the look-up, and not that of the decoder",
        edits=(
            Edit(
                "model/heads.py",
                "    grads.embeddings.token_embeddings[...] += dlogits.T @ rows_of(saved.x)\n",
                "",
            ),
        ),
        seen="paiml/entrenar #314: the two gradients went to two copies with an optimiser each (perplexity 115 instead "
        "of 50).",
        lesson="One matrix, two uses, and its gradient is the sum of both. Without the decoder's part the table is not "
        "told which word was right; the layers before the decoder bend towards it instead, so the loss falls. Whoever "
        "ties by hand has to add by hand, and the test is that equation: the gradient with both uses equals the sum of "
        "the gradients with one.",
        place="tied_table",
        caught_by="tests/model/test_model_properties.py::test_gradient_of_the_tied_table_is_the_sum_of_its_two_uses",
    ),
    Bug(
        name="residual-gradient-lost-attention",
        title="No gradient along the residual connection around attention",
        edits=(
            Edit(_BLOCK, "        dx_BTH += dsum1  # the residual path\n", "        pass\n"),
            Edit(
                _BLOCK,
                "        read.scatter_add(dx_BTH, dqueries_MH + dsum1)\n",
                "        read.scatter_add(dx_BTH, dqueries_MH)\n",
            ),
        ),
        seen="NVIDIA/Fuser #2922 (“I was missing both the residual adds in the back prop”), jakeret/tf_unet #9.",
        lesson="The reason why deep networks can be trained is that the gradient has a way past each layer. Cut it, "
        "and what reaches the lower blocks has gone through every attention on the way: small, and of the wrong "
        "direction. Two blocks still learn more than frequencies. The check of one block by itself says “largest in "
        "x”.",
        place="block",
        caught_by=f"{_GRADIENT}[block]",
    ),
    Bug(
        name="residual-gradient-lost-feed-forward",
        title="No gradient along the residual connection around the feed-forward network",
        edits=(Edit(_BLOCK, "    du += dsum2  # the residual path\n", ""),),
        seen="paiml/entrenar #313: of 24 blocks only the last four learned, and the fix was this one line.",
        lesson="Each block passes back only what went through its feed-forward network, a few times smaller than what "
        "came in. The last block learns, the one below less, and the loss falls while most of the model stands still. "
        "A table of gradient norms by layer shows a staircase. The exact check needs no staircase and no depth.",
        place="block",
        caught_by=f"{_GRADIENT}[block]",
    ),
    Bug(
        name="bias-gradient-averaged",
        title="The gradient of a bias is the mean over the rows instead of the sum",
        edits=(
            Edit(
                "ops/linear.py",
                "    db = dy_rows.sum(axis=0) if biased else None  # (LIN.4)\n",
                "    db = dy_rows.mean(axis=0) if biased else None  # (LIN.4)\n",
            ),
        ),
        seen="deeplearning4j/deeplearning4j #366 (divided by the batch size twice), kvfrans/notes #5, mlpack/mlpack "
        "#3679 (not summed at all).",
        lesson="The weight's gradient xᵀdy sums over the rows without being asked; the bias's has to be told to. "
        "Somebody divides by the batch once more, and biases learn a hundred times too slowly under plain gradient "
        "descent. Adam hides it completely, except for ε. Forward passes, losses and weights are all right.",
        place="linear",
        caught_by="tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step[0-linear-x [4, 5]]",
    ),
    Bug(
        name="gradient-overwritten",
        title="A gradient is written over what was there instead of being added",
        edits=(Edit("model/feed_forward.py", "    grads.W2[...] += dW2\n", "    grads.W2[...] = dW2\n"),),
        seen="karpathy/nn-zero-to-hero #52 quotes the lecture's own note: “in the video I incorrectly used = instead "
        "of +=”; sony/nnabla #532.",
        lesson="As long as every parameter is used once in a step, = and += are the same. Then somebody accumulates "
        "over several batches, or uses a layer twice, and all but the last contribution is lost, for one tensor. Here "
        "each shard has a buffer of its own, so training never shows it. Call the backward pass twice and ask for "
        "twice the gradient.",
        place="W2_1",
        caught_by="tests/model/test_model_composites.py::"
        "test_gradients_of_a_composite_are_added_to_what_is_there[block]",
    ),
    Bug(
        name="weight-not-transposed-backward",
        title="The gradient goes back through W instead of through its transpose",
        edits=(
            Edit(
                _ATTENTION,
                "    dx_RH = dprojected[0] @ params.W_QKV[first].T  # (MHA.4)\n",
                "    dx_RH = dprojected[0] @ params.W_QKV[first]  # (MHA.4)\n",
            ),
        ),
        seen="huggingface/diffusers #14341 (keys and values transposed twice in a backward pass; its test makes all "
        "sizes equal so that no shape check can help), lisa-lab/DeepLearningTutorials #125.",
        lesson="A square matrix accepts a vector from either side. The gradient of the weights themselves is right, "
        "and so is everything above; only what is handed down is turned by a random rotation. It shows in shapes for "
        "every matrix but the square ones, and attention's four are square. Small tests should have no two dimensions "
        "alike; where the model makes them alike, only numbers help.",
        place="attention",
        caught_by=f"{_GRADIENT}[attention]",
    ),
    Bug(
        name="attention-gradient-of-queries-only",
        title="The input of attention gets its gradient through the first projection alone",
        edits=(
            Edit(
                _ATTENTION,
                "    for part, W in zip(dprojected[1:], params.W_QKV[first + 1 :], strict=True):\n"
                "        dx_RH += part @ W.T\n",
                "",
            ),
        ),
        seen="rsarxiv/seq2seq-attention #7 (the gradient of the context is not passed on to the encoder). Common in "
        "hand-written self-attention, where three paths begin at one x.",
        lesson="x is used three times, as query, key and value, so its gradient has three parts. With one of them a "
        "token is told how to ask, and never how to answer. The weights W_K and W_V still learn from what is below "
        "them. Whatever is used n times forward needs n additions backward: count the arrows.",
        place="attention",
        caught_by=f"{_GRADIENT}[attention]",
    ),
    Bug(
        name="transpose-when-needed",
        title="On import, a weight is transposed only if its shape does not fit",
        edits=(
            Edit(
                "interop/huggingface.py",
                "        array = _turned(array, row)\n",
                "        if array.shape != tuple(row.shape):\n            array = _turned(array, row)\n",
            ),
        ),
        seen="vllm-project/vllm #44110: “silently skips weight transpose for square matrices”, and the answers were "
        "commas; #41689 there discusses how else one could tell.",
        lesson="Guessing from shapes is right for every matrix but the square ones, and in a transformer those are the "
        "attention's. Feed-forward weights load, nothing complains, and the model talks nonsense or, worse, nearly "
        "sense. Orientation belongs to the table of names, not to the data. A test needs a square matrix that is not "
        "symmetric.",
        place="W_Q_0",
        caught_by="tests/interop/test_orientation_of_squares.py::test_a_square_weight_is_turned_as_well[W_Q_0]",
    ),
)
