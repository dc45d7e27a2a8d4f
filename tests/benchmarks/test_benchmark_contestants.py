from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mini_bert.batch import Batch
from mini_bert.benchmarks import suite
from mini_bert.benchmarks.numpy_contestants import EmbeddingGradient, FillMask, TrainingStep
from mini_bert.benchmarks.suite import run_benchmark
from mini_bert.benchmarks.workload import CLS, MASK, SEP, Workload, make_workload, sentences, vocabulary
from mini_bert.config.schema import ModelConfig
from mini_bert.errors import InvalidInputError, MissingExtraError
from mini_bert.model.bert import MiniBERT
from mini_bert.model.parameters import Parameters
from mini_bert.text.wordpiece import WordPiece

SHAPE = ModelConfig(
    vocab_size=256,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
)


@pytest.fixture(scope="module")
def workload(tmp_path_factory: pytest.TempPathFactory) -> Workload:
    folder = tmp_path_factory.mktemp("workload")
    suite._save_model(SHAPE, folder / "model")
    return make_workload(folder / "batches", SHAPE, model=folder / "model", rows=8, batches=3)


def test_batches_are_masked_rows_of_the_same_text(workload: Workload) -> None:
    text, batches = workload.text(), workload.masked_batches()
    assert text.shape == (3, 8, 32)
    assert (text[:, :, 0] == CLS).all()
    assert (text[:, :, -1] == SEP).all()
    for original, batch in zip(text, batches, strict=True):
        assert batch.masked_positions is not None
        np.testing.assert_array_equal(original.ravel()[batch.masked_positions], batch.target_ids)
        restored = batch.input_ids.copy()
        restored.ravel()[batch.masked_positions] = batch.target_ids
        np.testing.assert_array_equal(restored, original)
    assert workload.masked_tokens() == pytest.approx(0.15 * 8 * 30, rel=0.1)


@pytest.mark.parametrize("size", [256, 8192])
def test_sentences_have_16_tokens_and_one_mask(size: int) -> None:
    tokenizer = WordPiece(vocabulary(size))
    assert len(set(tokenizer.vocabulary)) == size
    texts = sentences()
    assert len(set(texts)) > 16
    for text in texts:
        ids, _ = tokenizer.encode_row(text)
        assert len(ids) == 16, text
        assert ids.count(MASK) == 1
        assert tokenizer.unk_id not in ids


def test_our_step_trains_on_these_batches(workload: Workload) -> None:
    ours = TrainingStep(workload, {}, threads=2)
    batch = workload.masked_batches()[1]
    model = MiniBERT.from_pretrained(workload.model)
    loss_sum, masked = model.mlm_loss_and_gradients(batch, Parameters(SHAPE))
    assert ours.step(1) == pytest.approx(loss_sum / masked, rel=1e-6)
    assert ours.step(1) < loss_sum / masked
    assert TrainingStep(workload, {"dropout": 0.5}, threads=1).step(1) != pytest.approx(loss_sum / masked, rel=1e-5)


def test_ways_to_the_embedding_gradient_agree(workload: Workload) -> None:
    tables = []
    for way in ("sorted", "add.at", "loop"):
        gradient = EmbeddingGradient(workload, {"way": way}, threads=1)
        gradient.step(0)
        gradient.step(1)
        tables.append(gradient._table)
    expected = np.zeros_like(tables[0])
    for ids in workload.text()[:2]:
        expected += (
            np.eye(SHAPE.vocab_size, dtype=np.float32)[ids.ravel()].T
            @ EmbeddingGradient(workload, {"way": "loop"}, threads=1)._dy
        )
    for table in tables:
        np.testing.assert_allclose(table, expected, atol=1e-4)


def test_fill_mask_gives_a_probability(workload: Workload) -> None:
    ours = FillMask(workload, {}, threads=1)
    assert 1 / SHAPE.vocab_size < ours.step(0) < 1


@pytest.mark.parametrize(
    ("arguments", "name"), [({"against": "jax"}, "against"), ({"rows": 2}, "rows"), ({"threads": 0}, "threads")]
)
def test_arguments_out_of_bounds(arguments: dict[str, Any], name: str) -> None:
    with pytest.raises(InvalidInputError, match=name):
        run_benchmark(**arguments)


def test_without_torch_the_install_line_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install torch"):
        run_benchmark(against="torch")


@pytest.mark.slow
def test_the_whole_suite_without_torch(tmp_path: Path) -> None:
    result = run_benchmark(quick=True, output=tmp_path, threads=2, rows=4, shape=SHAPE)
    assert suite.BenchmarkResult.read(tmp_path / "benchmark.json") == result
    names = [entry.name for entry in result.training.finished()]
    assert names[:3] == ["ours", "ours-dropout", "sgemm"]
    assert result.training.entry("ours").first_value == pytest.approx(np.log(SHAPE.vocab_size), abs=0.2)
    assert result.floor.gflop < result.floor.gflop_all_rows
    assert 0 < result.scaling.exponent < 1.5
    assert [entry.name for entry in result.threads.finished()] == ["1", "2"]
    assert all(start.seconds for start in result.cold_start)


@pytest.mark.reference
@pytest.mark.parametrize("attention", ["sdpa", "plain"])
@pytest.mark.parametrize("last_block_rows", [False, True])
def test_the_pytorch_module_is_the_same_bert(workload: Workload, attention: str, last_block_rows: bool) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import BertForMaskedLM

    from mini_bert.benchmarks.torch_bert import build, load_hugging_face

    batch = workload.masked_batches()[0]
    expert = build(SHAPE, attention=attention, last_block_rows=last_block_rows)
    load_hugging_face(expert, load_file(Path(workload.model) / "model.safetensors")).double()
    input_ids, positions, targets = (
        torch.from_numpy(np.asarray(array, np.int64))
        for array in (batch.input_ids, batch.masked_positions, batch.target_ids)
    )
    loss = expert(input_ids, positions, targets)
    loss.backward()

    usual = BertForMaskedLM.from_pretrained(workload.model).double().eval()
    labels = torch.full((input_ids.numel(),), -100)
    labels[positions] = targets
    reference = usual(input_ids=input_ids, labels=labels.view_as(input_ids)).loss
    reference.backward()

    ours = MiniBERT.from_pretrained(workload.model, dtype=np.float64)
    gradients = Parameters(SHAPE, np.float64)
    loss_sum, masked = ours.mlm_loss_and_gradients(batch, gradients)

    assert loss.item() == pytest.approx(reference.item(), rel=1e-12)
    assert loss.item() == pytest.approx(loss_sum / masked, rel=1e-12)
    tokens = expert.tokens.weight.grad.numpy()
    np.testing.assert_allclose(tokens, usual.bert.embeddings.word_embeddings.weight.grad.numpy(), atol=1e-12)
    np.testing.assert_allclose(tokens, gradients["token_embeddings"] / masked, atol=1e-12)
    up = expert.blocks[-1].up.weight.grad.numpy()
    np.testing.assert_allclose(up.T, gradients["W1_1"] / masked, atol=1e-12)


@pytest.mark.reference
@pytest.mark.parametrize(
    "options", [{}, {"adamw": "fused", "attention": "plain"}, {"rows": "padded"}, {"last_block_rows": True}], ids=str
)
def test_steps_of_the_contestants_lead_to_the_same_loss(workload: Workload, options: dict[str, Any]) -> None:
    from mini_bert.benchmarks.torch_contestants import ExpertTrainingStep

    ours, expert = TrainingStep(workload, {}, threads=1), ExpertTrainingStep(workload, options, threads=1)
    for number in range(6):
        assert ours.step(number) == pytest.approx(expert.step(number), rel=2e-5)


@pytest.mark.reference
def test_sentences_are_filled_alike(workload: Workload) -> None:
    from mini_bert.benchmarks.torch_contestants import ExpertFillMask, UsualFillMask

    ours = FillMask(workload, {}, threads=1)
    for theirs in (UsualFillMask(workload, {}, threads=1), ExpertFillMask(workload, {}, threads=1)):
        for number in range(3):
            assert ours.step(number) == pytest.approx(theirs.step(number), rel=1e-4)


@pytest.mark.reference
def test_products_are_those_that_pytorch_counts(workload: Workload) -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from mini_bert.benchmarks.torch_bert import build
    from mini_bert.model.matrix_products import step_flops

    batch: Batch = workload.masked_batches()[0]
    assert batch.masked_positions is not None
    assert batch.target_ids is not None
    module = build(SHAPE, attention="plain")
    with FlopCounterMode(display=False) as counter:
        module(
            torch.from_numpy(batch.input_ids.astype(np.int64)),
            torch.from_numpy(batch.masked_positions),
            torch.from_numpy(batch.target_ids.astype(np.int64)),
        ).backward()
    masked = batch.masked_positions.size
    assert counter.get_total_flops() == step_flops(SHAPE, 8, 32, masked, last_block_rows=False)
