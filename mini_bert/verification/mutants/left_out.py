"""What is not mutated? Text that no test should have to know, and changes that are provably none.

Nothing is left out because nobody tests it. Each rule says why; the report repeats them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from types import CodeType

from mini_bert.verification.mutants.source_text import SourceText

Rule = Callable[[ast.AST, ast.AST], bool]


def _type(node: ast.AST, parent: ast.AST) -> bool:
    """Types: annotations, aliases of types, the second argument of isinstance. Python does not look at most of them."""
    if isinstance(parent, ast.AnnAssign):
        return node is parent.annotation or "TypeAlias" in ast.dump(parent.annotation)
    if isinstance(parent, ast.Call) and _called(parent) == "isinstance":
        return node is parent.args[-1]
    return node in (getattr(parent, "annotation", None), getattr(parent, "returns", None))


def _message(node: ast.AST, parent: ast.AST) -> bool:
    """Words: what is raised (not the condition for it), docstrings, f-strings, `__repr__` and `__str__`."""
    named = isinstance(node, ast.FunctionDef) and node.name in ("__repr__", "__str__")
    return named or isinstance(node, ast.Raise | ast.JoinedStr)


def _for_the_reader(node: ast.AST, parent: ast.AST) -> bool:
    """`assert` and `zip(strict=…)`: they say what always holds; `if TYPE_CHECKING`: never runs."""
    strict = isinstance(node, ast.keyword) and node.arg == "strict" and _called(parent) == "zip"
    typing = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
    return strict or typing or isinstance(node, ast.Assert)


def _speed_alone(node: ast.AST, parent: ast.AST) -> bool:
    """Decorators (the size of a cache) and `astype(copy=False)`: one copy more or less changes no number."""
    copies = isinstance(node, ast.keyword) and node.arg == "copy" and _called(parent) == "astype"
    return copies or node in getattr(parent, "decorator_list", ())


def _test_inputs(node: ast.AST, parent: ast.AST) -> bool:
    """`CASES` of an operation and what makes them: these are inputs of its tests, which stand beside it."""
    if not isinstance(parent, ast.Module):
        return False
    if isinstance(node, ast.FunctionDef):
        return node.name in ("_case", "_make")
    targets = node.targets if isinstance(node, ast.Assign) else []
    return any(isinstance(target, ast.Name) and target.id == "CASES" for target in targets)


REGIONS: tuple[Rule, ...] = (_type, _message, _for_the_reader, _speed_alone, _test_inputs)
"""Of (node, parent): whether the node is left out, with everything in it."""

SYMMETRIC = {"min", "max", "minimum", "maximum", "add", "multiply", "swapaxes", "row_dots"}
"""Functions whose first two arguments may change places: swapping them is the same program."""


def is_left_out(node: ast.AST, text: SourceText) -> bool:
    """Whether a rule of `REGIONS` holds for the node itself; whoever walks the tree does not go deeper then."""
    parent = text.parents.get(node, node)
    return any(rule(node, parent) for rule in REGIONS)


def _called(node: ast.AST) -> str:
    return called_name(node) if isinstance(node, ast.Call) else ""


def called_name(call: ast.Call) -> str:
    """`exp` of `np.exp(x)` and of `exp(x)`; empty where what is called has no name."""
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def is_unknown_length(node: ast.AST, new: str, text: SourceText) -> bool:
    """Whether a length of `reshape` turns negative, or stays so: NumPy takes any negative one for the unknown one.

    So `reshape(-2)` is `reshape(-1)`, and `reshape(-3, n)` is `reshape(3, n)` where that fits.
    """
    minus = text.parents[node]
    if isinstance(minus, ast.UnaryOp):
        call = text.parents[minus]
        return isinstance(call, ast.Call) and called_name(call) == "reshape" and new != "0"
    if not (isinstance(minus, ast.Call) and called_name(minus) == "reshape" and new.startswith("-")):
        return False
    return not any(isinstance(length, ast.UnaryOp) for length in minus.args)


def same_code(one: CodeType, other: CodeType) -> bool:
    """Whether Python compiles both to the same instructions (Papadakis et al. 2015: trivial compiler equivalence)."""
    return _bare(one) == _bare(other)


def _bare(code: CodeType) -> tuple[object, ...]:
    constants = tuple(
        _bare(value) if isinstance(value, CodeType) else (type(value), repr(value)) for value in code.co_consts
    )
    return code.co_code, code.co_names, code.co_varnames, code.co_argcount, code.co_kwonlyargcount, constants
