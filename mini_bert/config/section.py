"""What all sections of the schema have in common: frozen, strict about names, and numbers that are numbers."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError


def listed(value: object) -> object:
    """One name stands for a list of one."""
    return (value,) if isinstance(value, str) else value


def _number(value: object) -> object:
    """YAML's `yes` is no 1."""
    if isinstance(value, bool):
        raise ValueError("a number")
    return value


Integer = Annotated[int, BeforeValidator(_number)]
Real = Annotated[float, BeforeValidator(_number)]


class Section(BaseModel):
    """Base of all sections: immutable, and strict about names.

    Raises:
        ConfigError: a setting is unknown, of a wrong type or out of bounds; its name, what was got and what was
            expected are in the message.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, **settings: Any) -> None:
        try:
            super().__init__(**settings)
        except ValidationError as error:
            from mini_bert.config.wording import config_error

            raise config_error(error.errors(include_url=False), type(self).model_fields) from None
