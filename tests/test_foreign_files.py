from __future__ import annotations

import json
import os

import pytest

from mini_bert.foreign_files import parse_json, read_regular_file


def test_a_file_and_a_link_to_one_are_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        assert read_regular_file(tmp_path / name) == b"12345"
        assert read_regular_file(tmp_path / name, 5) == b"12345"
        with pytest.raises(OSError, match="more than 4 bytes"):
            read_regular_file(tmp_path / name, 4)


def test_what_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("none")
    for name in ("pipe", "folder", "endless", "loop", "nowhere", "none"):
        with pytest.raises(OSError, match=r"(?i)folder|pipe or a device|too many levels|no such file") as refused:
            read_regular_file(tmp_path / name)
        assert refused.value.strerror


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None, True, "é\U0001f600"]}, [], 3, "x"])
def test_json_is_read(value):
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(value, ensure_ascii=False).encode()) == value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"a": 1, "b": {"c": 1, "c": 2}}', "the name 'c' twice"),
        (b'{"\\u001b[2J": 1, "\\u001b[2J": 2}', r"the name '\\x1b\[2J' twice"),
        (b"[" * 200_000, "nested without end"),
        (b'{"a":' * 200_000, "nested without end"),
        (b"9" * 5000, "4300"),
        (b"[" + b"[]," * 2**20 + b"0]", "more than 1,048,576 values"),
        (b"\xff", "utf-8"),
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting"),
    ],
)
def test_json_that_makes_no_sense_is_refused(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(text)
