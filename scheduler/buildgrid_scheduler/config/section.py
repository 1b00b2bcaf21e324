"""What all sections of the configuration have in common.

A field is documented by the string below it, which the generated reference shows. A field whose new value a
running server takes up is marked `Field(..., json_schema_extra=RELOADABLE)`; a change of any other one
takes effect at the next start. RELOADABLE_ALONE is for fields that mean something only together with the
others of their section: when one of those has to wait for the next start, they wait with it. A field whose
value must not be shown is marked with SECRET. Paths may begin with `~` or `~USER`.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, field_validator

RELOADABLE: dict[str, JsonValue] = {"reloadable": True}
RELOADABLE_ALONE: dict[str, JsonValue] = {**RELOADABLE, "alone": True}
SECRET: dict[str, JsonValue] = {"secret": True}


class Section(BaseModel):
    """A mapping of known fields; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="after")
    @classmethod
    def _at_home(cls, value: Any) -> Any:
        """A shell would put in the home folder; what is in a file or behind `--flag=` it leaves alone."""
        if isinstance(value, Path):
            return _expanded(value)
        if isinstance(value, dict):
            return {name: _expanded(item) if isinstance(item, Path) else item for name, item in value.items()}
        return value


class FieldError(ValueError):
    """A validator's complaint about a field other than the one that it stands at.

    `field` is dotted, from where the validator is; an item of a list is named by its number.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def _expanded(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"'{path}': there is no such home folder; write the path in full") from error
