"""Names on the Hugging Face Hub: what is fetched, and what is said where nothing can be."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mini_bert
from mini_bert.cli import main
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import CheckpointError, MissingExtraError
from mini_bert.interop import hub
from mini_bert.model.bert import MiniBERT
from mini_bert.text.wordpiece import WordPiece

PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "cat", "sat", "##s"]
SHAPE = ModelConfig(
    vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    max_position_embeddings=8,
)  # fmt: skip
OTHERS = ("README.md", "modeling_mine.py", "pytorch_model.bin", "tf_model.h5", "onnx/model.onnx", ".gitattributes")
MODEL = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt")


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """The files of a model's page: a model, and much that is none of it."""
    folder = tmp_path / "page"
    MiniBERT(SHAPE, seed=5, tokenizer=WordPiece(PIECES)).save_pretrained(folder)
    for name in OTHERS:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"raise SystemExit\n")
    return folder


class Pages:
    """What `huggingface_hub` offers of itself here, over folders of this machine instead of a network."""

    def __init__(self, pages: dict[str, Path], cache: Path) -> None:
        class RepositoryNotFoundError(OSError):
            pass

        class GatedRepoError(RepositoryNotFoundError):
            pass

        class RevisionNotFoundError(OSError):
            pass

        self.pages, self.cache, self.online, self.patterns = pages, cache, True, ()
        self.errors = ModuleType("huggingface_hub.errors")
        self.errors.__dict__.update({kind.__name__: kind for kind in (RepositoryNotFoundError, GatedRepoError)})
        self.errors.__dict__["RevisionNotFoundError"] = RevisionNotFoundError
        self.module = ModuleType("huggingface_hub")
        self.module.__dict__.update(
            HfApi=lambda: SimpleNamespace(model_info=self.model_info),
            snapshot_download=self.snapshot_download,
            try_to_load_from_cache=self.try_to_load_from_cache,
        )

    def model_info(self, name: str, revision: str | None, timeout: float) -> Any:
        if not self.online:
            raise ConnectionError("no route to host")
        if name == "meta/gated":
            raise self.errors.GatedRepoError
        if name not in self.pages:
            raise self.errors.RepositoryNotFoundError
        if revision not in (None, "main"):
            raise self.errors.RevisionNotFoundError
        files = [path for path in self.pages[name].rglob("*") if path.is_file()]
        return SimpleNamespace(
            siblings=[SimpleNamespace(rfilename=path.relative_to(self.pages[name]).as_posix()) for path in files]
        )

    def snapshot_download(self, name: str, revision: str | None, allow_patterns: list[str]) -> str:
        self.patterns = tuple(allow_patterns)
        folder = self.cache / name
        folder.mkdir(parents=True, exist_ok=True)
        for file in allow_patterns:
            (folder / file).write_bytes((self.pages[name] / file).read_bytes())
        return str(folder)

    def try_to_load_from_cache(self, name: str, file: str, revision: str | None) -> str | None:
        path = self.cache / name / file
        return str(path) if path.exists() else None


@pytest.fixture
def pages(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pages:
    pages = Pages({"org/tiny": page}, tmp_path / "cache")
    monkeypatch.setitem(sys.modules, "huggingface_hub", pages.module)
    monkeypatch.setitem(sys.modules, "huggingface_hub.errors", pages.errors)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return pages


def test_a_model_opens_by_its_name_and_nothing_but_it_is_fetched(pages: Pages) -> None:
    model = MiniBERT.from_pretrained("org/tiny")
    assert model.parameters.buffer.tobytes() == MiniBERT(SHAPE, seed=5).parameters.buffer.tobytes()
    assert model.tokenizer == WordPiece(PIECES)
    assert pages.patterns == MODEL
    MiniBERT.from_pretrained("org/tiny@main")


def test_every_verb_knows_the_name(pages: Pages, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fill-mask", "org/tiny", "the [MASK]", "--top-k", "1"]) == 0
    assert main(["convert", "org/tiny", "out"]) == 0
    assert "BertForMaskedLM" in capsys.readouterr().out


def test_a_path_and_a_run_come_first(pages: Pages) -> None:
    other = MiniBERT(SHAPE, seed=6)
    other.save_pretrained("org/tiny")
    np.testing.assert_array_equal(MiniBERT.from_pretrained("org/tiny").parameters.buffer, other.parameters.buffer)
    with pytest.raises(CheckpointError, match="Name a checkpoint"):
        MiniBERT.from_pretrained("org/tinny")  # a folder org is here, so this is a mistyped path
    MiniBERT(SHAPE, seed=7).save_pretrained("runs/of/mine")
    from mini_bert.training.model_lookup import find_model

    assert find_model("of/mine") == Path("runs/of/mine")
    assert pages.patterns == ()


def test_without_a_network_the_copy_is_taken(pages: Pages) -> None:
    pages.online = False
    with pytest.raises(CheckpointError, match="org/tiny on the Hugging Face Hub: got no connection"):
        MiniBERT.from_pretrained("org/tiny")
    pages.online = True
    MiniBERT.from_pretrained("org/tiny")
    pages.online = False
    assert MiniBERT.from_pretrained("org/tiny").tokenizer is not None
    (pages.cache / "org/tiny/model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="no copy from an earlier download"):
        MiniBERT.from_pretrained("org/tiny")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("org/other", "no model of this name.*as its page"),
        ("meta/gated", "consent.*hf auth login"),
        ("org/tiny@v9", "no revision 'v9'"),
    ],
)
def test_what_the_hub_refuses(pages: Pages, name: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        MiniBERT.from_pretrained(name)


def test_without_the_extra_it_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingExtraError, match=r'pip install "mini-bert\[hub\]"'):
        MiniBERT.from_pretrained("org/tiny")
    assert main(["fill-mask", "org/tiny", "the [MASK]"]) == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("google/bert_uncased_L-2_H-128_A-2", True),
        ("org/a.b-c@v1.0", True),
        ("bert", False),
        ("a/b/c", False),
        ("../b", False),
        ("/tmp", False),
        ("org/", False),
        ("org/a b", False),
        ("org/à", False),
        (Path("org/model"), True),
    ],
)
def test_what_is_a_name(text: str | Path, expected: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert hub.is_name(text) is expected


@pytest.mark.parametrize(
    ("weights", "chosen"),
    [
        (["pytorch_model.bin", "model.safetensors"], ["model.safetensors"]),
        (["pytorch_model.bin", "model.fp16.safetensors", "sub/model.safetensors"], ["pytorch_model.bin"]),
        (
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
            ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"],
        ),
        (
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json", "training_args.bin"],
            ["pytorch_model-00001-of-00001.bin", "pytorch_model.bin.index.json"],
        ),
    ],
)
def test_one_set_of_weights_is_enough(weights: list[str], chosen: list[str]) -> None:
    small = ["config.json", "vocab.txt"]
    assert hub.needed_files([*small, *weights, "model.py"], "org/x") == sorted([*small, *chosen])


def test_a_page_without_weights_that_can_be_read() -> None:
    with pytest.raises(CheckpointError, match="no weights among its 2 files"):
        hub.needed_files(["config.json", "tf_model.h5"], "org/x")


# --- the real library, over a Hub of our own -------------------------------------------------------------------------


class Hub(http.server.ThreadingHTTPServer):
    """As much of the Hub as answers about one model; `asked` are the files that were sent."""

    daemon_threads = True
    commit = "0123456789abcdef0123456789abcdef01234567"

    def __init__(self, page: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.page, self.asked = page, set[str]()


class Answer(http.server.BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path, page, commit = self.path.partition("?")[0], self.server.page, self.server.commit
        files = [file for file in sorted(page.rglob("*")) if file.is_file()]
        names = [file.relative_to(page).as_posix() for file in files]
        if path in ("/api/models/org/tiny", "/api/models/org/tiny/revision/main"):
            self.send(json.dumps({"id": "org/tiny", "sha": commit, "siblings": [{"rfilename": n} for n in names]}))
        elif path.startswith("/api/models/org/tiny/tree/"):
            sizes = [file.stat().st_size for file in files]
            entries = [
                {"type": "file", "path": name, "size": size, "oid": f"{number:040}"}
                for number, (name, size) in enumerate(zip(names, sizes, strict=True))
            ]
            self.send(json.dumps(entries))
        elif path.startswith("/org/tiny/resolve/") and path.split("/", 5)[-1] in names:
            name = path.split("/", 5)[-1]
            self.server.asked.add(name)
            self.send((page / name).read_bytes(), {"ETag": f'"{names.index(name):040}"', "X-Repo-Commit": commit})
        else:
            self.send("{}", {"X-Error-Code": "RepoNotFound"}, status=404)

    def send(self, content: str | bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        content = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


def run(folder: Path, endpoint: str, *words: str) -> subprocess.CompletedProcess[str]:
    folder.mkdir(exist_ok=True)
    environment = {
        **os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(Path(mini_bert.__file__).parents[1]), "no_proxy": "127.0.0.1",
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "mini_bert", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.reference
def test_the_real_library_fetches_the_model_and_finds_it_again_without_a_network(page: Path, tmp_path: Path) -> None:
    with Hub(page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        fetched = run(tmp_path / "away", endpoint, "convert", "org/tiny", "out", "--json")
        assert fetched.returncode == 0, fetched.stderr
        unknown = run(tmp_path / "away", endpoint, "convert", "org/unknown", "other")
        server.shutdown()
    assert server.asked == set(MODEL)
    assert "no model of this name" in unknown.stderr
    assert unknown.returncode == 2
    for name in MODEL:
        assert (tmp_path / "away" / "out" / name).read_bytes() == (page / name).read_bytes()
    again = run(tmp_path / "away", endpoint, "convert", "org/tiny", "again")
    assert again.returncode == 0, again.stderr
    assert "BertForMaskedLM" in again.stdout
    never = run(tmp_path / "elsewhere", endpoint, "convert", "org/tiny", "out")
    assert never.returncode == 2
    assert "no connection" in never.stderr
    assert never.stderr.count("\n") == 1
