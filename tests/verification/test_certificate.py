"""Does the certificate say what is so: right where all is right, and where not, which row?"""

from __future__ import annotations

import ast
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert import verification
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import DataError, InvalidInputError, StorageError
from mini_bert.model import feed_forward, heads
from mini_bert.model.bert import MiniBERT
from mini_bert.model.feed_forward import ACTIVATIONS
from mini_bert.ops import attention, gelu, layer_norm, tanh
from mini_bert.ops.contract import Array
from mini_bert.verification import certificate as certificate_module
from mini_bert.verification import certify, op_checks, torch_oracle
from mini_bert.verification.certificate import Certificate, certificate_of, source_hashes
from mini_bert.verification.certificate_page import page, tables
from mini_bert.verification.conditions import (
    MANY_PARAMETERS,
    SMALL,
    TINY,
    conditions,
    default_scenario,
    entries_for,
    own_scenario,
    small_scenario,
)
from mini_bert.verification.evidence import (
    CENTRAL,
    COMPLEX,
    DERIVATIVES,
    FLOAT32,
    LOOPS,
    TORCH,
    Evidence,
    Measured,
    attempt,
    guarded,
    worst_evidence,
)
from mini_bert.verification.gradient_check import operations
from mini_bert.verification.model_checks import check_condition, check_tensors
from mini_bert.verification.scenario import Scenario, away_from_start, gradients, kink_distance, make_scenario
from mini_bert.verification.zeros import check_zeros, true_zeros

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _without_torch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The default suite says the same with and without it."""
    if "reference" not in request.keywords and "nightly" not in request.keywords:
        monkeypatch.setattr(torch_oracle, "installed", lambda: False)


def tiny(name: str = "tiny", **settings: Any) -> Scenario:
    lengths = settings.pop("lengths", (5, 3))
    model = away_from_start(ModelConfig(**{**TINY, "max_position_embeddings": 7, **settings}))
    return make_scenario(name, model, tokens=max(lengths), lengths=lengths, masked=(2, 1)[: len(lengths)])


def failing(rows: Any) -> list[Evidence]:
    return [row for row in rows if not row.passed]


# --- evidence -------------------------------------------------------------------------------------------------------


def row_of(error: float | None, threshold: float = 1e-12, **changes: Any) -> Evidence:
    return Evidence("operations", "tanh", "complex step", "x", error, threshold, 3, "x[1]: got 1, expected 2")._replace(
        **changes
    )


def test_evidence_passes_within_its_threshold_and_nan_does_not() -> None:
    assert [row_of(error).passed for error in (0.0, 1e-12, 1.1e-12, math.inf, math.nan)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert str(row_of(1.0)) == "tanh, complex step (operations: x): 1.0e+00 > 1e-12, x[1]: got 1, expected 2"
    absent = row_of(None, detail="not installed")
    assert absent.passed
    assert absent.absent
    assert str(absent) == "tanh, complex step (operations: x): not installed"


def test_the_worst_is_that_which_strains_its_threshold_most() -> None:
    small, large = row_of(1e-13), row_of(1e-6, threshold=1e-4, subject="W")
    assert worst_evidence([large, small]) == small._replace(compared=6)
    assert worst_evidence([small, row_of(math.nan, subject="b")]).subject == "b"
    assert worst_evidence([small, row_of(1e-300, threshold=0.0, subject="zero")]).subject == "zero"
    assert worst_evidence([row_of(None), small]).error == 1e-13
    assert worst_evidence([small, large], subject="both").detail == "tanh: x[1]: got 1, expected 2"


def test_an_exception_is_evidence_and_no_memory_is_not() -> None:
    def fails() -> Measured:
        raise ValueError("shapes\n(3,) (4,)")

    row = attempt("operations", "tanh", "x", COMPLEX, 1e-12, fails)
    assert (row.error, row.detail, row.passed) == (math.inf, "ValueError: shapes", False)

    def rows() -> Iterator[Evidence]:
        yield row_of(0.0)
        raise KeyError("W")

    made = list(guarded("model", "all tensors", "x", COMPLEX, 1e-12, rows))
    assert [row.passed for row in made] == [True, False]
    assert made[1].detail == "KeyError: 'W'"

    def no_memory() -> Any:
        raise MemoryError

    with pytest.raises(MemoryError):
        attempt("operations", "tanh", "x", COMPLEX, 1e-12, no_memory)
    with pytest.raises(MemoryError):
        list(guarded("model", "all tensors", "x", COMPLEX, 1e-12, no_memory))


# --- operations -----------------------------------------------------------------------------------------------------


def test_every_operation_stands_beside_every_oracle_on_every_case() -> None:
    chosen = operations()
    rows = list(op_checks.check_operations(chosen))
    expected = {
        (name, case.name, oracle.name)
        for name, operation in chosen.items()
        for case in operation.CASES
        for oracle in (COMPLEX, CENTRAL, LOOPS, TORCH, FLOAT32)
    }
    assert {(row.subject, row.case, row.oracle) for row in rows} == expected
    assert failing(rows) == []
    assert {row.oracle for row in rows if row.absent} == {TORCH.name}
    thresholds = {row.oracle: row.threshold for row in rows}
    assert thresholds == {
        "complex step": 1e-12, "central differences": 1e-6, "slow loops": 1e-12, "PyTorch": 1e-10, "float32": 1e-4,
    }  # fmt: skip


def test_a_wrong_backward_pass_is_seen_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layer_norm.backward

    def wrong(dy: Array, saved: Any) -> Any:
        dx, dgamma, dbeta = right(dy, saved)
        return dx, dgamma * dx.dtype.type(1.001), dbeta

    monkeypatch.setattr(layer_norm, "backward", wrong)
    rows = failing(certify(ops=["layer_norm", "tanh"]))
    assert {row.oracle for row in rows} == {"complex step", "central differences", "slow loops", "identity"}
    assert {row.subject for row in rows if row.oracle != "identity"} == {"layer_norm"}
    assert all("gamma" in row.detail for row in rows if row.oracle != "identity")


def test_a_wrong_forward_pass_is_seen_by_the_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward fit each other: the derivative of a wrong function is right."""
    monkeypatch.setattr(gelu, "forward", ACTIVATIONS["gelu_new"].forward)
    monkeypatch.setattr(gelu, "backward", ACTIVATIONS["gelu_new"].backward)
    rows = failing(op_checks.check_operations({"gelu": gelu}))
    assert {row.oracle for row in rows} == {"slow loops"}


def test_float32_of_its_own_is_seen_by_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gelu, "_FIT", tuple(1.01 * c for c in gelu._FIT))
    assert {row.oracle for row in failing(op_checks.check_operations({"gelu": gelu}))} == {"float32"}

    right = tanh.forward
    monkeypatch.setattr(tanh, "forward", lambda x: right(x.astype(np.result_type(x, np.float64))))
    rows = failing(op_checks.check_operations({"tanh": tanh}))
    assert {row.detail for row in rows if row.oracle == "float32"} == {
        "TypeError: output is float64 for float32 inputs"
    }


def test_an_operation_that_an_oracle_does_not_know_fails_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(op_checks.TRANSCRIPTIONS, "tanh")
    rows = failing(op_checks.check_operations({"tanh": tanh}))
    assert [(row.oracle, row.detail) for row in rows] == [("slow loops", "KeyError: 'tanh'")]


def test_an_operation_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(
        InvalidInputError, match=r"--op: got 'layernorm'; expected an operation\. Did you mean 'layer_norm'"
    ):
        certify(ops=["tanh", "layernorm"])


# --- models ---------------------------------------------------------------------------------------------------------


def test_every_tensor_stands_beside_every_oracle() -> None:
    scenario = tiny()
    rows = list(check_tensors("small model", scenario, entries=4))
    assert failing(rows) == []
    names = list(scenario.model.parameters)
    for oracle in DERIVATIVES:
        subjects = [row.subject for row in rows if row.oracle == oracle.name]
        assert set(subjects) - {"loss"} == set(names)
        assert ("loss" in subjects) == (oracle in (LOOPS, FLOAT32))
        assert subjects.index("W_Q_0") < subjects.index("b_Q_0") < subjects.index("W_Q_1") < subjects.index("W_mlm")
        assert subjects.index("beta_embeddings") < subjects.index("W_Q_0")
    compared = {row.oracle: row.compared for row in rows if row.subject == "W_Q_0"}
    assert compared == {"complex step": 5, "central differences": 5, "slow loops": 36, "PyTorch": 0, "float32": 36}


@pytest.mark.parametrize(
    ("owner", "name", "tensor"),
    [("W_O", "W_O_1", "W_O"), ("b_V", "b_V_0", None), ("position_embeddings", "position_embeddings", None)],
)
def test_one_wrong_gradient_is_named(owner: str, name: str, tensor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    right = MiniBERT.mlm_loss_and_gradients

    def wrong(self: MiniBERT, batch: Any, grads: Any, *arguments: Any, **options: Any) -> Any:
        result = right(self, batch, grads, *arguments, **options)
        grads.gradients[name][...] *= 1.0 + 1e-3
        return result

    monkeypatch.setattr(MiniBERT, "mlm_loss_and_gradients", wrong)
    rows = failing(check_tensors("small model", tiny(), (COMPLEX, CENTRAL, LOOPS), entries=4))
    assert {row.subject for row in rows} == {name}
    assert {row.oracle for row in rows} == {"complex step", "central differences", "slow loops"}
    assert all(row.detail.startswith(name) for row in rows)


def test_a_pass_that_breaks_is_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    def raising(*_: Any, **__: Any) -> Any:
        raise FloatingPointError("overflow")

    monkeypatch.setattr(attention, "backward", raising)
    rows = list(check_tensors("small model", tiny(), (COMPLEX, LOOPS)))
    assert [(row.subject, row.oracle, row.detail) for row in rows] == [
        ("all tensors", "complex step", "FloatingPointError: overflow"),
        ("all tensors", "slow loops", "FloatingPointError: overflow"),
    ]


def test_nan_in_one_tensor_does_not_hide_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MiniBERT.mlm_loss_and_gradients

    def wrong(self: MiniBERT, batch: Any, grads: Any, *arguments: Any, **options: Any) -> Any:
        result = right(self, batch, grads, *arguments, **options)
        grads.gradients["W1_0"][0, 0] = np.nan
        return result

    monkeypatch.setattr(MiniBERT, "mlm_loss_and_gradients", wrong)
    for oracle in (COMPLEX, LOOPS):
        rows = failing(check_tensors("small model", tiny(), (oracle,), entries=2))
        assert {row.subject for row in rows} == {"W1_0"}
        assert math.isnan(rows[0].error)


def test_a_condition_is_one_row_an_oracle() -> None:
    rows = list(check_condition("conditions", tiny("padding"), entries=2))
    assert [row.oracle for row in rows] == [oracle.name for oracle in DERIVATIVES]
    assert {row.subject for row in rows} == {"padding"}
    assert failing(rows) == []
    assert ": got " in rows[0].detail


def test_wrong_mathematics_of_a_head_is_seen_under_its_condition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads.tanh, "backward", lambda dy, saved: (dy * (1.0 - saved.y),))
    scenario = tiny("classifier", heads=("classifier",), num_labels=3)
    rows = failing(check_condition("conditions", scenario, (COMPLEX, LOOPS), entries=3))
    assert [row.subject for row in rows] == ["classifier", "classifier"]


def test_a_kink_that_is_near_has_no_differences() -> None:
    scenario = tiny(hidden_act="relu")
    assert 0.0 < kink_distance(scenario) < 0.05
    assert kink_distance(tiny()) == math.inf
    rows = list(check_tensors("small model", scenario, (CENTRAL, COMPLEX), entries=2))
    reasons = {row.detail for row in rows if row.oracle == "central differences"}
    assert reasons == {"relu gets a number nearer than 0.05 to its kink"}
    assert all(row.absent == (row.oracle == "central differences") for row in rows)
    assert failing(rows) == []


def test_conditions_are_all_activations_heads_and_kinds_of_batches() -> None:
    made = list(conditions())
    assert {scenario.model.config.hidden_act for scenario in made} == set(ACTIVATIONS)
    read = {reading for scenario in made for reading in scenario.cotangents}
    assert read == {"loss", "tasks", "hidden", *heads.HEADS}
    assert {scenario.dropout is None for scenario in made} == {True, False}
    assert {scenario.batch.attention_mask is None for scenario in made} == {True, False}
    assert {scenario.batch.token_type_ids is None for scenario in made} == {True, False}
    assert any(
        (~scenario.batch.attention_mask).all(axis=1).any()
        for scenario in made
        if scenario.batch.attention_mask is not None
    )
    assert len({scenario.name for scenario in made}) == len(made) >= 20
    away = next(scenario for scenario in made if "away" in scenario.name)
    assert kink_distance(away) >= 0.05
    names = {scenario.name for scenario in conditions(quick=True)}
    assert names < {scenario.name for scenario in made}


def test_sizes_are_those_that_are_promised() -> None:
    assert default_scenario().model.config == ModelConfig()
    assert small_scenario().model.config == ModelConfig(**SMALL)
    assert SMALL == {
        "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 32, "vocab_size": 512,
    }  # fmt: skip
    for scenario in (default_scenario(), small_scenario()):
        assert scenario.dropout is not None
        assert np.array_equal(scenario.at(np.float32).parameters.buffer, scenario.model.parameters.buffer)


def test_a_model_of_ones_own_keeps_its_weights() -> None:
    model = MiniBERT(ModelConfig(**TINY, heads=("mlm", "classifier")), dtype=np.float32, seed=3)
    scenario = own_scenario(model)
    assert np.array_equal(scenario.model.parameters.buffer, model.parameters.buffer)
    assert set(scenario.cotangents) == {"loss", "classifier"}
    assert scenario.batch.input_ids.shape[1] == 31
    shortest = own_scenario(MiniBERT(ModelConfig(**{**TINY, "max_position_embeddings": 3})))
    assert shortest.batch.input_ids.shape[1] == 2
    rows = list(certify(model=model, quick=True))
    assert failing(rows) == []
    assert {row.part for row in rows} == {"your model", "identities", "zeros"}
    assert entries_for(model) == 20


def test_a_large_model_is_checked_at_fewer_entries() -> None:
    class Sized:
        def __init__(self, size: int) -> None:
            self.parameters = type("P", (), {"buffer": type("B", (), {"size": size})})

    sizes = (MANY_PARAMETERS, MANY_PARAMETERS + 1, 4 * MANY_PARAMETERS + 1)
    assert [entries_for(Sized(size)) for size in sizes] == [20, 5, 1]  # type: ignore[arg-type]


# --- true zeros -----------------------------------------------------------------------------------------------------


def test_true_zeros_are_listed_and_zero() -> None:
    rows = list(check_zeros(tiny()))
    assert failing(rows) == []
    assert [row.subject for row in rows] == ["b_K_0", "b_K_1", "position_embeddings, 2 rows", "no other tensor"]
    bare = list(check_zeros(tiny(heads=(), type_vocab_size=4)))
    assert failing(bare) == []
    named = {row.subject.partition(",")[0] for row in bare}
    assert named >= {"token_embeddings", "segment_embeddings", "W_pooler", "b_pooler"}
    one_token = {zero.tensor for zero in true_zeros(tiny(lengths=(1,)))}
    assert one_token >= {"W_Q_0", "b_Q_1", "W_K_0"}
    assert failing(check_zeros(tiny(lengths=(1,)))) == []


def test_a_true_zero_that_is_none_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = MiniBERT.mlm_loss_and_gradients

    def wrong(self: MiniBERT, batch: Any, grads: Any, *arguments: Any, **options: Any) -> Any:
        result = right(self, batch, grads, *arguments, **options)
        grads.gradients["b_K_1"][2] = 1e-6
        grads.gradients["position_embeddings"][6, 0] = 1e-300
        return result

    monkeypatch.setattr(MiniBERT, "mlm_loss_and_gradients", wrong)
    assert [row.subject for row in failing(check_zeros(tiny()))] == ["b_K_1", "position_embeddings, 2 rows"]


def test_a_bias_of_the_keys_that_matters_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scores that a shift changes: squares of them."""
    right = attention.softmax.forward
    monkeypatch.setattr(attention.softmax, "forward", lambda x: right(x + 0.01 * x * x))
    rows = failing(check_zeros(tiny()))
    assert {row.subject for row in rows} == {"b_K_0", "b_K_1"}
    assert all("changes the objective by" in row.detail for row in rows)


def test_a_parameter_that_both_passes_forget_is_seen_here_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    right_forward, right_backward = feed_forward.linear.forward, feed_forward.linear.backward
    monkeypatch.setattr(feed_forward.linear, "forward", lambda x, W, b: right_forward(x, W, 0.0 * b))

    def backward(dy: Array, saved: Any) -> Any:
        dx, dW, db = right_backward(dy, saved)
        return dx, dW, 0.0 * db

    monkeypatch.setattr(feed_forward.linear, "backward", backward)
    scenario = tiny()
    assert not gradients(scenario.model, scenario)["b1_0"].any()
    assert failing(check_tensors("small model", scenario, (COMPLEX,), entries=2)) == []
    (row,) = failing(check_zeros(scenario))
    assert row.subject == "no other tensor"
    assert "b1_0, " in row.detail


# --- the certificate ------------------------------------------------------------------------------------------------


def test_asking_for_the_package_loads_no_code_under_test() -> None:
    """A bug is injected before that is loaded."""
    code = "import mini_bert.verification, sys; print([name for name in sys.modules if 'mini_bert.' in name])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ast.literal_eval(done.stdout) == ["mini_bert.verification"]
    assert {"check_op", "certify"} <= set(dir(verification))
    with pytest.raises(AttributeError, match="no attribute 'certificat_'"):
        verification.certificat_  # noqa: B018


@pytest.fixture
def small_certificate(monkeypatch: pytest.MonkeyPatch) -> Certificate:
    """Everything, at sizes that take seconds."""
    monkeypatch.setattr(certificate_module.conditions, "default_scenario", lambda quick: tiny("default model"))
    monkeypatch.setattr(certificate_module.conditions, "small_scenario", lambda quick: tiny("small model"))
    monkeypatch.setattr(
        certificate_module.conditions,
        "conditions",
        lambda quick: [tiny("relu", hidden_act="relu"), tiny("bare", heads=())],
    )
    return certificate_of(certify(quick=True), scope="everything", command="mini-bert verify")


def test_a_certificate_of_everything(small_certificate: Certificate, tmp_path: Path) -> None:
    made = small_certificate
    assert made.passed, made.failures
    assert made.verdict.startswith("PASS: ")
    assert [part for part in certificate_module.PARTS if made.of(part)] == [
        "operations", "default model", "small model", "conditions", "identities", "zeros",
    ]  # fmt: skip
    assert set(made.versions) == {"mini-bert", "python", "numpy", "BLAS kernel", "torch", "system"}
    assert made.versions["torch"] == "not installed"
    assert made.models["default model"] == "L=3 H=192 A=4 I=768 T=64 V=8192, gelu, heads mlm, 2,966,144 parameters"
    assert Certificate.from_json(made.to_json()) == made

    written = made.write(tmp_path / "new")
    assert written == [tmp_path / "new" / "certificate.md", tmp_path / "new" / "certificate.json"]
    assert Certificate.from_json(written[1].read_bytes()) == made
    (tmp_path / "docs" / "results").mkdir(parents=True)
    assert made.write(tmp_path / "docs")[1] == tmp_path / "docs" / "results" / "certificate.json"

    text = written[0].read_text(encoding="utf-8")
    assert text.startswith("# Certificate of every gradient\n\n**PASS**: ")
    for name in (*operations(), "b_K_1", "W_mlm", "bare", "softmax: rows sum to 1", "position_embeddings, some rows"):
        assert f"\n| {name} |" in text, name
    for path, digest in source_hashes().items():
        assert f"{digest}  mini_bert/{path}\n" in text
    assert "— under PyTorch: not installed." in text
    assert "✗" not in text
    assert sum(len(drawn.rows) for drawn in tables(made)) > 80


def test_a_certificate_that_fails_names_its_rows(small_certificate: Certificate, tmp_path: Path) -> None:
    bad = row_of(math.nan, part="default model", subject="W_Q_0", case="dropout")
    worse = row_of(math.inf, part="operations", detail="ValueError: shapes")
    made = replace(small_certificate, evidence=(*small_certificate.evidence, bad, worse))
    assert not made.passed
    assert made.failures == [bad, worse]
    assert made.verdict.startswith("FAIL: 2 of ")
    text = page(made)
    assert "**FAIL**: 2 of " in text
    assert "- ✗ W_Q_0, complex step (default model: dropout): nan > 1e-12" in text
    assert "| nan ✗ |" in text
    assert "| inf ✗ |" in text
    again = Certificate.from_json(made.to_json())
    assert [str(row) for row in again.failures] == [str(row) for row in made.failures]
    assert json.loads(made.to_json())["passed"] is False


def test_nothing_looked_at_is_no_pass(small_certificate: Certificate) -> None:
    assert not replace(small_certificate, evidence=()).passed
    assert not replace(small_certificate, evidence=(row_of(None),)).passed


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 2}', '{"format": 1, "passed": true, "evidence": [{"a": 1}]}']
)
def test_what_is_no_certificate_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="expected a certificate"):
        Certificate.from_json(text)


def test_a_folder_that_cannot_be_is_refused(small_certificate: Certificate, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        small_certificate.write(tmp_path / "file")


def test_hashes_are_of_every_source_that_is_checked() -> None:
    paths = source_hashes()
    for folder in ("ops", "model"):
        assert {path for path in paths if path.startswith(f"{folder}/")} == {
            f"{folder}/{path.name}" for path in (ROOT / "mini_bert" / folder).glob("*.py")
        }
    assert all(len(digest) == 64 for digest in paths.values())


COMMITTED = ROOT / "docs" / "results" / "certificate.json"


def test_the_committed_page_is_that_of_the_committed_result() -> None:
    made = Certificate.from_json(COMMITTED.read_bytes())
    assert made.passed
    assert made.scope == "all operations, the default model and a small one"
    assert (ROOT / "docs" / "certificate.md").read_text(encoding="utf-8") == page(made)


@pytest.mark.slow
def test_the_committed_certificate_speaks_of_these_sources() -> None:
    assert Certificate.from_json(COMMITTED.read_bytes()).sources == source_hashes(), "run: make verify"


@pytest.mark.slow
def test_the_quick_certificate_of_the_default_model() -> None:
    made = certificate_of(certify(quick=True), scope="", command="")
    assert made.passed, made.failures
    assert len({row.subject for row in made.of("default model")}) == 58 + 1


@pytest.mark.nightly
def test_the_whole_certificate() -> None:
    made = certificate_of(certify(), scope="", command="")
    assert made.passed, made.failures
    assert {
        row.compared for row in made.of("default model") if row.oracle == "complex step" and row.subject == "W1_0"
    } == {21}


# --- PyTorch --------------------------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize(
    "settings", [{}, {"hidden_act": "gelu_new"}, {"heads": tuple(heads.HEADS), "num_labels": 3}, {"heads": ()}]
)
def test_torch_agrees(settings: dict[str, Any]) -> None:
    rows = list(check_tensors("small model", tiny(**settings), (TORCH,)))
    assert failing(rows) == []
    assert not any(row.absent for row in rows)
    assert max(row.error for row in rows) <= 1e-13


@pytest.mark.reference
def test_torch_agrees_on_every_operation() -> None:
    rows = [row for row in op_checks.check_operations(operations()) if row.oracle == TORCH.name]
    assert failing(rows) == []
    assert all(row.compared for row in rows)
    assert certificate_module.versions()["torch"] != "not installed"


@pytest.mark.reference
def test_torch_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = layer_norm.backward
    monkeypatch.setattr(layer_norm, "backward", lambda dy, saved: (1.0001 * right(dy, saved)[0], *right(dy, saved)[1:]))
    rows = failing(op_checks.check_operations({"layer_norm": layer_norm}))
    assert TORCH.name in {row.oracle for row in rows}
    below = {row.subject for row in failing(check_tensors("small model", tiny(), (TORCH,)))}
    assert below >= {"W1_0", "token_embeddings"}
    assert "b_vocabulary" not in below


@pytest.mark.reference
def test_an_operation_that_torch_does_not_have_fails_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(torch_oracle._FUNCTIONS, "tanh")
    rows = failing(op_checks.check_operations({"tanh": tanh}))
    assert [(row.oracle, row.detail) for row in rows] == [
        ("PyTorch", "NotImplementedError: no function of PyTorch is known for tanh")
    ]
