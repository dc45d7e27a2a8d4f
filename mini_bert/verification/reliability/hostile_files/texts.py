"""YAML, JSON and NumPy files that build objects, expand, nest, or say two things: name → content. All are refused."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

from mini_bert.verification.reliability.hostile_files.pickles import CODE, DEED

MILLION = 10**6


def yaml_files() -> dict[str, bytes]:
    """Configurations."""
    python = {
        "object/apply": f"!!python/object/apply:os.system ['{DEED}']",
        "object/apply with keywords": f"!!python/object/apply:os.system {{args: ['{DEED}']}}",
        "object/apply of eval": f'!!python/object/apply:builtins.eval ["{CODE}"]',
        "object/apply of exec": f'!!python/object/apply:builtins.exec ["{CODE}"]',
        "object/apply of Popen": "!!python/object/apply:subprocess.Popen [[touch, canary]]",
        "object/new": f"!!python/object/new:os.system ['{DEED}']",
        "object/new with state": "!!python/object/new:type {args: [z, !!python/tuple [], {}], state: {a: 1}}",
        "object": "!!python/object:subprocess.Popen {args: [touch, canary]}",
        "name": "!!python/name:os.system x",
        "module": "!!python/module:antigravity x",
        "tuple": "!!python/tuple [1, 2]",
        "bytes": "!!python/bytes aGVsbG8=",
        "in full": f"!<tag:yaml.org,2002:python/object/apply:os.system> ['{DEED}']",
        "by a directive": f"%TAG ! tag:yaml.org,2002:python/object/apply:\n---\ntrain: !os.system ['{DEED}']",
    }
    files = {f"!!python/{name}": text for name, text in python.items()}
    files |= {
        f"a setting that is !!python/{name}": f"train:\n  lr: {python[name]}" for name in ("object/apply", "name")
    }
    files |= {
        "a parent that is !!python": f"extends: {python['object/apply']}",
        "an environment that is !!python": f"environments: {{a: {python['object/apply']}}}",
        "a key that is !!python": f"? {python['object/apply']}\n: 1",
        "a tag of its own": "train: !mine {lr: 1}",
        "an unknown tag in full": "train: !<x:y> {lr: 1}",
        "a billion laughs": "a: &a [ha, ha]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "a mapping of billions": "a: &a {x: 1}\nb: &b {<<: [*a, *a], y: *a}\nc: {<<: [*b, *b]}",
        "an alias of itself": "train: &a {lr: *a}",
        "a list in itself": "train: &a [*a]",
        "an anchor used once": "train: &a {lr: 1}\nmodel: *a",
        "brackets without end": "[" * 32_000,
        "braces without end": '{"a": ' * 5_000,
        "dashes without end": "- " * 16_000,
        "question marks without end": "? " * 16_000,
        "a number of 30 000 digits": f"train: {{lr: {'9' * 30_000}}}",
        "a number to the base of 60": f"train: {{steps: {'1:' * 15_000}1}}",
        "a text of 30 000": f"train: {{lr: {'x' * 30_000}}}",
        "a file of a million": f"# {'x' * MILLION}",
        "one key twice": "train: {lr: 1, lr: 2}",
        "one key in two spellings": "train: {batch-size: 8, batch_size: 9}",
        "one section twice": "train: {lr: 1}\ntrain: {lr: 2}",
        "two documents": "train: {lr: 1}\n---\ntrain: {lr: 2}",
        "a control character": "train: {lr: \x1b}",
        "itself as a parent": "extends: mine.yaml",
        "a device as a parent": "extends: /dev/zero",
        "2 500 parents": f"extends: [{', '.join(['model/tiny'] * 2500)}]",
        "a name with control characters": '"\\e[2J": {lr: 1}',
        "a setting with control characters": 'train: {"\\e[2J": 1}',
    }
    return {name: text.encode() for name, text in files.items()}


@cache
def _names() -> bytes:
    return b"{" + b",".join(b'"%x":0' % number for number in range(2**20 + 1)) + b"}"


def json_files(good: bytes) -> dict[str, bytes]:
    """What becomes of a good JSON object."""
    body = good.strip()[1:]
    first = json.loads(good)
    key = next(iter(first))
    again = json.dumps({key: first[key]})[1:-1].encode()

    def more(text: bytes) -> bytes:
        return b'{"zzz": ' + text + b", " + body

    return {
        "brackets without end": b"[" * MILLION,
        "objects without end": b'{"a":' * 200_000,
        "brackets without end in it": more(b"[" * 200_000),
        "brackets that do end": more(b"[" * 100_000 + b"]" * 100_000),
        "a number of 5 000 digits": more(b"9" * 5000),
        "a number of a million digits": more(b"9" * MILLION),
        "three million lists": more(b"[" + b"[]," * 3 * MILLION + b"0]"),
        "three million numbers": more(b"[" + b"1," * 3 * MILLION + b"1]"),
        "a million and more names": more(_names()),
        "a name twice": b"{" + again + b", " + again + b", " + body,
        "a name twice, deep down": more(b'[{"a": {"b": 1, "b": 2}}]'),
        "a name with control characters twice": more(b'{"\\u001b[2J": 1, "\\u001b[2J": 2}'),
        "20 MB of blanks": good + b" " * 20 * MILLION,
        "a list": b"[" + good + b"]",
        "a number": b"7",
        "a text": b'"' + b"x" * 1000 + b'"',
        "null": b"null",
        "nothing": b"",
        "UTF-16": good.decode().encode("utf-16"),
        "a byte that is no UTF-8": good.replace(b'"', b'"\xff', 1),
        "cut off": good[: len(good) // 2],
        "something behind it": good + b"{}",
        "a pickle": b"cposix\nsystem\n(S'" + DEED.encode() + b"'\ntR.",
    }


def array_files() -> dict[str, bytes]:
    """NumPy's own files, which hold pickles where their dtype is object."""

    class Deed:
        def __reduce__(self) -> tuple[object, ...]:
            import os

            return os.system, (DEED,)

    files = {}
    for name, array in {"objects": np.array([Deed()], object), "numbers": np.ones(3)}.items():
        single, several = io.BytesIO(), io.BytesIO()
        np.save(single, array, allow_pickle=True)
        np.savez(several, x=array)
        files |= {f".npy of {name}": single.getvalue(), f".npz of {name}": several.getvalue()}
    return files


def safetensors_files() -> dict[str, bytes]:
    """Headers that lie about what follows, or want more memory than there are bytes."""
    entry = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}

    def file(header: Mapping[str, object] | bytes, payload: int = 8, length: int | None = None) -> bytes:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        return (len(text) if length is None else length).to_bytes(8, "little") + text + bytes(payload)

    def changed(**fields: object) -> bytes:
        return file({"x": {**entry, **fields}})

    files = {
        "outside the file": changed(data_offsets=[0, 16], shape=[4]),
        "far outside the file": changed(data_offsets=[2**39, 2**39 + 8]),
        "beyond every file": changed(data_offsets=[2**64 - 8, 2**64]),
        "before the file": changed(data_offsets=[-8, 0]),
        "backwards": changed(data_offsets=[8, 0]),
        "over one another": file({"x": entry, "y": {**entry, "data_offsets": [4, 12]}}, 12),
        "over one another entirely": file({"x": entry, "y": entry}),
        "with a gap": file({"x": entry, "y": {**entry, "data_offsets": [12, 20]}}, 20),
        "bytes nobody names": file({"x": entry}, 16),
        "a shape beyond every machine": changed(shape=[2**62, 2**62]),
        "a shape that is zero and endless": changed(shape=[0, 2**63], data_offsets=[0, 0]),
        "a shape that wraps around": changed(shape=[2**32, 2**32]),
        "a shape of truths": changed(shape=[True, 2]),
        "a shape of fractions": changed(shape=[2.0]),
        "100 000 dimensions": changed(shape=[1] * 100_000),
        "an unknown dtype": changed(dtype="O"),
        "a dtype that is code": changed(dtype="__import__('os').system('touch canary')"),
        "another length": changed(shape=[3]),
        "one name twice": file(b'{"x": %s, "x": %s}' % ((json.dumps(entry).encode(),) * 2)),
        "a header longer than the file": file({"x": entry}, 8, 10**6),
        "a header of 2^63 bytes": file({"x": entry}, 8, 2**63),
        "a header of none": file(b"", 8),
        "metadata that is no text": file({"__metadata__": {"a": 1}, "x": entry}),
        "metadata that nests": file({"__metadata__": {"mini_bert": "[" * MILLION}, "x": entry}),
        "a name of a million": file({"x" * MILLION: 7}),
        "a name with control characters": file({"\x1b[2J": 7}),
        "a pickle": b"\x80\x02cposix\nsystem\nX\x0c\x00\x00\x00touch canaryq\x00\x85R.",
    }
    return files | {
        f"a header with {name}": file(content)
        for name, content in json_files(json.dumps({"x": entry}).encode()).items()
        if len(content) > 100 and not name.startswith(("20 MB", "something"))
    }


def there(folder: Path) -> set[str]:
    """Everything in a folder, by relative paths."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
