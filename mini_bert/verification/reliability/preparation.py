"""The preparation that is killed and weighed: corpora made for it, and a process of its own that tokenises them.

    python -m mini_bert.verification.reliability.preparation '{"corpus": ["a.txt"], "workers": 2, …}'

It tells what it does as lines of JSON, `[what, characters done]`, and at the end prints `{"seconds": …, …}`.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mini_bert.random_streams import RandomStream

if TYPE_CHECKING:
    from mini_bert.config.schema import Config
    from mini_bert.data.tokens import TokenCorpus

VOCAB_SIZE = 400
BATCH_CHARACTERS = 1 << 14
BATCHES_BETWEEN_CHECKPOINTS = 4
_WORDS_A_LINE = 60


class Told(NamedTuple):
    """A line of a preparing process: what it does, and how many characters are done."""

    what: str
    done: int


class Preparation:
    """Tokenising `corpus` (entries of `data.corpus`) into a cache of its own in `folder`.

    Small corpora, too, are cut into many batches, given to other processes and kept often, unless `as_it_is`.
    """

    def __init__(
        self, folder: Path, corpus: Sequence[str], *, vocab_size: int = VOCAB_SIZE, as_it_is: bool = False
    ) -> None:
        self.cache = folder / "cache"
        self._order = {"corpus": list(corpus), "vocab_size": vocab_size, "as_it_is": as_it_is}
        self._environment = {**os.environ, "MINI_BERT_CACHE": str(self.cache), "OPENBLAS_NUM_THREADS": "1"}

    def start(self, workers: int) -> subprocess.Popen[str]:
        """Start a process that prepares, and do not wait for it."""
        order = json.dumps({**self._order, "workers": workers})
        command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, order]
        return subprocess.Popen(
            command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def run(self, workers: int) -> tuple[list[Told], dict[str, Any]]:
        """Prepare to the end; what was told, and what the process says of itself.

        Raises:
            RuntimeError: the process failed.
        """
        with self.start(workers) as process:
            output, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(f"the preparation failed: {errors[-500:]}")
        return told(output), json.loads(output.splitlines()[-1])

    def open(self, config: Config) -> TokenCorpus:
        """What has been prepared, in this process."""
        from mini_bert.data.tokens import open_tokens

        before = os.environ.get("MINI_BERT_CACHE")
        os.environ["MINI_BERT_CACHE"] = str(self.cache)
        try:
            return open_tokens(config.data, config.tokenizer, config.model.vocab_size, workers=0)
        finally:
            os.environ.pop("MINI_BERT_CACHE")
            if before is not None:
                os.environ["MINI_BERT_CACHE"] = before

    def digests(self) -> dict[str, str]:
        """The sha256 of every file in the cache."""
        return {
            str(path.relative_to(self.cache)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.cache.rglob("*"))
            if path.is_file()
        }


class Peaks(NamedTuple):
    """Most resident memory, in bytes: of a process and its children at one moment, of itself, and of one child."""

    together: int = 0
    process: int = 0
    child: int = 0


def peak_of_tree(process: subprocess.Popen[str], every: float = 0.05) -> Peaks:
    """Look at a process and its children until it ends. Pages of files count, those of libraries in each process.

    Its output must fit into a pipe: that of a preparation `as_it_is`, which tells only when it begins something else.
    """
    peaks = Peaks()
    while process.poll() is None:
        not_yet = (_command(process.pid), b"")  # what is just being started still shows the memory of its parent
        children = [child for child in _children(process.pid) if _command(child) not in not_yet]
        mine, theirs = _resident(process.pid), [_resident(child) for child in children]
        peaks = Peaks(*map(max, peaks, (mine + sum(theirs), mine, max(theirs, default=0))))
        time.sleep(every)
    return peaks


def _resident(pid: int) -> int:
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _command(pid: int) -> bytes:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return []


def told(output: str) -> list[Told]:
    """The whole lines of progress in what a process printed."""
    return [Told(*json.loads(line)) for line in output.split("\n")[:-1] if line.startswith("[")]


def write_text(path: Path, characters: int, seed: int = 0, words: int = 5000) -> Path:
    """About so many characters of made-up sentences: plain (`.txt`), compressed (`.gz`), or as documents (`.jsonl`).

    `words` different words, of which half of the text uses a twentieth; every line has two that are its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = _lines(RandomStream(seed, "text"), words)
    with (
        gzip.open(path, "wt", encoding="utf-8", compresslevel=1)
        if path.suffix == ".gz"
        else path.open("w", encoding="utf-8") as file
    ):
        written = 0
        while written < characters:
            text = next(lines)
            written += file.write(json.dumps({"text": text}) + "\n" if ".jsonl" in path.name else text + "\n")
    return path


def _lines(stream: RandomStream, words: int) -> Iterator[str]:
    """Endless lines, each three sentences of 20 words; the lines of a block of 500 are shuffled from block to block."""
    letters = RandomStream(0, "lexicon").integers(26, words, 9)
    lengths = 2 + RandomStream(0, "lexicon/lengths").integers(8, words)[:, 0]
    lexicon = ["".join(chr(97 + c) for c in row[:length]) for row, length in zip(letters, lengths, strict=True)]
    number = 0
    while True:
        block = stream.at(str(number // 500))
        chosen = (words * block.uniform(500, _WORDS_A_LINE) ** 4).astype(int)
        for row in chosen.tolist():
            text = [lexicon[word] for word in row]
            text[7], text[33] = f"{text[7]}{number:x}", f"n{number}"
            sentences = (" ".join(text[first : first + 20]).capitalize() for first in range(0, _WORDS_A_LINE, 20))
            yield ". ".join(sentences) + "."
            number += 1


def main(words: Sequence[str]) -> int:
    """Prepare as the one word, a JSON object, says."""
    order: Mapping[str, Any] = json.loads(words[0])

    from mini_bert.config.schema import DataConfig, TokenizerConfig
    from mini_bert.data import split, tokens, work

    if not order["as_it_is"]:
        work._BATCH_CHARACTERS, work._SERIAL_BYTES = BATCH_CHARACTERS, 0
        tokens._BATCHES_BETWEEN_CHECKPOINTS = BATCHES_BETWEEN_CHECKPOINTS
        split._CHARACTERS_BETWEEN_CHECKPOINTS = 8 * BATCH_CHARACTERS

    told_last = ""

    def progress(what: str, done: int, total: int) -> None:
        nonlocal told_last
        if what != told_last or not order["as_it_is"]:
            print(json.dumps([what, done]), flush=True)
        told_last = what

    begin = time.perf_counter()
    data = DataConfig(corpus=tuple(order["corpus"]), held_out_fraction=0.1)
    size = order["vocab_size"]
    corpus = tokens.open_tokens(data, TokenizerConfig(), size, progress=progress, workers=order["workers"])
    seconds = time.perf_counter() - begin
    rows = {layout: _bytes_of_rows(corpus, layout, size) for layout in ("packed", "sentences")}
    print(json.dumps({"seconds": seconds, "tokens": corpus.train.n_tokens, "rows_bytes": rows}))
    return 0


def _bytes_of_rows(corpus: TokenCorpus, layout: str, vocab_size: int) -> int:
    """What the rows and the order of an epoch take at their peak, beside the mapped files."""
    import tracemalloc

    from mini_bert.config.schema import Config
    from mini_bert.data.batches import BatchStream

    config = Config.model_validate({"data": {"layout": layout}, "model": {"vocab_size": vocab_size}})
    corpus.train.layout = layout
    tracemalloc.start()
    BatchStream(corpus.train, config, corpus.tokenizer).row_numbers(0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
