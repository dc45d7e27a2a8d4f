"""Bugs of the learning rate's shape, of its finder, and of limits for gradients."""

from __future__ import annotations

from mini_bert.verification.bugs.bug import Bug
from mini_bert.verification.injection import Edit

FAMILY = "Rates and limits"

BUGS: tuple[Bug, ...] = (
    Bug(
        name="decay-underneath-warmup",
        title="The decay counts from step 0, so the rate drops when the warm-up is over",
        edits=(
            Edit(
                "optim/schedules.py",
                "left, whole = steps - step + 1, steps - warmup + 1",
                "left, whole = steps - step + 1, steps + 1",
            ),
        ),
        seen="BERT's own code (google-research/bert #1374), huggingface/transformers #4940, Oneflow-Inc/oneflow #3011, "
        "stickeritis/sticker #153.",
        lesson="With a tenth of the steps for warm-up the rate jumps down by a tenth, and stays lower than was "
        "said, to the end. Nothing breaks: such models were published and are good. But whoever copies the peak into "
        "a program without the bug trains at another rate, and of two runs with warm-ups of different lengths the one "
        "with the longer warm-up also decays from lower, so that their comparison is about both. A picture of the "
        "rate shows it at once; a test asks whether the first update behind the warm-up is one step below the peak.",
        place="decay_begins_at_the_peak",
        caught_by="tests/optim/test_optim_schedule_ends.py::test_the_decay_begins_at_the_peak[0.2]",
    ),
    Bug(
        name="adaptive-limit-by-inputs",
        title="Adaptive clipping takes the rows of a matrix [in, out] for its units",
        edits=(Edit("optim/clipping.py", "return tensor.shape, 1 if tensor.table else 0", "return tensor.shape, 1"),),
        seen="SlopDotCash/asi #439, the code in lessw2020/Ranger21 #1. The paper's axes are those of its own layout; "
        "codes that store weights the other way round copy the numbers of the axes.",
        lesson="A unit is what makes one output. Along the other axis, the limit of a weight is set by what all "
        "outputs have learned to take from one input, and an output whose gradient has gone wild drags every other "
        "output down with it, a row at a time. Gradients are clipped, the share that is logged is plausible, the run "
        "is calmer: all signs of life are there. In square matrices not even the shapes differ. It takes one long "
        "column and a look at which numbers have changed.",
        place="units_of_the_model",
        caught_by="tests/optim/test_optim_clipping_kinds.py::test_units_of_the_model",
    ),
    Bug(
        name="rate-finder-trains-the-model",
        title="The search for a learning rate trains the model that is trained afterwards",
        edits=(
            Edit(
                "training/lr_finder.py",
                "tried, plain = copy.deepcopy(state), _at_a_rate_of_its_own(config)",
                "tried, plain = state, _at_a_rate_of_its_own(config)",
            ),
        ),
        seen="davidtvs/pytorch-lr-finder #11, Lightning-AI/pytorch-lightning #6675, fastai/fastai #3013; with the "
        "optimiser's moments alone left behind: fastai/fastai #2892 and #3185.",
        lesson="The search ends where the loss explodes, so the training begins from a model that has just been "
        "wrecked, and its moments remember gradients of that. It recovers: the loss falls from a higher start, and "
        "nobody knows the curve without the search. Adding a line that only looks has changed the result, and a run "
        "is no longer a function of its seed. Compare every bit of the state before and after, for each optimiser, "
        "and the step after the search with the one of a training that never searched.",
        place="no_bit_of_a_training_under_way_changes",
        caught_by="tests/training/test_lr_finder.py::test_no_bit_of_a_training_under_way_changes[-adamw]",
    ),
)
