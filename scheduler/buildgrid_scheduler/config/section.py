"""What all sections of the configuration have in common.

A field is documented by the string below it, which the generated reference shows. A field whose new value a
running server takes up is marked `Field(..., json_schema_extra=RELOADABLE)`; a change of any other one
takes effect at the next start. RELOADABLE_ALONE is for fields that mean something only together with the
others of their section: when one of those has to wait for the next start, they wait with it. A field whose
value must not be shown is marked with SECRET.
"""

from pydantic import BaseModel, ConfigDict, JsonValue

RELOADABLE: dict[str, JsonValue] = {"reloadable": True}
RELOADABLE_ALONE: dict[str, JsonValue] = {**RELOADABLE, "alone": True}
SECRET: dict[str, JsonValue] = {"secret": True}


class Section(BaseModel):
    """A mapping of known fields; unknown ones are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class FieldError(ValueError):
    """A validator's complaint about a field other than the one that it stands at.

    `field` is dotted, from where the validator is; an item of a list is named by its number.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
