"""Mutants are what they say: operators on small sources beside written expectations, the rest of the text the same."""

from __future__ import annotations

import difflib

import pytest

from mini_bert.verification.mutants.mutant import mutants_of
from mini_bert.verification.mutants.operators import OPERATORS
from mini_bert.verification.mutants.project import MINI_BERT


def mutated(source: str, operator: str) -> list[str]:
    return [mutant.after for mutant in mutants_of(source, "toy.py") if mutant.operator == operator]


EXPECTED: dict[str, tuple[str, str, list[str]]] = {
    "sum": ("arithmetic", "y = a + b", ["y = a - b", "y = a * b"]),
    "product": ("arithmetic", "y = a * b", ["y = a / b", "y = a + b"]),
    "matrix product": ("arithmetic", "y = a @ b", ["y = a * b"]),
    "floor and power": ("arithmetic", "y = a // b ** c", ["y = a / b ** c", "y = a * b ** c", "y = a // b * c"]),
    "operands in parentheses": ("arithmetic", "y = (a + b) - (c)",
     ["y = (a + b) + (c)", "y = (a - b) - (c)", "y = (a * b) - (c)"]),
    "in place": ("arithmetic", "x += b", ["x -= b", "x = b"]),
    "in place, times": ("arithmetic", "g.W[...] *= b", ["g.W[...] /= b", "g.W[...] = b"]),
    "bits": ("arithmetic", "y = a & b >> c", ["y = a | b >> c", "y = a & b << c"]),
    "bounds": ("comparison", "y = a < b", ["y = a <= b", "y = a >= b"]),
    "chain": ("comparison", "y = 0 <= a < b", ["y = 0 < a < b", "y = 0 > a < b", "y = 0 <= a <= b", "y = 0 <= a >= b"]),
    "equal": ("comparison", "y = a == b", ["y = a != b"]),
    "two words": ("comparison", "y = a is not None and b not in c",
     ["y = a is None and b not in c", "y = a is not None and b in c"]),
    "and": ("logic", "y = a and b and c", ["y = a or b and c", "y = a and b or c"]),
    "condition": ("logic", "y = a if flag else b", ["y = a if not flag else b"]),
    "filter": ("logic", "y = [a for a in b if ok(a)]", ["y = [a for a in b if not ok(a)]"]),
    "a condition with a comparison has its own": ("logic", "y = a if b < c else d", []),
    "not": ("negation", "y = not a", ["y = a"]),
    "mask": ("negation", "f(x, where=~mask[:, None])", ["f(x, where=mask[:, None])"]),
    "complement of a sum": ("negation", "y = ~(a | b)", ["y = (a | b)"]),
    "zero and one": ("constant", "y = f(0, 1)", ["y = f(1, 1)", "y = f(-1, 1)", "y = f(0, 0)", "y = f(0, 2)"]),
    "whole": ("constant", "y = f(4)", ["y = f(5)", "y = f(3)", "y = f(-4)"]),
    "zero": ("constant", "y = 0.0", ["y = 1.0", "y = 0.5"]),
    "half": ("constant", "y = 0.5", ["y = 1.5", "y = 1.0", "y = -0.5"]),
    "the unknown length": ("constant", "y = x.reshape(-1, 1)",
     ["y = x.reshape(-0, 1)", "y = x.reshape(-1, 0)", "y = x.reshape(-1, 2)"]),
    "a length that turns unknown": ("constant", "y = x.reshape(3, n)", ["y = x.reshape(4, n)", "y = x.reshape(2, n)"]),
    "two unknown lengths": ("constant", "y = x.reshape(3, -1)",
     ["y = x.reshape(4, -1)", "y = x.reshape(2, -1)", "y = x.reshape(-3, -1)", "y = x.reshape(3, -0)"]),
    "true": ("constant", "y = f(flag=True)", ["y = f(flag=False)"]),
    "minus": ("sign", "y = f(-a)", ["y = f(a)"]),
    "product without minus": ("sign", "y = a * b / c - d @ e", ["y = -a * b / c - d @ e", "y = a * b / c - -d @ e"]),
    "axis": ("axis", "y = f(axis=-1, keepdims=True)",
     ["y = f(axis=0, keepdims=True)", "y = f(axis=-2, keepdims=True)", "y = f(axis=-1, keepdims=False)"]),
    "first axis": ("axis", "y = x.sum(axis=0)", ["y = x.sum(axis=1)", "y = x.sum(axis=-1)"]),
    "index": ("axis", "y = x.shape[-1]", ["y = x.shape[0]", "y = x.shape[-2]"]),
    "index among several": ("axis", "y = x[:, 0]", ["y = x[:, 1]", "y = x[:, -1]"]),
    "swapped axes": ("axis", "y = x.swapaxes(1, -1)",
     ["y = x.swapaxes(2, -1)", "y = x.swapaxes(0, -1)", "y = x.swapaxes(1, 0)", "y = x.swapaxes(1, -2)"]),
    "slice": ("slice", "y = x[2:n]", ["y = x[3:n]", "y = x[2:n + 1]", "y = x[2:n - 1]"]),
    "open slices": ("slice", "y = x[:-1, 1:]",
     ["y = x[1:-1, 1:]", "y = x[:0, 1:]", "y = x[:-2, 1:]", "y = x[:-1, 2:]", "y = x[:-1, 1:-1]"]),
    "backwards": ("slice", "y = x[::-1]", ["y = x[1::-1]", "y = x[:-1:-1]", "y = x[::1]"]),
    "transposed": ("transposition", "y = a.T @ b", ["y = a @ b", "y = a.T @ b.T"]),
    "product as a function": ("transposition", "np.matmul(a, b.T, out=c)",
     ["np.matmul(a.T, b.T, out=c)", "np.matmul(a, b, out=c)"]),
    "axes not swapped": ("transposition", "y = f(x.swapaxes(1, 2))", ["y = f(x)"]),
    "arguments": ("argument swap", "y = f(a, (b), *c)", ["y = f(b, (a), *c)"]),
    "three arguments": ("argument swap", "y = f(a, b, c)", ["y = f(b, a, c)", "y = f(a, c, b)"]),
    "in place statements": ("statement dropped", "x += 1\nx[0] = 2\nnp.exp(x, out=x)\ny = f(x)",
     ["pass", "pass", "pass"]),
    "functions": ("function", "y = np.exp(min(a, b).sum())",
     ["y = np.sqrt(min(a, b).sum())", "y = np.exp(min(a, b).mean())", "y = np.exp(max(a, b).sum())"]),
    "copy": ("function", "y = x.copy()", ["y = x"]),
}  # fmt: skip


@pytest.mark.parametrize(("operator", "source", "expected"), EXPECTED.values(), ids=EXPECTED.keys())
def test_an_operator_makes_what_it_says(operator: str, source: str, expected: list[str]) -> None:
    assert sorted(mutated(source, operator)) == sorted(expected)


def test_every_operator_is_among_the_expectations() -> None:
    assert {operator for operator, _, _ in EXPECTED.values()} == set(OPERATORS)


LEFT_OUT = {
    "annotations": "def f(x: a[0] = None) -> b[1]: ...\ny: c[-1]",
    "an alias of a type": "Array: TypeAlias = a[1]",
    "the class of isinstance": "y = isinstance(x, a | b)",
    "what is raised": "raise ValueError('x', got=a + 1, expected=f(b, c))",
    "docstrings and f-strings": "'''1 + 1'''\ny = f'{a + 1}'",
    "what an object says of itself": "class A:\n    def __repr__(self):\n        return a + b",
    "assertions": "assert a + 1 < b",
    "strict zip": "y = zip(a, strict=True)",
    "what only type checkers read": "if TYPE_CHECKING:\n    x += 1",
    "the size of a cache": "@lru_cache(maxsize=64)\ndef f(): ...",
    "one copy more or less": "y = x.astype(t, copy=False)",
    "inputs of the common suite": "def _case(x):\n    return x + 1\ndef _make(x):\n    return -x\nCASES = (f(1, 2),)",
    "functions of two equals": "y = max(a, b)[i], np.multiply(a, b)",
}


@pytest.mark.parametrize("source", LEFT_OUT.values(), ids=LEFT_OUT.keys())
def test_what_is_left_out(source: str) -> None:
    others = [mutant for mutant in mutants_of(source, "toy.py") if mutant.operator != "function"]
    assert others == []


def test_conditions_before_an_error_and_defaults_are_not_left_out() -> None:
    source = "def f(x: int = 3):\n    if x < 0:\n        raise ValueError(x + 1)\n"
    after = {mutant.after for mutant in mutants_of(source, "toy.py")}
    assert {"if x <= 0:", "def f(x: int = 4):"} <= after
    assert not any("raise" in line for line in after)


def test_what_compiles_to_the_same_is_no_mutant() -> None:
    assert mutated("y = 2 * 2", "arithmetic") == ["y = 2 / 2"]  # 2 + 2 is 4 too; 2 / 2 is not


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=() if path in ("ops/attention.py", "optim/adamw.py") else pytest.mark.slow)
        for path in MINI_BERT.files
    ],
)
def test_each_mutant_compiles_and_differs_in_its_line_alone(path: str) -> None:
    source = (MINI_BERT.root / "mini_bert" / path).read_text(encoding="utf-8")
    lines = source.splitlines()
    mutants = MINI_BERT.mutants(path)
    assert len({mutant.source for mutant in mutants}) == len({mutant.name for mutant in mutants}) == len(mutants)
    for mutant in mutants:
        compile(mutant.source, path, "exec")
        others = mutant.source.splitlines()
        assert [number for number, pair in enumerate(zip(lines, others, strict=True), 1) if pair[0] != pair[1]] == [
            mutant.line
        ]
        assert lines[mutant.line - 1].strip() == mutant.before != mutant.after == others[mutant.line - 1].strip()


def test_comments_and_signs_beyond_ascii_stay() -> None:
    source = "# θ ← θ − η\nη = (  # the rate η\n    α\n    * β  # ½\n)\n"
    (mutant, *_) = (m for m in mutants_of(source, "toy.py") if m.after == "/ β  # ½")
    difference = [line for line in difflib.ndiff(source.splitlines(), mutant.source.splitlines()) if line[0] in "+-"]
    assert difference == ["-     * β  # ½", "+     / β  # ½"]


def test_a_name_does_not_depend_on_where_the_line_stands() -> None:
    one, other = (mutants_of(source, "toy.py") for source in ("y = a + b\n", "import os\n\n\ny = a + b\n"))
    assert [mutant.name for mutant in one] == [mutant.name for mutant in other]
    twice = mutants_of("y = a + b\ny = a + b\n", "toy.py")
    assert len({mutant.name for mutant in twice}) == len(twice) == 4
