"""`mini-bert VERB`: one file a verb; each parses, calls one function and prints.

Results go to standard output, progress and messages to standard error. Exit codes: 0 done, 1 a check failed, 2 bad
input, 130 interrupted (what was learned is saved).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from importlib import import_module

from mini_bert.errors import InvalidInputError, MiniBertError, StorageError, nearest
from mini_bert.machine import ONE_BLAS_THREAD

VERBS = {
    "demo": "Learn a vocabulary and a model from this machine's Python documentation, and show what it knows",
    "pretrain": "Pre-train a model on any text by predicting hidden pieces",
    "finetune": "Teach a model the labels of texts: SST-2, CoLA, MRPC, RTE, STS-B, or a file of your own",
    "lr-find": "Try rising learning rates on a copy of a training, draw the curve, propose one",
    "classify": "Give texts the labels that a fine-tuned model has learned",
    "runs list": "List the runs: how far, how good, how large, whether they hold",
    "runs show": "Show one run: its course, its checkpoints, what it was made of",
    "runs verify": "Compare every file of a run's checkpoints with its sha256",
    "runs prune": "Remove checkpoints that nobody needs any more",
    "evaluate": "Measure what a model has learnt: held-out text, grammar, parts of speech, meaning, SST-2",
    "probe pairs": "Ask which sentence of a minimal pair is likelier: grammar, beside n-gram baselines",
    "probe pos": "Read parts of speech off every layer by a linear probe, beside controls",
    "probe meaning": "Word similarity, analogies and sentence similarity, beside what needs no model",
    "probe facts": "Fill the gaps of facts, beside the majority answer; consistency over paraphrases",
    "probe composition": "See whether edits that change the meaning move a sentence farther than others",
    "probe bias": "Ask how often the stereotype is likelier; CrowS-Pairs and WinoBias, with caveats",
    "probe stability": "See what typos, capitals, synonyms and order do to embeddings and predictions",
    "embed": "Turn texts into vectors, and find the nearest among others",
    "fill-mask": "Fill the [MASK]s of a sentence",
    "tokenizer train": "Learn a vocabulary from text",
    "tokenizer encode": "Show the pieces and ids of a text",
    "tokenizer explain": "Show step by step how a text falls into pieces",
    "data list": "List the corpora and task sets that are known by name",
    "data fetch": "Download a corpus or task set",
    "data verify": "Check the files of a corpus or task set against their sha256",
    "data describe": "Show source, licence, files and a few sentences of a corpus",
    "verify": "Prove every gradient against independent oracles; write the certificate",
    "bugs list": "List the bug zoo: real bugs of transformer code, each a small edit of ours",
    "bugs show": "Show one bug: its difference, where it was seen, what it does, which test catches it",
    "bugs run": "Train with and without a bug, side by side, and see what catches it",
    "convert": "Turn any Hugging Face BERT into a folder that opens here, and back",
    "numerics": "Compare float64, float32, bfloat16 and float16: error by layer, overflow, accuracy",
    "study list": "List the studies that come with the package",
    "study clock": "Measure how long a step of each piece takes: equal time becomes numbers of steps",
    "study run": "Compare configurations at an equal budget over seeds; goes on where it was stopped",
    "study show": "Show a study's table: differences to the baseline with intervals",
    "bench": "Measure speed and memory; with --against torch, beside PyTorch and transformers",
    "race": "Train beside transformers on the same text: who reaches which held-out loss how much sooner?",
    "config show": "Print the whole configuration that presets, files and options add up to",
    "config diff": "Show where two configurations differ",
    "config validate": "Check a configuration file without using it",
    "config presets": "List the presets",
}
"""Every verb, and what it does. `tokenizer train` is the function `train` in `cli/tokenizer.py`."""

DONE, CHECK_FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def code_of_signal(number: int) -> int:
    """The exit code of what a signal ended, as shells have it: `INTERRUPTED` for SIGINT."""
    return 128 + number


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        argv: the words after `mini-bert`; those of the process by default.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    verb = next((verb for verb in VERBS if words[: verb.count(" ") + 1] == verb.split()), "")
    try:
        if not verb:
            return _without_verb(words)
        with nullcontext() if verb == "bench" else _one_blas_thread():
            code = _run(verb, words[verb.count(" ") + 1 :])
        if sys.stdout is not None:
            sys.stdout.flush()  # here, where a failure has a message and an exit code
        return code
    except MiniBertError as error:
        return _refused(verb, error)
    except KeyboardInterrupt:
        print(f"mini-bert {verb}: interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        _discard_output()
        return DONE
    except OSError as error:  # files have messages of their own, so this is the output's
        _discard_output()
        got = error.strerror or str(error)
        return _refused(
            verb, StorageError(error.filename or "standard output", got=got, expected="a place that can be written")
        )
    except UnicodeEncodeError as error:
        _discard_output()
        got = f"the encoding {error.encoding}, which has no {error.object[error.start]!r}"
        return _refused(
            verb,
            StorageError("standard output", got=got, expected="UTF-8", advice="Set PYTHONIOENCODING=utf-8."),
        )
    except MemoryError as error:
        return _refused(
            verb,
            InvalidInputError(
                "memory",
                got=str(error) or "too little of it",
                expected="room for model and batch",
                advice="Make --train.batch-size, --evaluation.batch-size or the model smaller.",
            ),
        )


def _refused(verb: str, error: MiniBertError) -> int:
    print(f"mini-bert {verb}".strip() + f": {error}", file=sys.stderr)
    return BAD_INPUT


def _discard_output() -> None:
    """What is still held for standard output goes nowhere: Python would try once more, and complain, at its end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(verb: str, words: Sequence[str]) -> int:
    import inspect

    import tyro

    *_, module, function = ["", *verb.replace("-", "_").split()] if " " in verb else [*[verb.replace("-", "_")] * 2]
    call: Callable[..., int] = getattr(import_module(f"mini_bert.cli.{module}"), function)
    description = (inspect.getdoc(call) or "").partition("\n\nArgs:")[0]
    try:
        return tyro.cli(call, prog=f"mini-bert {verb}", args=words, description=description)
    except SystemExit as exit_:  # --help, or an option that tyro has refused and explained
        return exit_.code if isinstance(exit_.code, int) else BAD_INPUT


def _without_verb(words: Sequence[str]) -> int:
    """Help, the version, or what is wrong with the words."""
    if words[:1] == ["--version"]:
        from mini_bert import __version__

        print(f"mini-bert {__version__}")
        return DONE
    named = [word for word in words if not word.startswith("-")]
    family = {verb: line for verb, line in VERBS.items() if named and verb.split()[0] == named[0]}
    if named and not family:
        raise InvalidInputError("verb", got=repr(named[0]), expected="a verb", advice=nearest(named[0], VERBS))
    if len(named) > 1:
        advice = nearest(" ".join(named[:2]), family)
        raise InvalidInputError("verb", got=repr(" ".join(named[:2])), expected="a verb", advice=advice)
    print("usage: mini-bert VERB [--help] [OPTIONS]\n")
    for verb, line in (family or VERBS).items():
        print(f"  {verb:<18}  {line}")
    print("\n`mini-bert VERB --help` shows the options of a verb, with examples. To begin: mini-bert demo --minutes 3")
    return DONE if not words or {"-h", "--help"} & set(words) else BAD_INPUT


def _one_blas_thread() -> AbstractContextManager[object]:
    """One BLAS thread throughout: parallelism comes from shards, and the bits do not depend on the machine's cores.

    The variables are read when NumPy is loaded; where it is loaded already, its thread pool is limited instead. `bench`
    is left out: it measures in processes of their own, which would inherit the variables, PyTorch's among them.
    """
    if "numpy" in sys.modules:
        from threadpoolctl import threadpool_limits

        limits: AbstractContextManager[object] = threadpool_limits(limits=1, user_api="blas")
        return limits
    os.environ.update(ONE_BLAS_THREAD)
    return nullcontext()
