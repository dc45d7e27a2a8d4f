"""Which small errors does one make? One function an operator: a node of the tree → changes of its text.

The set follows the classical operators (DeMillo, Lipton and Sayward 1978; King and Offutt 1991), and adds those of
array programs: axes, transpositions, slices, statements that work in place.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

from mini_bert.verification.mutants.left_out import SYMMETRIC, called_name, is_unknown_length
from mini_bert.verification.mutants.source_text import Piece, SourceText

Pieces = Iterator[Piece]
Operator = Callable[[ast.AST, SourceText], Pieces]

_ARITHMETIC: dict[type[ast.operator], tuple[str, ...]] = {
    ast.Add: ("-", "*"),
    ast.Sub: ("+",),
    ast.Mult: ("/", "+"),
    ast.Div: ("*",),
    ast.FloorDiv: ("/", "*"),
    ast.Mod: ("//",),
    ast.MatMult: ("*",),
    ast.Pow: ("*",),
    ast.LShift: (">>",),
    ast.RShift: ("<<",),
    ast.BitAnd: ("|",),
    ast.BitOr: ("&",),
    ast.BitXor: ("&",),
}
_COMPARISON: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">="),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<="),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
}
_FUNCTIONS = {
    "min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "argmin": "argmax", "argmax": "argmin",
    "any": "all", "all": "any", "sum": "mean", "zeros": "ones", "ones": "zeros", "zeros_like": "ones_like",
    "sqrt": "exp", "exp": "sqrt", "log": "log1p", "log1p": "log", "tanh": "sin", "cos": "sin", "floor": "ceil",
    "add": "subtract", "subtract": "add", "multiply": "divide", "divide": "multiply", "isfinite": "isnan",
}  # fmt: skip
_NUMBERED_AXES = {"swapaxes", "moveaxis", "transpose", "expand_dims"}


def arithmetic(node: ast.AST, text: SourceText) -> Pieces:
    """`a + b` → `a - b`, `x += b` → `x -= b` and `x = b`."""
    if isinstance(node, ast.BinOp):
        span = text.between(node.left, node.right)
        yield from (Piece(span, new) for new in _ARITHMETIC[type(node.op)])
    elif isinstance(node, ast.AugAssign):
        span = text.between(node.target, node.value)
        yield from (Piece(span, f"{new}=") for new in (_ARITHMETIC[type(node.op)][0], ""))


def comparison(node: ast.AST, text: SourceText) -> Pieces:
    """`a < b` → `a <= b`, `a >= b`; `==` → `!=`, `is` → `is not`, `in` → `not in`."""
    if isinstance(node, ast.Compare):
        for (left, right), operator in zip(pairwise([node.left, *node.comparators]), node.ops, strict=True):
            yield from (Piece(text.between(left, right), new) for new in _COMPARISON[type(operator)])


def logic(node: ast.AST, text: SourceText) -> Pieces:
    """`a and b` → `a or b`; a condition that is a mere name or call → its contrary."""
    if isinstance(node, ast.BoolOp):
        new = "or" if isinstance(node.op, ast.And) else "and"
        yield from (Piece(text.between(left, right), new) for left, right in pairwise(node.values))
    conditions = [node.test] if isinstance(node, ast.If | ast.IfExp | ast.While) else getattr(node, "ifs", [])
    for condition in conditions:
        if isinstance(condition, ast.Name | ast.Attribute | ast.Call | ast.Subscript):
            yield Piece(text.span(condition), f"not {text.of(condition)}")


def negation(node: ast.AST, text: SourceText) -> Pieces:
    """`not x` → `x`, `~mask` → `mask`."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.Invert):
        start = text.span(node)[0]
        yield Piece((start, start + (4 if isinstance(node.op, ast.Not) else 1)), "")


def constant(node: ast.AST, text: SourceText) -> Pieces:
    """0 → 1, -1; 1 → 0, 2; c → c + 1, c - 1 or 2c, -c; True → False. Axes, indices and slices have their own."""
    if not isinstance(node, ast.Constant) or _is_axis(node, text) or _is_bound(node, text):
        return
    value, span = node.value, text.span(node)
    if isinstance(value, bool):
        yield Piece(span, str(not value))
    elif isinstance(value, int | float):
        others = [new for new in _other_numbers(value) if not is_unknown_length(node, new, text)]
        yield from (Piece(span, new) for new in others)


def _other_numbers(value: float) -> Sequence[str]:
    if value == 0:
        return ("1", "-1") if isinstance(value, int) else ("1.0", "0.5")
    if value == 1:
        return ("0", "2") if isinstance(value, int) else ("0.0", "2.0")
    return (repr(value + 1), repr(value - 1) if isinstance(value, int) else repr(2 * value), repr(-value))


def sign(node: ast.AST, text: SourceText) -> Pieces:
    """`-x` → `x`; `x * y` → `-x * y`, for outermost products and quotients."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and not _is_axis(node.operand, text):
        start = text.span(node)[0]
        yield Piece((start, start + 1), "")
    if _is_product(node) and not _is_product(text.parents[node]):
        start = text.span(node)[0]
        yield Piece((start, start), "-")


def _is_product(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.Div | ast.MatMult)


def axis(node: ast.AST, text: SourceText) -> Pieces:
    """`axis=-1` → `axis=0`, `x.shape[-1]` → `x.shape[-2]`, `keepdims=True` → `False`, the axes of `swapaxes`."""
    if not isinstance(node, ast.Constant) or not _is_axis(node, text):
        return
    parent = text.parents[node]
    if isinstance(node.value, bool):
        yield Piece(text.span(node), str(not node.value))
        return
    whole = parent if isinstance(parent, ast.UnaryOp) else node
    number = int(ast.literal_eval(whole))
    yield from (Piece(text.span(whole), str(new)) for new in (number + 1, number - 1))


def _is_axis(node: ast.AST, text: SourceText) -> bool:
    """A whole number that names an axis or an index, or the value of `keepdims`."""
    if not isinstance(node, ast.Constant) or not isinstance(node.value, int):
        return False
    top, parent = node, text.parents[node]
    if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.USub):
        top, parent = parent, text.parents[parent]  # type: ignore[assignment]
    if isinstance(parent, ast.keyword):
        return parent.arg in ("axis", "keepdims")
    if isinstance(node.value, bool):
        return False
    if isinstance(parent, ast.Tuple):
        return isinstance(text.parents[parent], ast.Subscript)
    if isinstance(parent, ast.Subscript):
        return parent.slice is top
    return isinstance(parent, ast.Call) and called_name(parent) in _NUMBERED_AXES


def _is_bound(node: ast.AST, text: SourceText) -> bool:
    parent = text.parents[node]
    return isinstance(text.parents[parent] if isinstance(parent, ast.UnaryOp) else parent, ast.Slice)


def slices(node: ast.AST, text: SourceText) -> Pieces:
    """`x[a:b]` → `x[a + 1:b]`, `x[a:b - 1]`, `x[a:b + 1]`; a missing bound becomes 1 or -1; a step turns round."""
    if not isinstance(node, ast.Slice):
        return
    start = text.span(node)[0]
    after = start if node.lower is None else text.span(node.lower)[1]
    colon = next(at for at, string in text.tokens(after, len(text.source)) if string == ":")
    if node.lower is None:
        yield Piece((start, start), "1")
    else:
        yield from _shifted(node.lower, text, (1,))
    if node.upper is None:
        yield Piece((colon + 1, colon + 1), "-1")
    else:
        yield from _shifted(node.upper, text, (1, -1))
    if isinstance(node.step, ast.UnaryOp):
        yield Piece(text.span(node.step), text.of(node.step.operand))


def _shifted(bound: ast.expr, text: SourceText, shifts: Sequence[int]) -> Pieces:
    for shift in shifts:
        try:
            new = str(ast.literal_eval(bound) + shift)
        except ValueError:
            new = f"{text.of(bound)} {'+' if shift > 0 else '-'} 1"
        yield Piece(text.span(bound), new)


def transposition(node: ast.AST, text: SourceText) -> Pieces:
    """`W.T` → `W`, `x.swapaxes(1, 2)` → `x`; `a @ b` → `a.T @ b`, `a @ b.T`."""
    if isinstance(node, ast.Attribute) and node.attr == "T":
        stop = text.span(node)[1]
        yield Piece((stop - 2, stop), "")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "swapaxes":
        yield Piece((text.span(node.func)[1] - len(".swapaxes"), text.span(node)[1]), "")
    factors: list[ast.expr] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        factors = [node.left, node.right]
    elif isinstance(node, ast.Call) and called_name(node) == "matmul":
        factors = node.args[:2]
    for factor in factors:
        if isinstance(factor, ast.Name | ast.Subscript | ast.Call | ast.Attribute) and text.of(factor)[-2:] != ".T":
            stop = text.span(factor)[1]
            yield Piece((stop, stop), ".T")


def arguments(node: ast.AST, text: SourceText) -> Pieces:
    """`f(a, b)` → `f(b, a)`, for two neighbours that are given by position."""
    if not isinstance(node, ast.Call) or called_name(node) in SYMMETRIC | {"isinstance"}:
        return
    for one, two in pairwise(node.args):
        if not isinstance(one, ast.Starred) and not isinstance(two, ast.Starred):
            (start, end), (begin, stop) = text.span(one), text.span(two)
            yield Piece((start, stop), text.of(two) + text.source[end:begin] + text.of(one))


def statement(node: ast.AST, text: SourceText) -> Pieces:
    """A statement that works in place → `pass`: `x += y`, `x[i] = y`, `np.exp(x, out=x)`."""
    in_place = isinstance(node, ast.AugAssign) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    if in_place or (isinstance(node, ast.Assign) and any(isinstance(t, ast.Subscript) for t in node.targets)):
        yield Piece(text.span(node), "pass")


def function(node: ast.AST, text: SourceText) -> Pieces:
    """`min` ↔ `max`, `exp` ↔ `sqrt`, `sum` → `mean`, `zeros` → `ones`, …; `x.copy()` → `x`."""
    if not isinstance(node, ast.Call):
        return
    name, stop = called_name(node), text.span(node.func)[1]
    if name in _FUNCTIONS:
        yield Piece((stop - len(name), stop), _FUNCTIONS[name])
    if isinstance(node.func, ast.Attribute) and name == "copy" and not node.args:
        yield Piece((stop - len(".copy"), text.span(node)[1]), "")


OPERATORS: dict[str, Operator] = {
    "arithmetic": arithmetic,
    "comparison": comparison,
    "logic": logic,
    "negation": negation,
    "constant": constant,
    "sign": sign,
    "axis": axis,
    "slice": slices,
    "transposition": transposition,
    "argument swap": arguments,
    "statement dropped": statement,
    "function": function,
}
"""Name → operator, in the order in which reports list them."""
