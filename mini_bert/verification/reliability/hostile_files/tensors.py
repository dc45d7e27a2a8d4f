"""Pickles of torch whose tensors and storages cannot be: name → how the refusal reads, and the bytes."""

from __future__ import annotations

from mini_bert.verification.reliability.hostile_files.pickles import GOOD, SIX, Hostile, holding, packed, view
from mini_bert.verification.reliability.hostile_files.torch_files import (
    FALSE,
    NONE,
    TRUE,
    call,
    mapping,
    named,
    number,
    ordered,
    pack,
    persistent,
    storage,
    tensor,
    text,
)


def tensors() -> dict[str, Hostile]:
    """Pickles whose tensors and storages cannot be."""
    described = dict.fromkeys(("ComplexFloat", "QInt8", "Untyped", "Typed", "Foo"), "asks for 'torch.")
    files = {
        f"{kind}Storage": Hostile(f"{refusal}{kind}Storage'", packed(ordered({"x": tensor(storage(kind))})))
        for kind, refusal in described.items()
    }
    outside = {
        "one row too many": (0, (3, 3), (3, 1)),
        "an offset beyond": (7, (0,), (1,)),
        "an offset that pushes it out": (1, (2, 3), (3, 1)),
        "a huge stride": (0, (2, 3), (2**39, 1)),
        "a huge shape": (0, (2**20, 2**19), (2**19, 1)),
        "a scalar beyond": (6, (), ()),
    }
    no_numbers = {
        "a negative stride": (5, (2, 3), (-3, -1)),
        "a negative offset": (-1, (2, 3), (3, 1)),
        "a negative shape": (0, (-2, -3), (3, 1)),
        "a shape beyond every machine": (0, (2**62, 2**62), (1, 1)),
        "33 dimensions": (0, (1,) * 33, (1,) * 33),
    }
    files |= {name: Hostile("outside its storage", view(*where)) for name, where in outside.items()}
    files |= {name: Hostile("offset, shape or strides are none", view(*where)) for name, where in no_numbers.items()}
    untyped = pack(storage(), number(0), text("ab"), pack(number(1), number(1)), FALSE, ordered())
    floating = pack(storage(), b"G" + bytes(8), pack(number(1)), pack(number(1)), FALSE, ordered())
    truth = pack(storage(), number(0), pack(TRUE), pack(number(1)), FALSE, ordered())
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    minus_one = pack(storage(), b"\x8a\x01\xff", pack(number(1)), pack(number(1)), FALSE, ordered())
    loose = pack(storage(), number(0), pack(number(1)), pack(number(1)), number(0), ordered())
    other = storage("Float", "0", 3)
    real = (text("storage"), named("torch", "FloatStorage"), text("0"), text("cpu"), number(6))
    identities = {
        "another word than storage": ("no storage of torch", 0, text("module")),
        "a text for its class": ("a storage that is 'torch.FloatStorage'", 1, text("torch.FloatStorage")),
        "a function for its class": ("a storage that is a Name", 1, rebuild),
        "a number for its name": ("by the name a int", 2, number(0)),
        "a number for its device": ("a storage that is", 3, number(0)),
        "a text for its size": ("impossible size", 4, text("6")),
    }
    files |= {
        f"a storage with {name}": Hostile(refusal, holding(persistent(*real[:place], part, *real[place + 1 :])))
        for name, (refusal, place, part) in identities.items()
    }
    wrapped = {"nothing in it": (NONE, TRUE, ordered()), "a number for a truth": (tensor(), number(1), ordered())}
    wrapped |= {"hooks of its own": (tensor(), TRUE, ordered({"0": NONE})), "too little": (tensor(), TRUE)}
    files |= {
        f"a parameter with {name}": Hostile("no tensor", holding(call("torch._utils", "_rebuild_parameter", *parts)))
        for name, parts in wrapped.items()
    }
    return files | {
        "strides of another rank": Hostile("outside its storage", view(0, (2, 3), (1,))),
        "a negative long for an offset": Hostile("are none", holding(rebuild + minus_one + b"R")),
        "a text for a shape": Hostile("are none", holding(rebuild + untyped + b"R")),
        "a float for an offset": Hostile("are none", holding(rebuild + floating + b"R")),
        "a truth value for a size": Hostile("are none", holding(rebuild + truth + b"R")),
        "too few arguments": Hostile("hooks, or with metadata", holding(rebuild + pack(storage()) + b"R")),
        "a repetition without end": Hostile("that repeats 6 numbers", view(0, (2**18, 2**18), (0, 0))),
        "an empty one of endless width": Hostile("a tensor of shape", view(0, (0, 2**39, 2**39), (1, 1, 1))),
        "hooks": Hostile("hooks", view(0, (2, 3), (3, 1), hooks=ordered({"0": text("hook")}))),
        "the negative of its numbers": Hostile("metadata", view(0, (2, 3), (3, 1), mapping({"neg": TRUE}))),
        "a number for a truth": Hostile("hooks, or with metadata", holding(rebuild + loose + b"R")),
        "a tensor of a tensor": Hostile("are none", holding(tensor(tensor()))),
        "a storage alone": Hostile("a _Storage under the name 'y'", holding(storage())),
        "a storage of negative size": Hostile("impossible size", holding(storage("Float", "0", -6))),
        "a storage of 2^62 numbers": Hostile("impossible size", holding(storage("Float", "0", 2**62))),
        "a storage larger than its entry": Hostile(
            "of 24 bytes where the pickle says 4000000", packed(ordered({"x": tensor(storage("Float", "0", 10**6))}))
        ),
        "a storage smaller than its entry": Hostile("of 28 bytes where", packed(GOOD, **{"0": SIX + b"more"})),
        "a storage of two sizes": Hostile("described in two ways", packed(ordered({"x": tensor(), "y": other}))),
        "a storage of two types": Hostile("in two ways", packed(ordered({"x": tensor(), "y": storage("Int")}))),
        "a storage that is not there": Hostile(
            "no entry 'data/9'", packed(ordered({"x": tensor(storage("Float", "9"))}))
        ),
        "a storage by the pickle's own path": Hostile(
            "no entry 'data/../data.pkl'", packed(ordered({"x": tensor(storage("Byte", "../data.pkl"))}))
        ),
        "truth values of 2": Hostile(
            "truth values", packed(ordered({"x": tensor(storage("Bool"))}), **{"0": b"\x02" * 6})
        ),
        "one name twice": Hostile("the name 'x' twice", packed(ordered([("x", tensor()), ("x", tensor())]))),
        "a number for a name": Hostile("_Tensor under the name a int", packed(b"}" + number(1) + tensor() + b"s")),
        "no tensor": Hostile("a OrderedDict without a tensor", packed(ordered())),
        "a tensor alone": Hostile("a _Tensor without a tensor in it", packed(tensor())),
    }
