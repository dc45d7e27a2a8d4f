"""Files that want something done, or want too much: name → how the refusal reads, and the bytes.

Whatever one of them manages to run makes a file named `canary` in the working folder.
"""

from __future__ import annotations

import os
import pickle
import struct
from typing import NamedTuple

from mini_bert.verification.reliability.hostile_files.torch_files import (
    EMPTY,
    FALSE,
    NONE,
    TRUE,
    archive,
    call,
    mapping,
    named,
    number,
    ordered,
    pack,
    persistent,
    program,
    sequence,
    storage,
    tensor,
    text,
    zipped,
)

SIX = struct.pack("<6f", 0, 1, 2, 3, 4, 5)
DEED = "touch canary"
CODE = "open('canary', 'w')"
GOOD = ordered({"x": tensor()})


class Hostile(NamedTuple):
    """A file, and how the error that refuses it reads."""

    refusal: str
    """A regular expression."""
    content: bytes


class _Reduced:
    def __init__(self, function: object, *arguments: object) -> None:
        self.parts = (function, arguments)

    def __reduce__(self) -> tuple[object, ...]:
        return self.parts


def packed(body: bytes, **storages: bytes) -> bytes:
    """An archive of this state dict, with its storages, or one of six floats."""
    return archive(body, storages or {"0": SIX})


def holding(value: bytes) -> bytes:
    """A good state dict with one more value in it."""
    return packed(ordered({"x": tensor(), "y": value}))


def raw(content: bytes) -> bytes:
    """An archive of this very pickle."""
    return zipped({"archive/data.pkl": content, "archive/data/0": SIX})


def view(*arguments: object, **others: bytes) -> bytes:
    """A state dict of one tensor, with these arguments."""
    return packed(ordered({"x": tensor(None, *arguments, **others)}))  # type: ignore[arg-type]


def stacked(module: str, name: str) -> bytes:
    """A name from the stack, as protocol 4 gives it."""
    return text(module) + text(name) + pickle.STACK_GLOBAL


def calls() -> dict[str, Hostile]:
    """Pickles that want a name imported, or called."""
    system = call("os", "system", text(DEED))
    names = {
        "os.system": system,
        "posix.system": call("posix", "system", text(DEED)),
        "builtins.eval": call("builtins", "eval", text(CODE)),
        "builtins.exec": call("builtins", "exec", text(CODE)),
        "__builtin__.eval": call("__builtin__", "eval", text(CODE)),
        "subprocess.Popen": call("subprocess", "Popen", pack(text("touch"), text("canary"))),
        "importlib.import_module": call("importlib", "import_module", text("antigravity")),
        "builtins.__import__": call("builtins", "__import__", text("antigravity")),
        "runpy._run_code": call("runpy", "_run_code", text(CODE), mapping({})),
        "builtins.getattr": call("builtins", "getattr", named("collections", "OrderedDict"), text("__init__")),
        "operator.attrgetter": call("operator", "attrgetter", text("__class__")),
        "functools.partial": call("functools", "partial", named("os", "system"), text(DEED)),
        "types.CodeType": call("types", "CodeType"),
        "_codecs.encode": call("_codecs", "encode", text(CODE), text("rot13")),
        "numpy.load": call("numpy", "load", text("canary")),
        "numpy.core.multiarray._reconstruct": call(
            "numpy.core.multiarray", "_reconstruct", named("numpy", "ndarray"), pack(number(0)), text("O")
        ),
        "numpy.dtype": call("numpy", "dtype", text("O8"), FALSE, TRUE),
        "torch.load": call("torch", "load", text("canary")),
        "torch.hub.load": call("torch.hub", "load", text("somebody/something"), text("model")),
        "torch.storage._load_from_bytes": call("torch.storage", "_load_from_bytes", text(DEED)),
        "torch._tensor._rebuild_from_type_v2": call("torch._tensor", "_rebuild_from_type_v2", named("os", "system")),
        "torch._utils._rebuild_tensor_v3": call("torch._utils", "_rebuild_tensor_v3", storage()),
        "torch.serialization.load": call("torch.serialization", "load", text("canary")),
        "transformers.models.bert.modeling_bert.BertModel": named(
            "transformers.models.bert.modeling_bert", "BertModel"
        ),
    }
    files = {f"calls {name}": Hostile(f"asks for '{name}'", holding(value)) for name, value in names.items()}
    files |= {
        f"pickled by Python, protocol {protocol}": Hostile(
            "asks for '(posix|nt).system'" if protocol else "the instruction (GLOBAL|PUT|MARK)|asks for",
            raw(pickle.dumps(_Reduced(os.system, DEED), protocol)),
        )
        for protocol in range(1, 6)
    }
    dotted = ("OrderedDict.__init__.__globals__", "OrderedDict.fromkeys", "abc.sys.modules")
    files |= {
        f"reaches for collections.{name} {how}": Hostile(
            f"asks for 'collections.{name}'", holding(form("collections", name))
        )
        for name in dotted
        for form, how in ((named, "by GLOBAL"), (stacked, "from the stack"))
    }
    chain = _Reduced(_Reduced, _Reduced(eval, CODE), _Reduced(exec, CODE))
    inner = mapping({"state": system})
    return files | {
        "__reduce__ in __reduce__": Hostile("asks for", raw(pickle.dumps(chain, 2))),
        "a name from the stack": Hostile("asks for 'os.system'", holding(stacked("os", "system"))),
        "a name that is no text": Hostile("a name that is no text", holding(number(1) + text("x") + b"\x93")),
        "a name without an end": Hostile("a name that has no end", raw(program(b"c" + b"o" * 10_000))),
        "a name with a late end": Hostile("a name that has no end", raw(program(b"c" + b"o" * 10_000 + b"\nx\n"))),
        "a long name from the stack": Hostile("asks for 'oooo", holding(stacked("o" * 10_000, "x"))),
        "a name in escape codes": Hostile(r"asks for 'os\\x1b\[2J\.x'", holding(named("os\x1b[2J", "x"))),
        "in a tensor's arguments": Hostile("asks for", view(0, (2, 3), (3, 1), hooks=system)),
        "in a persistent id": Hostile("asks for", holding(persistent(text("storage"), system))),
        "as a storage's class": Hostile(
            "asks for",
            holding(persistent(text("storage"), named("os", "system"), text("0"), text("cpu"), number(6))),
        ),
        "a container's class as persistent id": Hostile(
            "no storage of torch",
            holding(persistent(text("module"), named("torch", "FloatStorage"), text("a"), text("b"))),
        ),
        "a persistent id as text": Hostile("instruction PERSID", holding(b"Pos.system\n")),
        "a persistent id that is no tuple": Hostile("a list as a persistent id", holding(b"]Q")),
        "in the state of BUILD": Hostile("asks for", packed(GOOD + inner + pickle.BUILD)),
        "BUILD with methods": Hostile(
            "asks for", packed(GOOD + mapping({"__setstate__": named("os", "system")}) + b"b")
        ),
        "BUILD on a tensor": Hostile("state of a _Tensor", holding(tensor() + mapping({"shape": number(1)}) + b"b")),
        "BUILD on a class": Hostile(
            "state of a Name", holding(named("torch", "FloatStorage") + mapping({"dtype": number(1)}) + b"b")
        ),
        "BUILD on a dictionary": Hostile("state of a dict", holding(mapping({}) + mapping({}) + b"b")),
        "BUILD with a tuple of states": Hostile("state of", packed(GOOD + pack(mapping({}), mapping({})) + b"b")),
        "INST": Hostile("instruction INST", holding(b"(" + text(DEED) + b"ios\nsystem\n")),
        "OBJ": Hostile("asks for 'os.system'", holding(b"(" + named("os", "system") + text(DEED) + b"o")),
        "OBJ of an allowed name": Hostile(
            "instruction OBJ", holding(b"(" + named("collections", "OrderedDict") + b"o")
        ),
        "NEWOBJ": Hostile("instruction NEWOBJ", holding(named("collections", "OrderedDict") + EMPTY + b"\x81")),
        "NEWOBJ_EX": Hostile(
            "instruction NEWOBJ_EX", holding(named("collections", "OrderedDict") + EMPTY + mapping({}) + b"\x92")
        ),
        "EXT1": Hostile("instruction EXT1", holding(b"\x82\xf0" + pack(text(DEED)) + b"R")),
        "EXT2": Hostile("instruction EXT2", holding(b"\x83\xf0\x00" + pack(text(DEED)) + b"R")),
        "EXT4": Hostile("instruction EXT4", holding(b"\x84\xf0\x00\x00\x00" + pack(text(DEED)) + b"R")),
        "a text called": Hostile("calls 'os.system'", holding(text("os.system") + pack(text(DEED)) + b"R")),
        "a pair called": Hostile("calls a tuple", holding(pack(text("os"), text("system")) + pack(text(DEED)) + b"R")),
        "a storage class called": Hostile(
            "in a way that torch does not", holding(call("torch", "FloatStorage", number(6)))
        ),
        "OrderedDict of something": Hostile("in a way", holding(call("collections", "OrderedDict", pack(text("ab"))))),
        "called with a list": Hostile("calls", holding(named("collections", "OrderedDict") + b"]R")),
        "a name put into the memo in another's place": Hostile(
            "asks for", holding(named("collections", "OrderedDict") + b"q\x00" + named("os", "system") + b"q\x00h\x00")
        ),
        "a byte that is no instruction": Hostile("instruction ff", holding(b"\xff")),
        "a protocol to come": Hostile("protocol 6", raw(program(GOOD, protocol=6))),
    }


def floods() -> dict[str, Hostile]:
    """Pickles that want more memory, depth or time than they have bytes."""
    deep, start = 100_000, text("a" * 1000) + b"q\x00"
    lists = pack(start, *(b"](" + b"h%c" % n * 10 + b"eq%c" % (n + 1) for n in range(60)))
    tuples = pack(start, *(b"(" + b"h%c" % n * 10 + b"tq%c" % (n + 1) for n in range(60)))
    nest = b"N" + b"\x85" * deep
    clashing = b"".join(b"\x8a\x14" + (n * (2**61 - 1)).to_bytes(20, "little") + b"N" for n in range(10**4))
    cut = "cut off"
    return {
        "lists a hundred thousand deep": Hostile("a list under", holding(b"]" * deep + b"a" * (deep - 1))),
        "tuples a hundred thousand deep": Hostile("a tuple under", holding(nest)),
        "deep tuples as a name": Hostile("a tuple as a name", packed(b"}" + nest + b"Ns")),
        "deep tuples as an argument": Hostile("are none", holding(tensor(nest))),
        "deep tuples as metadata": Hostile("metadata", view(0, (2, 3), (3, 1), nest)),
        "deep tuples as persistent id": Hostile("persistent id of 1 parts", holding(nest + b"Q")),
        "dictionaries a hundred thousand deep": Hostile(
            "a dict under", holding(b"}" + (text("a") + b"}") * deep + b"s" * deep)
        ),
        "marks without end": Hostile("cut off|never put down", raw(program(b"(" * deep))),
        "more instructions than a model has": Hostile("more than 524288 instructions", raw(program(b"]" * 2**20))),
        "a pickle of 20 MB": Hostile("a pickle of 20971520 bytes", raw(bytes(20 * 2**20))),
        "ten to the sixtieth laughs in lists": Hostile("a tuple under", holding(lists)),
        "ten to the sixtieth laughs in tuples": Hostile("a tuple under", holding(tuples)),
        "a list that holds itself": Hostile("a list under", holding(b"]q\x00h\x00a")),
        "a dictionary that holds itself": Hostile("a dict under", holding(b"}q\x00" + text("a") + b"h\x00s")),
        "a state that holds itself": Hostile("without a tensor", packed(ordered() + b"q\x00h\x00b")),
        "names that all hash alike": Hostile("a int as a name", packed(b"}(" + clashing + b"u")),
        "a text of 15 MB that takes 60": Hostile("without a tensor", packed(text("a" * 15 * 2**20 + "\U0001f600"))),
        "a text of 4 GB": Hostile(cut, raw(program(b"X\xff\xff\xff\xff"))),
        "a text of 2^63 bytes": Hostile("BINUNICODE8", raw(program(b"\x8d" + b"\xff" * 7 + b"\x7f"))),
        "bytes of 2^63": Hostile("BINBYTES8", raw(program(b"\x8e" + b"\xff" * 7 + b"\x7f"))),
        "a byte array of 2^62": Hostile("BYTEARRAY8", raw(program(b"\x96" + b"\xff" * 7 + b"\x3f"))),
        "a number of 2 GB": Hostile("LONG4", raw(program(b"\x8b\xff\xff\xff\x7f"))),
        "a number of a million digits": Hostile("LONG", raw(program(b"L" + b"9" * 10**6 + b"L\n"))),
        "a frame of 2^63 bytes": Hostile("never put down", raw(program(b"\x95" + b"\xff" * 8))),
        "place 2^32 of the memo, and never one": Hostile(
            "never put down", raw(program(b"Nr\xff\xff\xff\xffj\xff\xff\xff\xfe"))
        ),
        "an empty stack": Hostile("never put down", raw(program(b""))),
        "no mark": Hostile("never put down", raw(program(b"t"))),
        "an odd number of items": Hostile("puts 1 items", raw(program(b"}(Nu"))),
        "items for a tuple": Hostile("into a tuple", raw(program(b")(" + text("a") + b"Nu"))),
        "an item appended to a text": Hostile("appends to 'a'", raw(program(text("a") + b"Na"))),
        "a text that is no UTF-8": Hostile("no UTF-8", raw(program(b"X\x02\x00\x00\x00\xff\xfe"))),
        "nothing": Hostile(cut, raw(b"")),
    }


def sequences() -> dict[str, Hostile]:
    """The older form, where it contradicts itself."""
    store = storage("Float", "0", 6, NONE)
    body = ordered({"x": tensor(store)})
    good = sequence(body, {"0": (6, SIX)})
    view = storage("Float", "0", 6, pack(text("1"), number(0), number(3)))
    return {
        "older: calls os.system": Hostile("asks for 'os.system'", sequence(call("os", "system", text(DEED)), {})),
        "older: calls before the magic number": Hostile("asks for", program(call("os", "system", text(DEED))) + good),
        "older: calls in the system's description": Hostile(
            "asks for", good[: good.index(b"}")] + call("os", "system", text(DEED)) + b"."
        ),
        "older: calls in the list of storages": Hostile(
            "asks for", sequence(body, {}, [])[:-4] + program(call("os", "system", text(DEED)))
        ),
        "older: a persistent id in the list of storages": Hostile(
            "persistent id", sequence(body, {}, [])[:-4] + program(persistent(text("storage")))
        ),
        "older: a container with its source": Hostile(
            "asks for", sequence(persistent(text("module"), named("os", "system"), text("a"), text("b")), {})
        ),
        "older: another magic number": Hostile("does not begin as", program(number(7)) + good),
        "older: another protocol": Hostile("does not begin as", good.replace(number(1001), number(1002), 1)),
        "older: a storage not listed": Hostile("list of storages unlike", sequence(body, {"0": (6, SIX)}, [])),
        "older: a number for the list of storages": Hostile(
            "list of storages unlike", sequence(body, {}, [])[:-4] + program(number(1))
        ),
        "older: lists in the list of storages": Hostile(
            "list of storages unlike", sequence(body, {}, [])[:-4] + program(b"]]a")
        ),
        "older: a storage listed twice": Hostile("unlike", sequence(body, {"0": (6, SIX)}, ["0", "0"])),
        "older: another storage listed": Hostile("unlike", sequence(body, {"1": (6, SIX)})),
        "older: a count that differs": Hostile("begin with its count, 6", sequence(body, {"0": (7, SIX)})),
        "older: bytes too many": Hostile("where its storages end", good + b"\x00"),
        "older: a byte too few": Hostile("where its storages end", good[:-1]),
        "older: storages that overlap": Hostile("where its storages end", sequence(body, {"0": (6, SIX[:8])})),
        "older: a view of a storage": Hostile(
            "no storage of torch", sequence(ordered({"x": tensor(view)}), {"0": (6, SIX)})
        ),
        "older: a persistent id of the newer form": Hostile("of 5 parts", sequence(GOOD, {"0": (6, SIX)})),
        "newer: a persistent id of the older form": Hostile("of 6 parts", packed(body)),
    }
