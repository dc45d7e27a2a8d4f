"""Bugs of optimisation: what turns a right gradient into a wrong update."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Optimisation"

_EQUATIONS = "tests/optim/test_optim_equations.py"
_SCHEDULE = "tests/optim/test_optim_schedule_ends.py"
_STEP = "tests/training/test_step_parts.py"
_RESUMED = "tests/training/test_training_optimizers.py::test_a_run_that_is_stopped_and_resumed_ends_the_same"
_LOADED = "    state.model.tokenizer = material.tokenizer\n"

_CORRECTIONS = """    step_size = lr / (1.0 - beta1**step)
    root_correction = 1.0 / math.sqrt(1.0 - beta2**step)
"""
_ROOT = """        np.sqrt(v, out=work)
        work *= root_correction
        work += eps
"""
_COUNTED = """        adamw.State(u.state.of("m", part), u.state.of("v", part)),
        step=u.step,
"""

BUGS: tuple[Bug, ...] = (
    Bug(
        name="bias-correction-forgotten",
        title="Adam's moments are used as they are, without the correction for having begun at 0",
        edits=(Edit("optim/adamw.py", _CORRECTIONS, "    step_size = lr\n    root_correction = 1.0\n"),),
        seen="BERT's own optimiser; its author calls it 'mostly an oversight' (google-research/bert #153). Caffe's "
        "Adam was reported for it too (BVLC/caffe #4224).",
        lesson="Both moments begin at 0 and are too small at first, m ten times and √v thirty times: so the first "
        "updates are three times too long, and they are those made on the least knowledge. Warm-up multiplies them by "
        "a rate near 0, which hides the bug so well that BERT was trained with it. Without warm-up, or in a short "
        "fine-tuning, it is a reason why some seeds never start to learn. One sees it at the first update: whatever "
        "the gradient, it must have the length of the rate.",
        place="bias_correction",
        caught_by=f"{_EQUATIONS}::test_bias_correction_of_the_first_moment",
    ),
    Bug(
        name="second-moment-uncorrected",
        title="The first moment is corrected for having begun at 0, the second is not",
        edits=(
            Edit("optim/adamw.py", "root_correction = 1.0 / math.sqrt(1.0 - beta2**step)", "root_correction = 1.0"),
        ),
        seen="One of the two corrections written wrongly: flipped in convnetjs (karpathy/convnetjs #70), applied "
        "twice in AdamG, which then exploded (kozistr/pytorch_optimizer #308).",
        lesson="Forgetting both corrections makes the first updates three times too long; forgetting this one alone "
        "makes them 31 times too long, because 1/√(1 − β₂) is 31.6. With β₂ = 0.999 the error fades only over the "
        "first thousand updates. A warm-up of some hundred steps turns the explosion into a worse start, and clipping "
        "does not help: Adam divides the gradient's length out again. The loss of the first ten steps without warm-up "
        "tells.",
        place="bias_correction_of_the_second_moment",
        caught_by=f"{_EQUATIONS}::test_bias_correction_of_the_second_moment",
    ),
    Bug(
        name="steps-not-counted",
        title="Every update tells Adam that it is the first",
        edits=(Edit("optim/optimizer.py", _COUNTED, _COUNTED.replace("u.step", "1")),),
        seen="allenai/OLMo-core #317: the step was never counted up, 'an effective lr that is 2.2x higher'. The "
        "reverse, one count for each tensor, stood in flashlight/flashlight #143.",
        lesson="The corrections 1/(1 − βᵗ) should fade to 1, and stay at their first values instead: 10 for m and "
        "31.6 for √v. In the long run that multiplies the learning rate by a constant, here by 0.32. Nothing diverges "
        "and the loss falls: a run with another rate looks just like it, and a sweep over rates finds one that makes "
        "up for it. What breaks is comparison, since the rate that is written down is not the rate that was used. The "
        "first update is right, so a test has to make two.",
        place="bias_correction_counts_the_steps",
        caught_by=f"{_STEP}::test_bias_correction_counts_the_steps[2]",
    ),
    Bug(
        name="decay-coupled",
        title="Weight decay is added to the gradient, and goes through Adam's moments",
        edits=(
            Edit(
                "optim/adamw.py",
                "        if block.start < decayed:\n            theta *= 1.0 - lr * weight_decay  # (ADAMW.4)\n",
                "",
            ),
            Edit(
                "optim/adamw.py",
                "        g = gradients[block] * scale\n",
                "        g = gradients[block] * scale\n"
                "        if block.start < decayed:\n"
                "            g += weight_decay * theta\n",
            ),
        ),
        seen="What `weight_decay` of torch.optim.Adam does; taken for AdamW in nntrainer/nntrainer #3565, where it "
        "diverged on MNIST.",
        lesson="Adam divides each gradient by its usual size, and with it the decay: weights with large gradients "
        "hardly shrink, those with small ones are driven to 0, because for them the decay is the larger part. Just "
        "then, while attention has not woken up, most gradients are small. For plain gradient descent the two ways "
        "are the same, so the intuition is wrong exactly here. The loss falls, and settles too high. It is found by "
        "an update with gradient 0: both moments must stay 0, and the weight must shrink by the factor 1 − ηλ.",
        place="decay_is_decoupled",
        caught_by="tests/optim/test_optim_adamw.py::test_decay_is_decoupled_and_of_the_prefix_alone",
    ),
    Bug(
        name="decay-on-norms-and-biases",
        title="Weight decay acts on every parameter, LayerNorm and biases included",
        edits=(
            Edit(
                "model/parameters.py",
                "        self.decayed = sum(size for row, size in zip(self.table, sizes, strict=True) if row.decay)\n",
                "        self.decayed = sum(sizes)\n",
            ),
        ),
        seen="CyberZHG/keras-bert #60 and, since a pattern did not match the layer's name, huggingface/transformers "
        "#4360; also in Lightning-AI/lit-llama #254.",
        lesson="Decay says that without evidence a parameter should be 0. For a matrix that is sensible; for "
        "LayerNorm's γ, which scales what passes through, 0 means silence, and the sensible value is 1. The pull is "
        "so weak that a loss curve never shows it: after some thousand updates γ is a few percent smaller, and the "
        "network makes up for it elsewhere. It is found by asking each tensor by name whether it decays. Lists of "
        "names to exclude fail silently when a name changes; a rule such as 'two axes or more' does not.",
        place="decay_is_a_prefix_of_matrices_and_tables",
        caught_by="tests/model/test_model_parameters.py::test_decay_is_a_prefix_of_matrices_and_tables[heads0]",
    ),
    Bug(
        name="decay-without-rate",
        title="Weight decay is not multiplied by the learning rate",
        edits=(Edit("optim/adamw.py", "theta *= 1.0 - lr * weight_decay  # (ADAMW.4)", "theta *= 1.0 - weight_decay"),),
        seen="FluxML/model-zoo #303. The paper multiplies by the schedule alone, and the two readings are confused "
        "often (NVIDIA/apex #1849, modern-fortran/neural-fortran #152).",
        lesson="A hundredth of every weight is gone at each update, a thousand times as much as meant at a rate of "
        "0.001: the weights are held near 0, where all predictions are alike. Also, the decay stays at full strength "
        "while the rate falls, so that it wins at the end. The loss may still fall to the level of word frequencies, "
        "since biases do not decay, and stays there; this looks like a network that is too small. Measured with two "
        "rates it is found at once: the decay must scale with the rate.",
        place="decay_shrinks_by_the_rate",
        caught_by=f"{_EQUATIONS}::test_decay_shrinks_by_the_rate_and_leaves_the_moments_alone[0.1]",
    ),
    Bug(
        name="decay-misplaced",
        title="Each thread decays the beginning of its own part of the parameters",
        edits=(
            Edit(
                "optim/optimizer.py",
                "return min(max(decayed - part.start, 0), part.stop - part.start)",
                "return min(decayed, part.stop - part.start)",
            ),
        ),
        seen="Common where parameters lie flat in one buffer that is cut for threads or devices, and a count that was "
        "meant from the buffer's beginning is used in each part.",
        lesson="With one thread the count is right and every test with one thread passes. With two, the second part "
        "begins anew and decays what lies there: biases and LayerNorm, which should not. The loss does not tell, the "
        "effect being that of a little too much decay. What tells is a rule that holds for all code with threads: "
        "their number must change no bit of the result. So compare one thread with two and three, and name the "
        "tensors.",
        place="decay_acts_on_matrices_and_tables_alone",
        caught_by=f"{_STEP}::test_decay_acts_on_matrices_and_tables_alone[2]",
    ),
    Bug(
        name="eps-inside-root",
        title="Adam's eps is added under the root",
        edits=(Edit("optim/adamw.py", _ROOT, "        np.sqrt(v * root_correction**2 + eps, out=work)\n"),),
        seen="FluxML/Flux.jl #448; in print in the Chinese edition of Dive into Deep Learning (d2l-ai/d2l-zh #502), "
        "whose code was right.",
        lesson="Outside the root, 1e-6 is a floor for the size of a gradient; inside it is one for its square, which "
        "makes a floor of 0.001. Most single gradients of a BERT are smaller than that, above all in the embeddings "
        "of rare words and late in training: their updates shrink with them, and Adam turns into gradient descent "
        "just there. The loss falls, more slowly than it could. A test needs a tiny second moment: with gradients "
        "near 1 the two forms agree to many digits.",
        place="eps_is_added_outside_the_root",
        caught_by=f"{_EQUATIONS}::test_eps_is_added_outside_the_root_and_after_the_correction",
    ),
    Bug(
        name="eps-before-correction",
        title="Adam's eps is added before the second moment is corrected, and is scaled with it",
        edits=(
            Edit(
                "optim/adamw.py",
                _ROOT,
                "        np.sqrt(v, out=work)\n        work += eps\n        work *= root_correction\n",
            ),
        ),
        seen="TensorFlow's Adam (tensorflow/tensorflow #9047, defended as the paper's 'epsilon hat'), PyTorch until "
        "#22628, aiqm/torchani #261, karpathy/nanochat #304.",
        lesson="Folding the correction into the learning rate saves an operation and multiplies eps by 1/√(1 − β₂ᵗ): "
        "by 31.6 at the first update, by 1 after some thousand. It matters where eps is not negligible: with sparse "
        "gradients, in half precision, or with an eps raised for stability. Two libraries then differ in the first "
        "hundred steps and agree later, which is hard to find by comparing runs. Compare single updates at a small "
        "step count with a second moment near 0.",
        place="after_the_correction",
        caught_by=f"{_EQUATIONS}::test_eps_is_added_outside_the_root_and_after_the_correction",
    ),
    Bug(
        name="second-moment-unscaled",
        title="The second moment is of the raw gradient, the first of the averaged and clipped one",
        edits=(Edit("optim/adamw.py", "        g *= g\n", "        g = gradients[block] * gradients[block]\n"),),
        seen="Common where a factor (loss scale, average over a batch, clipping) is fused into an optimiser's kernel "
        "and one of its two uses of the gradient is missed.",
        lesson="Adam's update has no unit: gradient over root of squared gradient. If only one of the two is divided "
        "by the number of tokens, the quotient is too small by that number, and changes with the batch. The loss "
        "falls hundreds of times too slowly, which looks like a learning rate that is too low; raising the rate "
        "'repairs' it until the batch size changes. Decay, which is not affected, becomes far too strong beside it. "
        "Ask for the ratio: after one update v/m² must be (1 − β₂)/(1 − β₁)², with clipping on.",
        place="second_moment",
        caught_by=f"{_STEP}::test_second_moment_is_of_the_gradient_that_the_first_is_of",
    ),
    Bug(
        name="betas-swapped",
        title="Adam's two betas are handed over in the wrong order",
        edits=(
            Edit(
                "optim/optimizer.py",
                "        beta1=u.settings.beta1,\n        beta2=u.settings.beta2,\n        eps",
                "        beta1=u.settings.beta2,\n        beta2=u.settings.beta1,\n        eps",
            ),
        ),
        seen="mila-iqia/blocks #1159 is a relative: it took 1 − β, as a first version of the paper did, and a β₂ of "
        "0.999 became one of 0.001. Swaps are common where betas are passed by position.",
        lesson="Momentum now averages a thousand gradients, most of them taken where the parameters no longer are, "
        "and the scale averages ten and is noisy. The first updates are right, since bias correction makes any betas "
        "agree at step 1; so the loss begins to fall, and then overshoots in slow swings. Lower rates calm it, at the "
        "price of learning little. Two numbers of the same type in the same call are worth a test in which they "
        "differ much, or keyword arguments.",
        place="moments_have_their_own_betas",
        caught_by=f"{_STEP}::test_moments_have_their_own_betas",
    ),
    Bug(
        name="second-moment-in-half-precision",
        title="Adam's second moment is kept in float16, where small squares are 0",
        edits=(
            Edit(
                "optim/adamw.py",
                "return State(np.zeros(size, dtype), np.zeros(size, dtype))",
                "return State(np.zeros(size, dtype), np.zeros(size, np.float16))",
            ),
        ),
        seen="Optimiser state in the dtype of the weights: afiaka87/glide-finetune #6 and nntrainer/nntrainer #3565; "
        "google-deepmind/optax #1754 is the same with eps.",
        lesson="A gradient of 0.001 has a square of 1e-6, and a thousandth of that is 1e-9; the smallest float16 "
        "above 0 is 6e-8. So v is 0 where the gradient is small, and the update is m / eps: the quieter a parameter, "
        "the wilder it jumps. The loss shoots up within a few steps, and comes back to the level of word frequencies "
        "at best. In bfloat16, which has the range, v soon stops moving, since a thousandth of it is less than half "
        "of its last digit. Test with gradients as small as those of a real embedding table.",
        place="second_moment_holds_squares_of_small_gradients",
        caught_by=f"{_EQUATIONS}::test_second_moment_holds_squares_of_small_gradients[0.001]",
    ),
    Bug(
        name="updates-lost-in-bfloat16",
        title="Weights are kept in bfloat16, and updates smaller than their last digit vanish",
        edits=(
            Edit(
                "optim/adamw.py",
                "        theta -= work  # (ADAMW.5)\n",
                "        theta -= work  # (ADAMW.5)\n"
                "        bits = theta.astype(np.float32).view(np.uint32) + 0x8000\n"
                "        theta[...] = (bits & 0xFFFF0000).view(np.float32)\n",
            ),
        ),
        seen="vllm-project/speculators #765: every normalisation weight of published models was still exactly 1.0. "
        "Also workofart/ml-by-hand #85; NVIDIA/apex #1728 kept no master weights for bfloat16.",
        lesson="Below 1.0 the next bfloat16 is 0.996, and an update of 0.001 is rounded away, each time anew: "
        "LayerNorm's γ never moves, however long one trains. Matrices begin near 0.02, where the digits are finer, so "
        "they learn, and the loss falls and settles too early. The falling rate makes it worse to the end. One "
        "notices by looking for parameters that are still what they were at the beginning. The cure is a float32 copy "
        "that gathers the updates, or rounding at random.",
        place="many_small_updates_add_up",
        caught_by=f"{_EQUATIONS}::test_many_small_updates_add_up",
    ),
    Bug(
        name="warmup-from-zero",
        title="The first update has a learning rate of 0",
        edits=(Edit("optim/schedules.py", "return peak * step / warmup", "return peak * (step - 1) / warmup"),),
        seen="BERT's own code (google-research/bert #1293), google-research/big_transfer #58, verl-project/verl "
        "#3674, pytorch/torchtitan #1261: steps counted from 0.",
        lesson="One update of a million is wasted, and nobody minds. But short runs have few: a test that makes one "
        "update and looks whether anything changed sees nothing, and a fine-tuning of three steps loses a third. The "
        "off by one also means that the peak is never reached, or that two schedules that claim to be the same are "
        "one step apart for ever. The curve of the loss has no trace of it. Write the first and last rates out by "
        "hand.",
        place="warmup_begins_above_0",
        caught_by=f"{_SCHEDULE}::test_warmup_begins_above_0_and_ends_at_the_peak",
    ),
    Bug(
        name="warmup-never-ends",
        title="The rate goes on rising after the warm-up",
        edits=(Edit("optim/schedules.py", "    if step <= warmup:\n", "    if warmup:\n"),),
        seen="Common where warm-up is written by hand and the `if` asks for the setting instead of the step. Warm-ups "
        "of another length than was meant come from mixed units of steps: jiaweizzhao/GaLore #62, salesforce/LAVIS "
        "#72.",
        lesson="With a tenth of the steps for warm-up, the last rate is ten times the peak. In the beginning "
        "everything is as it should be, the loss falls, and it may go on falling for a while beyond the peak, because "
        "published peaks are cautious. Then it rises, or turns to NaN, at a point that moves when the number of steps "
        "changes: people then look for a bad batch. Plot the rate beside the loss, and test that it never exceeds its "
        "peak.",
        place="warmup",
        caught_by=f"{_SCHEDULE}::test_rate_never_rises_after_the_warmup[linear]",
    ),
    Bug(
        name="average-remembers-the-start",
        title="The average of the parameters gives the initial values a share that fades only slowly",
        edits=(Edit("optim/averaging.py", "(1.0 - decay) / (1.0 - decay**step)", "1.0 - decay"),),
        seen="huggingface/pytorch-image-models #1182: with a decay near 1, worse than no averaging. "
        "PaddlePaddle/Paddle #17677 took the bias out later.",
        lesson="An average that begins at the initial values still has the share d to the power t of them: with 0.999 "
        "a third after a thousand steps, and random weights are not a small error. Training is not touched, so the "
        "training loss is as it should be; only what is evaluated and saved is bad. One then believes that averaging "
        "does not help, or waits until it does. It is Adam's bias once more, and the same factor takes it out. "
        "Compare with the weighted mean of all parameters that there were.",
        place="average_is_the_weighted_mean",
        caught_by="tests/optim/test_optim_by_loops.py::test_the_average_is_the_weighted_mean_of_all_parameters"
        "[0.9-adamw]",
    ),
    Bug(
        name="average-resumed-as-parameters",
        title="A resumed run trains on from the averaged parameters",
        edits=(
            Edit(
                "training/course.py",
                _LOADED,
                f"{_LOADED}    state.model.parameters.buffer[...] = state.evaluated.parameters.buffer\n",
            ),
        ),
        seen="Megvii-BaseDetection/YOLOX #1318 and ultralytics/yolov5 #310 saved nothing but the average; "
        "atomistic-machine-learning/schnetpack #785 saved both and loaded the wrong one.",
        lesson="The checkpoint of an averaged model holds the average, because that is what people want to load. "
        "Whoever resumes from it sets the parameters back by hundreds of steps, to a place where no gradient was ever "
        "taken, beside moments that belong to another. The loss is even lower for a while, since averages are good; "
        "so the resume looks like a success. Without averaging nothing is wrong. The proof is again the run that was "
        "not stopped: the raw parameters have to be saved too, and both runs must end with the same bits.",
        place="averaged",
        caught_by=f"{_RESUMED}[averaged]",
    ),
    Bug(
        name="slow-weights-not-resumed",
        title="A resumed run begins with the slow weights of lookahead where the fast ones are",
        edits=(
            Edit(
                "training/course.py",
                _LOADED,
                f"{_LOADED}    if 'slow' in state.optimizer:\n"
                "        state.optimizer['slow'][...] = state.model.parameters.buffer\n",
            ),
        ),
        seen="Wrappers whose slow weights are in no saved state: kozistr/pytorch_optimizer #310, "
        "lonePatient/lookahead_pytorch #3, CyberZHG/keras-lookahead #2.",
        lesson="Slow weights are cloned when the wrapper is made, and after a resume it is made anew. So the next "
        "round begins in its middle, and is pulled back to where the run was stopped instead of to where the round "
        "began. Where a checkpoint falls on the end of a round, both are the same and nothing is wrong, which hides "
        "it from every test that saves at a multiple of k. Stop one step beside it.",
        place="lookahead",
        caught_by=f"{_RESUMED}[lookahead]",
    ),
)
