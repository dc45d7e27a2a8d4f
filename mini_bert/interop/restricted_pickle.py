"""What does a pickle describe, when nothing that it says is done?

A pickle is a program for a stack machine, and some instructions of that machine import a name and call it: opening a
foreign pickle with Python's own module runs foreign code. This machine knows the instructions that build plain values
and no others. A name in a pickle is never imported and no attribute of anything is ever looked up: a name is a key of
the caller's table, or the end. Every length is compared with the bytes that are there before anything is allocated.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from struct import unpack
from typing import Any, NamedTuple, NoReturn

from mini_bert.errors import CheckpointError

LARGEST_PICKLE = 16 * 2**20
MOST_INSTRUCTIONS = 2**19
"""Together they bound time and memory; a state dict takes some 40 instructions and 250 bytes for a tensor."""

_LONGEST_NAME = 200
_LARGEST_KEY = 2**31
_NEWEST_PROTOCOL = 5
_INSTRUCTION_NAMES = {
    code: name for name, code in vars(pickle).items() if name.isupper() and isinstance(code, bytes) and len(code) == 1
}

_ADVICE = (
    "Nothing of it was executed. If you trust where it comes from, open it there with torch and save "
    "model.state_dict() as safetensors."
)


class Name(NamedTuple):
    """What a pickle wanted imported; it stays these two words."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


class OrderedDict(dict[Any, Any]):
    """What stands for `collections.OrderedDict`: the one object that may be given attributes, which are dropped."""


Call = Callable[[tuple[Any, ...]], object]
"""Makes a value of the arguments that a pickle gives to a name."""


def shown(text: object) -> str:
    """A foreign name as an error may print it: quoted, without control characters, not endless."""
    quoted = repr(text[:100]) if isinstance(text, str) else f"a {type(text).__name__}"
    return quoted if len(quoted) <= 100 else f"{quoted[:97]}…"


def refuse(source: str, got: str, advice: str = "The file is damaged, or torch did not write it.") -> NoReturn:
    """Raise the error of a pickle that is not to be followed.

    Raises:
        CheckpointError: always.
    """
    raise CheckpointError(source, got=got, expected="tensors by name, as torch saves a state dict", advice=advice)


def read(
    content: bytes,
    position: int,
    source: str,
    *,
    calls: Mapping[Name, Call],
    constants: frozenset[Name] = frozenset(),
    persistent: Call | None = None,
) -> tuple[Any, int]:
    """The value of the pickle that begins at `position`, and where it ends.

    Args:
        content: the bytes that the pickle may reach into.
        position: of its first instruction.
        source: what errors call the file.
        calls: the names that may be called.
        constants: the names that may stand as values.
        persistent: makes a value of a persistent id, which must be a tuple.

    Raises:
        CheckpointError: the pickle is cut off, makes no sense, is too long or wants anything beyond these.
    """
    machine = _Machine(content, position, source, calls, constants, persistent)
    try:
        for _ in range(MOST_INSTRUCTIONS):
            instruction = machine.take(1)
            if instruction == pickle.STOP:
                return machine.stack.pop(), machine.position
            step = _STEPS.get(instruction)
            if step is None:
                called = _INSTRUCTION_NAMES.get(instruction, instruction.hex())
                refuse(source, f"a pickle with the instruction {called}", _ADVICE)
            step(machine)
    except (IndexError, KeyError) as error:
        raise CheckpointError(
            source, got="a pickle that takes what it never put down", expected="a pickle as torch writes it"
        ) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(source, got="a text that is no UTF-8", expected="a pickle as torch writes it") from error
    refuse(source, f"a pickle of more than {MOST_INSTRUCTIONS} instructions")


class _Machine:
    """Stack, stacks under marks, and memo of one pickle."""

    def __init__(
        self,
        content: bytes,
        position: int,
        source: str,
        calls: Mapping[Name, Call],
        constants: frozenset[Name],
        persistent: Call | None,
    ) -> None:
        self.content = content
        self.position = position
        self.source = source
        self.calls = calls
        self.constants = constants
        self.persistent = persistent
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def take(self, count: int) -> bytes:
        start = self.position
        self.position += count
        if self.position > len(self.content):
            refuse(self.source, "a pickle that is cut off")
        return self.content[start : self.position]

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "little")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.below.pop()
        return items

    def protocol(self) -> None:
        version = self.number(1)
        if version > _NEWEST_PROTOCOL:
            refuse(self.source, f"a pickle of protocol {version}")

    def frame(self) -> None:
        self.take(8)

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def tuple_of(self, count: int) -> None:
        items = [self.stack.pop() for _ in range(count)]
        self.push(tuple(reversed(items)))

    def line(self) -> str:
        end = self.content.find(b"\n", self.position, self.position + _LONGEST_NAME)
        if end < 0:
            refuse(self.source, "a pickle with a name that has no end")
        text = self.take(end - self.position).decode()
        self.position += 1
        return text

    def global_name(self) -> None:
        module = self.line()
        self.name(module, self.line())

    def stacked_name(self) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.name(module, name)

    def name(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            refuse(self.source, "a pickle with a name that is no text", _ADVICE)
        found = Name(module, name)
        if found not in self.calls and found not in self.constants and found != _ORDERED:
            refuse(self.source, f"a pickle that asks for {shown(str(found))}", _ADVICE)
        self.push(found)

    def call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if type(function) is not Name or type(arguments) is not tuple:
            refuse(self.source, f"a pickle that calls {shown(function)}", _ADVICE)
        if function == _ORDERED and not arguments:
            self.push(OrderedDict())
        elif function in self.calls:
            self.push(self.calls[function](arguments))
        else:
            refuse(self.source, f"a pickle that calls {function} in a way that torch does not", _ADVICE)

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is not OrderedDict or not isinstance(state, dict):
            refuse(self.source, f"a pickle that sets the state of {shown(target)}", _ADVICE)

    def persistent_id(self) -> None:
        identity = self.stack.pop()
        if self.persistent is None or type(identity) is not tuple:
            refuse(self.source, f"a pickle with {shown(identity)} as a persistent id", _ADVICE)
        self.push(self.persistent(identity))

    def put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict) or len(items) % 2:
            refuse(self.source, f"a pickle that puts {len(items)} items by name into {shown(target)}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and 0 <= key < _LARGEST_KEY):
                refuse(self.source, f"a dictionary with {shown(key)} as a name")
            if key in target:
                refuse(self.source, f"the name {shown(str(key))} twice")
            target[key] = value

    def append(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            refuse(self.source, f"a pickle that appends to {shown(self.stack[-1])}")
        self.stack[-1].extend(items)

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]


_ORDERED = Name("collections", "OrderedDict")

_STEPS: dict[bytes, Callable[[_Machine], None]] = {
    pickle.PROTO: _Machine.protocol,
    pickle.FRAME: _Machine.frame,
    pickle.MARK: _Machine.mark,
    pickle.NONE: lambda machine: machine.push(None),
    pickle.NEWTRUE: lambda machine: machine.push(True),
    pickle.NEWFALSE: lambda machine: machine.push(False),
    pickle.BININT: lambda machine: machine.push(unpack("<i", machine.take(4))[0]),
    pickle.BININT1: lambda machine: machine.push(machine.number(1)),
    pickle.BININT2: lambda machine: machine.push(machine.number(2)),
    pickle.LONG1: lambda machine: machine.push(int.from_bytes(machine.take(machine.number(1)), "little", signed=True)),
    pickle.BINFLOAT: lambda machine: machine.push(unpack(">d", machine.take(8))[0]),
    pickle.BINUNICODE: lambda machine: machine.push(machine.take(machine.number(4)).decode()),
    pickle.SHORT_BINUNICODE: lambda machine: machine.push(machine.take(machine.number(1)).decode()),
    pickle.SHORT_BINSTRING: lambda machine: machine.push(machine.take(machine.number(1)).decode()),
    pickle.EMPTY_TUPLE: lambda machine: machine.push(()),
    pickle.TUPLE1: lambda machine: machine.tuple_of(1),
    pickle.TUPLE2: lambda machine: machine.tuple_of(2),
    pickle.TUPLE3: lambda machine: machine.tuple_of(3),
    pickle.TUPLE: lambda machine: machine.push(tuple(machine.since_mark())),
    pickle.EMPTY_LIST: lambda machine: machine.push([]),
    pickle.APPEND: lambda machine: machine.append([machine.stack.pop()]),
    pickle.APPENDS: lambda machine: machine.append(machine.since_mark()),
    pickle.EMPTY_DICT: lambda machine: machine.push({}),
    pickle.SETITEM: lambda machine: machine.put([machine.stack.pop(), machine.stack.pop()][::-1]),
    pickle.SETITEMS: lambda machine: machine.put(machine.since_mark()),
    pickle.BINPUT: lambda machine: machine.remember(machine.number(1)),
    pickle.LONG_BINPUT: lambda machine: machine.remember(machine.number(4)),
    pickle.MEMOIZE: lambda machine: machine.remember(len(machine.memo)),
    pickle.BINGET: lambda machine: machine.push(machine.memo[machine.number(1)]),
    pickle.LONG_BINGET: lambda machine: machine.push(machine.memo[machine.number(4)]),
    pickle.GLOBAL: _Machine.global_name,
    pickle.STACK_GLOBAL: _Machine.stacked_name,
    pickle.REDUCE: _Machine.call,
    pickle.BUILD: _Machine.build,
    pickle.BINPERSID: _Machine.persistent_id,
}
