"""Bugs of attention: which keys are looked at, how sharply, and by which head."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Attention"

_OP, _MODEL = "ops/attention.py", "model/attention.py"
_DEFINITION = "tests/ops/test_ops_common_suite.py::test_forward_is_what_the_definition_says"
_GRADIENT = "tests/ops/test_ops_common_suite.py::test_gradient_by_complex_step"
_COMPOSITE = "tests/model/test_model_composites.py::test_forward_of_a_composite_is_what_the_loops_say"

_MASKING = """    if mask_BS is not None:
        np.copyto(scores_BATS, MASKED_SCORE, where=~mask_BS[:, None, None, :])  # (ATT.2)
"""
_MASKING_BACKWARD = """    if mask_BS is not None:
        np.copyto(dscores_BATS, 0.0, where=~mask_BS[:, None, None, :])  # only a fully masked row has anything there
"""
_SCALE_FORWARD = """    scale = 1.0 / math.sqrt(Q_BATK.shape[-1])
    scores_BATS = """
_SCALE_BACKWARD = """    scale = 1.0 / math.sqrt(Q_BATK.shape[-1])
    dV_BASK = """

BUGS: tuple[Bug, ...] = (
    Bug(
        name="mask-on-embeddings",
        title="The padding mask multiplies the embeddings instead of removing keys",
        edits=(
            Edit(_MODEL, "        mask_BS=run.mask_BS,\n", "        mask_BS=None,\n"),
            Edit(
                "model/embeddings.py",
                '    x_BTH, dropout_saved = run.drop(x_BTH, config.hidden_dropout_prob, "embeddings")\n',
                "    if run.mask_BS is not None:\n"
                "        x_BTH = x_BTH * run.mask_BS[:, :, None]\n"
                '    x_BTH, dropout_saved = run.drop(x_BTH, config.hidden_dropout_prob, "embeddings")\n',
            ),
            Edit(
                "model/embeddings.py",
                "    (dx_BTH,) = dropout.backward(dx_BTH, saved.dropout)\n",
                "    (dx_BTH,) = dropout.backward(dx_BTH, saved.dropout)\n"
                "    if run.mask_BS is not None:\n"
                "        dx_BTH = dx_BTH * run.mask_BS[:, :, None]\n",
            ),
        ),
        seen="First versions of hand-written BERTs, this project's own among them. Keyed on zero embeddings, the mask "
        "of Kyubyong/transformer #33 had no effect either: positions are added, and nothing is zero any more.",
        lesson="A vector of zeros is still a key. Its score is whatever the query's bias makes of it, softmax gives it "
        "a share, and after one block it is no longer zero: it has attended to the real tokens. Padding has to be "
        "taken out where the shares are made, in the scores. The loss falls, because rows of one length are wrong in "
        "the same way every time; the result of a sentence then depends on how much padding its batch gave it.",
        place="attention",
        caught_by=f"{_COMPOSITE}[attention]",
    ),
    Bug(
        name="mask-inverted",
        title="Real tokens are masked, padding is attended to",
        edits=(
            Edit(_OP, "where=~mask_BS[:, None, None, :])  # (ATT.2)", "where=mask_BS[:, None, None, :])  # (ATT.2)"),
            Edit(_OP, "where=~mask_BS[:, None, None, :])  # only a", "where=mask_BS[:, None, None, :])  # only a"),
        ),
        seen="nyu-mll/jiant #465 (“fix sign of BERT attention mask”), InseeFrLab/torchTextClassifiers #92, "
        "lucidrains/halonet-pytorch #6. AlkiGit/BERT-NumPy adds −10⁹ times a mask that is 1 on real tokens.",
        lesson="Half of the field says True for “look here”, half for “hide this”, and both fit every shape. Rows "
        "without padding are not touched, or become uniform, so a test without padding passes. Rows with padding see "
        "nothing but padding, and the model falls back on the token itself and on frequencies, which is most of what a "
        "small model knows anyway: the loss falls, a little more slowly. Two conventions, one name: say in the "
        "docstring which it is.",
        place="attention-padding",
        caught_by=f"{_DEFINITION}[attention-padding]",
    ),
    Bug(
        name="mask-after-softmax",
        title="The weights of padding are set to zero after the softmax, and the rest is not renormalised",
        edits=(
            Edit(_OP, _MASKING, ""),
            Edit(
                _OP,
                "    dropped_BATS, dropout_saved = dropout.forward(probs_BATS,",
                "    if mask_BS is not None:\n"
                "        probs_BATS = probs_BATS * mask_BS[:, None, None, :]\n"
                "    dropped_BATS, dropout_saved = dropout.forward(probs_BATS,",
            ),
            Edit(
                _OP,
                '    dprobs_BATS = tap(f"{name}.attention_weights", dprobs_BATS)\n',
                "    if mask_BS is not None:\n"
                "        dprobs_BATS = dprobs_BATS * mask_BS[:, None, None, :]\n"
                '    dprobs_BATS = tap(f"{name}.attention_weights", dprobs_BATS)\n',
            ),
            Edit(_OP, _MASKING_BACKWARD, ""),
        ),
        seen="huggingface/pytorch-image-models #2236 (eva.py: “the mask should be applied before the softmax”). "
        "abisee/pointer-generator #88 does it on purpose and divides by the new sum.",
        lesson="The weights of real keys no longer sum to 1: with half of a row padding, attention adds half of what "
        "it should. LayerNorm behind the residual hides the size but not the balance between the two. No padding gets "
        "through, so “what stands under padding changes nothing” holds; it is “how much padding there is” that leaks. "
        "The gradients belong to the wrong forward pass and are right for it: only the definition tells.",
        place="attention-padding",
        caught_by=f"{_DEFINITION}[attention-padding]",
    ),
    Bug(
        name="mask-multiplied",
        title="Scores are multiplied by the mask: padding gets the score 0",
        edits=(
            Edit(
                _OP,
                "        np.copyto(scores_BATS, MASKED_SCORE, where=~mask_BS[:, None, None, :])  # (ATT.2)\n",
                "        scores_BATS *= mask_BS[:, None, None, :]\n",
            ),
        ),
        seen="georg-wolflein/good-features #1; asked for as an improvement in huggingface/transformers #542 and "
        "#12109.",
        lesson="A score of 0 is not “no score”. exp(0) is 1, and beside real scores that are negative or small, "
        "padding gets an ordinary share, often the largest. Early in training all scores are near 0, and the mask does "
        "nothing at all. What has to become 0 is the weight, so the score has to become −∞.",
        place="attention-padding",
        caught_by=f"{_DEFINITION}[attention-padding]",
    ),
    Bug(
        name="mask-too-weak",
        title="Scores of padding are lowered by 10 instead of being taken out",
        edits=(
            Edit(
                _OP,
                "        np.copyto(scores_BATS, MASKED_SCORE, where=~mask_BS[:, None, None, :])  # (ATT.2)\n",
                "        scores_BATS += np.where(mask_BS[:, None, None, :], 0.0, -10.0)\n",
            ),
            Edit(_OP, _MASKING_BACKWARD, ""),
        ),
        seen="TransformerLensOrg/TransformerLens #319: scores fell below the −1e5 that stood for “masked”. "
        "Shujun-He/RibonanzaNet #5: −1e-9 where −1e9 was meant.",
        lesson="How much is enough depends on the scores, and those grow in training. At the start exp(−10) is next to "
        "nothing; once a head is sure of itself its scores differ by more than 10, and padding comes back into the "
        "sum, in the best-trained heads first. So the bug appears with training, and never in a test on fresh weights. "
        "Replace the score, or use a number that no sum of float32 reaches.",
        place="attention-padding",
        caught_by=f"{_DEFINITION}[attention-padding]",
    ),
    Bug(
        name="mask-on-queries",
        title="The mask lies along the queries instead of the keys",
        edits=(
            Edit(_OP, "where=~mask_BS[:, None, None, :])  # (ATT.2)", "where=~mask_BS[:, None, :, None])  # (ATT.2)"),
            Edit(_OP, "where=~mask_BS[:, None, None, :])  # only a", "where=~mask_BS[:, None, :, None])  # only a"),
        ),
        seen="hyunwoongko/transformer #40 and bentrevett/pytorch-seq2seq #96: unsqueeze(3) where unsqueeze(2) was "
        "meant; pytorch/pytorch #97899 asks which of the two it is.",
        lesson="In self-attention both axes have the same length, so the wrong one broadcasts without a word. Rows of "
        "padding become uniform, which nobody reads, and real tokens attend to padding as if there were no mask. With "
        "−∞ the masked rows would be NaN and betray it; with a large finite number they are quiet. Here it does crash, "
        "because the last block has fewer queries than keys: unequal sizes in a test find such bugs for free.",
        place="attention-padding",
        caught_by=f"{_DEFINITION}[attention-padding]",
    ),
    Bug(
        name="mask-forgotten",
        title="The mask is made, handed down, and never reaches attention",
        edits=(Edit(_MODEL, "        mask_BS=run.mask_BS,\n", "        mask_BS=None,\n"),),
        seen="keras-team/keras-hub #2220 (the mask of the embedding is silently not passed on), jingyaogong/minimind-v "
        "#76, ai4sd/multiscale-byte-lm #29.",
        lesson="Every token attends to padding as to a very frequent word. The model learns to live with it, and the "
        "loss falls. It shows when the batch changes: the same sentence alone and beside a longer one gives two "
        "results. That is the test to write, and it needs no reference: append padding, and nothing may change.",
        place="attention",
        caught_by=f"{_COMPOSITE}[attention]",
    ),
    Bug(
        name="mask-minus-infinity",
        title="Masked scores are −∞, and a row whose keys are all padding becomes NaN",
        edits=(Edit(_OP, "MASKED_SCORE = -1e9\n", "MASKED_SCORE = -np.inf\n"),),
        seen="pytorch/pytorch #24816 and #41508, NVIDIA/apex #1390, robertknight/rten #1321.",
        lesson="−∞ is exact as long as one key is real. Where none is, the largest score is −∞ itself, −∞ − (−∞) is "
        "NaN, and one empty row poisons the gradient of every parameter. Empty rows are rare, come from data nobody "
        "looked at, and end a training after days. A large finite number gives a uniform row instead, which is "
        "harmless as nothing reads it.",
        place="attention-a row of padding only",
        caught_by=f"{_DEFINITION}[attention-a row of padding only]",
    ),
    Bug(
        name="scale-missing",
        title="Scores are not divided by the root of the head's width",
        edits=(
            Edit(_OP, "    scores_BATS *= scale  # (ATT.1)\n", ""),
            Edit(_OP, "    dscores_BATS = dscores_BATS * scale\n", ""),
        ),
        seen="delzac/cntkx #10, huggingface/blog #2893.",
        lesson="Softmax becomes √K times as sharp. A model trained so learns smaller weights and gets along, which is "
        "why it goes unseen; a checkpoint trained with the factor gives nonsense. Gradients agree with the forward "
        "pass to the last digit, since both lack the factor. Only a number worked out by hand, or the definition in "
        "loops, is against it.",
        place="attention",
        caught_by=f"{_DEFINITION}[attention-no padding]",
    ),
    Bug(
        name="scale-by-hidden-size",
        title="Scores are divided by the root of the hidden size instead of the head's width",
        edits=(
            Edit(_OP, _SCALE_FORWARD, _SCALE_FORWARD.replace("Q_BATK.shape[-1]", "Q_BATK.shape[1] * Q_BATK.shape[-1]")),
            Edit(
                _OP, _SCALE_BACKWARD, _SCALE_BACKWARD.replace("Q_BATK.shape[-1]", "Q_BATK.shape[1] * Q_BATK.shape[-1]")
            ),
        ),
        seen="lucidrains/vit-pytorch #65 (“coding attention for nearly a year now and still making rookie mistakes”), "
        "chelsea0x3b/dfdx #171, juho-lee/set_transformer #18, aladdinpersson/Machine-Learning-Collection #65.",
        lesson="With one head the two are the same, and so a test with one head passes. With A heads the softmax is √A "
        "times too flat. Training makes up for it by larger queries; weights from elsewhere do not fit. The paper "
        "writes d_k, and the code at hand has a variable called dim.",
        place="attention",
        caught_by=f"{_DEFINITION}[attention-no padding]",
    ),
    Bug(
        name="scale-twice",
        title="Queries are scaled, and the scores once more",
        edits=(
            Edit(
                _OP,
                "    scores_BATS = Q_BATK @ K_BASK.swapaxes(-1, -2)\n",
                "    scores_BATS = (Q_BATK * scale) @ K_BASK.swapaxes(-1, -2)\n",
            ),
            Edit(
                _OP,
                "    dscores_BATS = dscores_BATS * scale\n",
                "    dscores_BATS = dscores_BATS * (scale * scale)\n",
            ),
        ),
        seen="huggingface/transformers #38290 (OPT), AI-Hypercomputer/maxtext #3138: one place scales the queries, "
        "another calls a kernel that scales by itself.",
        lesson="Two right pieces, put together wrongly. Attention is almost uniform at first and has to learn weights "
        "K times as large to be as sharp. Nothing breaks: the loss is as good, or a little worse, and who would know? "
        "A factor belongs to one function, whose test pins it with a number.",
        place="attention",
        caught_by=f"{_DEFINITION}[attention-no padding]",
    ),
    Bug(
        name="scale-lost-backward",
        title="The backward pass forgets the factor 1/√K",
        edits=(Edit(_OP, "    dscores_BATS = dscores_BATS * scale\n", ""),),
        seen="Common in hand-written backward passes, where the forward line `scores *= scale` has no mirror image; an "
        "automatic differentiation cannot make this mistake.",
        lesson="Gradients of queries and keys are √K times too large, all others that lie behind them are right. Adam "
        "divides by the gradient's own size, so a constant factor on a whole tensor all but vanishes: W_Q and W_K "
        "learn as before, and only what lies below, where the wrong part is added to right ones, is pushed aside. The "
        "loss does not tell; a derivative that nobody derived does, at once.",
        place="attention",
        caught_by=f"{_GRADIENT}[0-attention-no padding]",
    ),
    Bug(
        name="softmax-unshifted",
        title="Softmax without subtracting the largest score",
        edits=(Edit("ops/softmax.py", "    probs = x - row_maxima(x)\n", "    probs = x.copy()\n"),),
        seen="open-edge-platform/geti #1507, numenta/nupic-legacy #3818, keras-team/keras #9606, FluxML/NNlib.jl #43.",
        lesson="exp(89) is the end of float32. As long as scores are small the two are equal to the last bit, and they "
        "are small in every short training. Then one head becomes sure, a score passes 88, and infinity divided by "
        "infinity is NaN. Test at scores of ten thousand, not at those you have.",
        place="softmax",
        caught_by=f"{_DEFINITION}[softmax-far from zero]",
    ),
    Bug(
        name="softmax-wrong-axis",
        title="Attention weights sum to one over the queries instead of the keys",
        edits=(
            Edit(
                _OP,
                "    probs_BATS, probs_saved = softmax.forward(scores_BATS)  # (ATT.3)\n",
                "    probs_BATS, probs_saved = softmax.forward(scores_BATS.swapaxes(-1, -2))  # (ATT.3)\n"
                "    probs_BATS = probs_BATS.swapaxes(-1, -2)\n",
            ),
            Edit(
                _OP,
                "    (dscores_BATS,) = softmax.backward(dprobs_BATS, probs)  # (ATT.8)\n",
                "    (dscores_BATS,) = softmax.backward(dprobs_BATS.swapaxes(-1, -2), probs)  # (ATT.8)\n"
                "    dscores_BATS = dscores_BATS.swapaxes(-1, -2)\n",
            ),
        ),
        seen="labmlai/annotated_deep_learning_paper_implementations #146 and #282 (where the wrong one scored as "
        "well), PetrochukM/PyTorch-NLP #2, karpathy/ng-video-lecture #42 (where the loss became far too good).",
        lesson="The matrix is square, so the shape agrees with everything. Every key now hands out the same total "
        "attention, and a query may get almost none. Information still flows, a network still learns, and in a causal "
        "model the future leaks in through the denominator. Ask for the property itself: each row of weights sums to 1 "
        "over its keys.",
        place="attention",
        caught_by=f"{_DEFINITION}[attention-no padding]",
    ),
    Bug(
        name="softmax-backward-diagonal",
        title="The derivative of softmax is taken as p (1 − p), element by element",
        edits=(
            Edit(
                "ops/softmax.py",
                "    dx = dprobs - row_dots(dprobs, probs)\n",
                "    dx = dprobs * (1.0 - probs)\n",
            ),
        ),
        seen="deeplearning4j/libnd4j #440 (“we are missing the sum and the i ≠ j case”), HomericIntelligence/Odyssey "
        "#2134, RoboticsClubIITJ/ML-DL-implementation #153.",
        lesson="Softmax looks like the logistic function, whose derivative this is; but every output depends on every "
        "input. What arrives at queries and keys is mostly noise, which attention learns; the loss falls as far as "
        "frequencies alone lead and lies flat there, the picture of a model that is too small. A right gradient of "
        "softmax sums to 0 in each row: a test of one line. A test with a cotangent of ones, where the true gradient "
        "is 0, would compare zeros with nearly zeros.",
        place="softmax",
        caught_by=f"{_GRADIENT}[0-softmax-small scores]",
    ),
    Bug(
        name="heads-joined-without-transpose",
        title="The heads' results are reshaped to rows without swapping heads and positions back",
        edits=(
            Edit(
                _MODEL,
                "        out_BATK=context_BTH.reshape(B, queries, A, K).swapaxes(1, 2),\n",
                "        out_BATK=context_BTH.reshape(B, A, queries, K),\n",
            ),
            Edit(
                _MODEL,
                "        dcontext_BTH.reshape(B, queries, A, K).swapaxes(1, 2),\n        heads_saved,\n",
                "        dcontext_BTH.reshape(B, A, queries, K),\n        heads_saved,\n",
            ),
        ),
        seen="jsbaan/transformer-from-scratch #6 (the test task was learned all the same), "
        "ajhalthor/Transformer-Neural-Network #4; the same at the split into heads: reczoo/FuxiCTR #30.",
        lesson="[A, T, K] and [T, A, K] have as many elements, and reshape takes either. A token's vector is then put "
        "together from pieces of several positions. The scramble is the same for every row of a given length, so a "
        "network learns around it, worse the more position matters. Heads have no order: permute them together with "
        "their weights, and the result may not change. Here it does.",
        place="attention",
        caught_by=f"{_COMPOSITE}[attention]",
    ),
    Bug(
        name="key-value-swapped",
        title="The names of the key and value projections are exchanged on import and export",
        edits=(
            Edit(
                "model/parameters.py",
                '(("Q", "query"), ("K", "key"), ("V", "value"))',
                '(("Q", "query"), ("K", "value"), ("V", "key"))',
            ),
        ),
        seen="huggingface/transformers #40257 (D-FINE: the slice of k_proj was that of the values), vllm-project/vllm "
        "#42803 (queries in the places of keys and values).",
        lesson="All three are [H, H]: nothing but the name tells them apart. Writing and reading back gives the same "
        "model, because both directions use the same wrong table, so a round trip proves nothing. Training is not "
        "touched. Only the meeting with somebody else's file shows it: pin the names against theirs, not against your "
        "own.",
        place="W_K_0",
        caught_by="tests/model/test_model_parameters.py::test_names_at_hugging_face",
    ),
)
