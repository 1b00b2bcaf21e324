"""The reference of the configuration is what the models say."""

from collections.abc import Iterator
from pathlib import Path

from buildgrid_scheduler.config import Config
from buildgrid_scheduler.config.fields import Model, items_models, models_of
from buildgrid_scheduler.config.generated import write_or_check
from buildgrid_scheduler.config.reference import docstrings, reference

DOCS = Path(__file__).parents[3] / "docs"


def sections(model: Model, path: str = "") -> Iterator[tuple[str, Model]]:
    yield path, model
    for name, field in model.model_fields.items():
        for inner in (*models_of(field.annotation), *items_models(field.annotation)):
            yield from sections(inner, f"{path}.{name}" if path else name)


def test_the_page_is_up_to_date() -> None:
    assert (DOCS / "configuration.md").read_text() == reference()


def test_every_field_has_words_of_its_own() -> None:
    without = [
        f"{path}.{name}"
        for path, model in sections(Config)
        for name, field in model.model_fields.items()
        if not models_of(field.annotation) and name not in docstrings(model)
    ]
    assert without == []


def test_every_field_is_on_the_page_with_its_default() -> None:
    page = reference()
    names = {name for _, model in sections(Config) for name in model.model_fields}
    assert [name for name in sorted(names) if f"| `{name}` |" not in page] == []
    assert "| `max_queue_size` | number or null, ≥ 1 | `null` | yes |" in page
    assert "| `max_connection_age` | duration, ≥ 10s | `10m` |  |" in page
    assert "| `certificate_file` | path | *required* |  |" in page
    assert "## `storage`, type `object-store`" in page
    # Reloadable as a whole: so are the fields below.
    assert "| `match_property_keys` | list of text | `[ISA, OSFamily, Pool, container-image]` | yes |" in page


def test_a_page_that_has_drifted_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    assert write_or_check(lambda: "a", [str(file), "--check"]) == 1
    assert write_or_check(lambda: "a", [str(file)]) == 0
    assert write_or_check(lambda: "a", [str(file), "--check"]) == 0
    assert write_or_check(lambda: "b", [str(file), "--check"]) == 1
    assert file.read_text() == "a"
