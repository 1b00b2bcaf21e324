from pathlib import Path

import pytest
import yaml
from buildgrid_operator.api.crd import KINDS, crd_of
from buildgrid_operator.api.generate import files, main

_ROOT = Path(__file__).parents[4]


def test_the_generated_files_are_what_the_models_say() -> None:
    assert main(["--check", "--root", str(_ROOT)]) == 0


def test_a_changed_file_is_told_of_and_written_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--root", str(tmp_path)]) == 0
    assert main(["--check", "--root", str(tmp_path)]) == 0
    changed = tmp_path / "crds" / "buildgrid.build_schedulers.yaml"
    changed.write_text(changed.read_text(encoding="utf-8").replace("maximum: 100", "maximum: 1000", 1))
    assert main(["--check", "--root", str(tmp_path)]) == 1
    assert "crds/buildgrid.build_schedulers.yaml is not what the models say" in capsys.readouterr().err


def test_the_files_of_crds_are_yaml_of_what_is_applied() -> None:
    written = [yaml.safe_load(content) for path, content in files().items() if path.startswith("crds/")]
    assert written == [crd_of(kind) for kind in KINDS]


def test_the_reference_shows_fields_bounds_defaults_effects_and_rules() -> None:
    page = files()["docs/api.md"]
    assert "| `maxAttempts` | number, 1 to 1000 | `5` | reload | " in page
    assert "| `urlSecretRef` | section | *required* | rollout | " in page
    assert "### `spec.auth.jwt[].claims`" in page
    assert "| `secretRefs` | mapping to section, at most 8, as `spec.database.urlSecretRef` | " in page
    assert page.count("### `spec.database.urlSecretRef`") == 1
    assert "- set exactly one of managed, objectStore and remote" in page
    assert "- `size`: cannot shrink" in page
