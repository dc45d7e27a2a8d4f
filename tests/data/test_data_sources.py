"""The registry: complete, checked to the byte, and quiet where a file is already there."""

from __future__ import annotations

import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mini_bert.data import sources
from mini_bert.data.sources import Source, SourceFile
from mini_bert.errors import ChecksumError, DataError

CONTENT = b"Some text that is served.\n"
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_response(200 if self.path.endswith("file.txt") else 404)
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MINI_BERT_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def register(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str = SHA256) -> None:
    file = SourceFile("sub/file.txt", url, sha256, len(CONTENT))
    monkeypatch.setattr(sources, "SOURCES", {"toy": Source("toy", "corpus", "A toy", "CC0", (file,), "plain")})


def test_every_set_is_registered_whole() -> None:
    registered = {name: source for name, source in sources.SOURCES.items() if source.files}
    assert len(registered) == 21
    assert sum(len(source.files) for source in registered.values()) == 286
    assert sum(source.bytes for source in registered.values()) == 159_975_711
    corpora = {name for name, source in sources.SOURCES.items() if source.kind == "corpus"}
    assert corpora == {"enwiki-2018", "novels", "wikitext-2", "brown", "python-docs", "python-docs-all"}
    for source in sources.SOURCES.values():
        assert source.title
        assert source.licence
        assert bool(source.reader) == (source.kind == "corpus")
        for file in source.files:
            assert len(file.sha256) == 64
            assert file.url.startswith("https://")
            assert not Path(file.path).is_absolute()
            assert ".." not in Path(file.path).parts


@pytest.mark.data
def test_every_file_holds_the_registered_bytes() -> None:
    for name in sources.SOURCES:
        assert len(sources.verify(name)) == len(sources.SOURCES[name].files)


@pytest.mark.data
def test_the_registry_is_the_manifest() -> None:
    manifest = json.loads((sources.data_home() / "manifest.json").read_text())["files"]
    expected = {
        (
            f["dataset"],
            f["path"].removeprefix(f"data/{f['dataset']}/"),
            f["raw_url"],
            f["stored_sha256"],
            f["stored_bytes"],
        )
        for f in manifest
    }
    assert all(f["stored_sha256"] == f["upstream_sha256"] for f in manifest), "one sha256 does for file and download"
    assert {(source.name, *file) for source in sources.SOURCES.values() for file in source.files} == expected


def test_an_unknown_name_suggests_the_nearest() -> None:
    for call in (sources.lookup, sources.fetch, sources.verify, sources.describe):
        with pytest.raises(DataError, match=r"'novel'.*Did you mean 'novels'\?"):
            call("novel")


def test_homes_are_the_environments_or_the_platforms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINI_BERT_DATA", "there")
    monkeypatch.setenv("MINI_BERT_CACHE", "here")
    assert (sources.data_home(), sources.cache_home()) == (Path("there"), Path("here"))
    monkeypatch.delenv("MINI_BERT_DATA")
    monkeypatch.delenv("MINI_BERT_CACHE")
    assert sources.data_home().is_absolute()
    assert "mini-bert" in str(sources.data_home())
    assert sources.data_home() != sources.cache_home()


def test_a_missing_file_is_downloaded_once(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, f"{server}/file.txt")
    for _ in range(2):
        [path] = sources.fetch("toy")
        assert path == home / "toy/sub/file.txt"
        assert path.read_bytes() == CONTENT
    assert Handler.asked == ["/file.txt"]


def test_a_file_that_is_there_is_never_downloaded(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "http://nowhere.invalid/file.txt")
    path = home / "toy/sub/file.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    path.chmod(0o444)
    assert sources.fetch("toy") == sources.verify("toy") == [path]


def test_altered_bytes_are_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "http://nowhere.invalid/file.txt")
    path = home / "toy/sub/file.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT + b"!")
    for call in (sources.fetch, sources.verify):
        with pytest.raises(ChecksumError) as caught:
            call("toy")
        assert str(path) == caught.value.argument
        assert hashlib.sha256(CONTENT + b"!").hexdigest() in str(caught.value.got)
        assert SHA256 in caught.value.expected
    assert path.read_bytes() == CONTENT + b"!", "what a person has put there is not overwritten"


def test_a_wrong_download_is_refused_and_not_kept(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, f"{server}/file.txt", sha256="0" * 64)
    with pytest.raises(ChecksumError, match="another sha256"):
        sources.fetch("toy")
    assert not [path for path in home.rglob("*") if path.is_file()]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/file.txt", "{server}/gone"])
def test_without_a_network_it_says_what_to_do(
    home: Path, server: str, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    register(monkeypatch, url.format(server=server))
    with pytest.raises(DataError, match=r"cannot be reached.*MINI_BERT_DATA.*python-docs") as caught:
        sources.fetch("toy")
    assert str(home / "toy/sub/file.txt") in str(caught.value)
    assert not (home / "toy").exists(), "folders were made for a file that did not come"


def test_a_missing_file_fails_verify(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, "http://nowhere.invalid/file.txt")
    with pytest.raises(DataError, match=r"no such file.*mini-bert data fetch toy"):
        sources.verify("toy")
    assert sources.describe("toy")["files"][0]["present"] is False
    assert json.dumps(sources.describe("toy"))


def test_a_folder_that_cannot_be_written_is_named(home: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, f"{server}/file.txt")
    home.write_text("a file where the folder should be")
    with pytest.raises(DataError, match="a folder that can be written"):
        sources.fetch("toy")
