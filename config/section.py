"""What every section of the configuration is: frozen, without unknown keys, and without a flag where none is meant."""

from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError


def _takes_flag(kind: Any) -> bool:
    return kind in (Any, bool) or any(_takes_flag(part) for part in get_args(kind))


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_flag(cls, value: Any, info: ValidationInfo) -> Any:
        """Few fields are flags, and `port: yes` would be port 1."""
        if isinstance(value, bool) and not _takes_flag(cls.model_fields[info.field_name or ""].annotation):
            raise PydanticCustomError("flag", "must not be true or false (YAML reads yes, no, on and off so too); put text in quotes")
        return value
