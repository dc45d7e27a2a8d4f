"""The one schema: what can be set, its default, its bounds and its meaning.

YAML files, command-line options and Python all fill these models. They are frozen, and a key that does not exist is
refused by name. Field names are those of Hugging Face's BERT configuration where it has one.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mini_bert.config.data_sections import CurriculumConfig, DataConfig, MaskingConfig, TasksConfig, TokenizerConfig
from mini_bert.config.model_section import Head, ModelConfig
from mini_bert.config.section import Integer, Section, listed
from mini_bert.config.training_sections import HealthConfig, OptimizerConfig, TrainConfig

__all__ = [
    "Config",
    "CurriculumConfig",
    "DataConfig",
    "EvaluationConfig",
    "Head",
    "HealthConfig",
    "MaskingConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RunConfig",
    "Section",
    "TasksConfig",
    "TokenizerConfig",
    "TrainConfig",
]


class EvaluationConfig(Section):
    """Fixed held-out masks: the same positions for every model and every baseline."""

    batch_size: Integer = Field(64, ge=1, description="rows scored at once")
    mask_seed: Integer = Field(0, ge=0, description="seed of the held-out masks")


class RunConfig(Section):
    """Where and how to run; of all this, only `seed` and `start` change the result."""

    name: str | None = Field(None, description="name of the run's folder; null: corpus and time")
    directory: str = Field("runs", description="folder that holds the runs")
    seed: Integer = Field(0, ge=0, lt=2**64, description="seed of every random draw")
    threads: Integer | None = Field(None, ge=1, description="worker threads; null: one a core")
    resume: str | None = Field(None, description="auto: the run's newest checkpoint; or a checkpoint's path")
    start: str | None = Field(
        None, description="weights that a new run begins with: a run, checkpoint or model folder; null: drawn"
    )
    trackers: Annotated[tuple[Literal["tensorboard", "wandb", "mlflow"], ...], BeforeValidator(listed)] = Field(
        (), description="where the records of metrics.jsonl go too"
    )


class Config(Section):
    """All sections."""

    model: ModelConfig = ModelConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    data: DataConfig = DataConfig()
    masking: MaskingConfig = MaskingConfig()
    curriculum: CurriculumConfig = CurriculumConfig()
    tasks: TasksConfig = TasksConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    train: TrainConfig = TrainConfig()
    health: HealthConfig = HealthConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as YAML and JSON write them."""
        return self.model_dump(mode="json")
