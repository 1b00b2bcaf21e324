"""Values: what is refused, and in which words; what is generated from values.yaml."""

import json
import re
from pathlib import Path

import pytest
import yaml

from tests.unit.charts.rendering import CHART, CRDS_CHART, ROOT, Json, needs_helm, refusal, template
from tools import charts

WRONG: list[tuple[Json, str]] = [
    ({"operator": {"scop": "Cluster"}}, "scop"),
    ({"operator": {"scope": "Everything"}}, "scope"),
    ({"operator": {"namespaces": ["not a name"]}}, "namespaces"),
    ({"operator": {"replicas": 0}}, "replicas"),
    ({"operator": {"allowUnsafePodTemplates": "yes"}}, "allowUnsafePodTemplates"),
    ({"global": {"imagePullSecrets": [{"name": "one"}]}}, "imagePullSecrets"),
    ({"global": {"imageRegistry": "https://registry.example.org"}}, "imageRegistry"),
    ({"images": {"operator": {"digest": "sha256:1"}}}, "digest"),
    ({"images": {"pullPolicy": "Sometimes"}}, "pullPolicy"),
    ({"uninstall": {"whenBusy": "Kill"}}, "whenBusy"),
    ({"scheduler": {"name": "Main"}}, "name"),
    ({"botFleet": {"enabled": "maybe"}}, "enabled"),
    ({"botFleet": {"name": "Linux"}}, "name"),
    ({"operator": {"watchNodes": "yes"}}, "watchNodes"),
    ({"trialBot": {"enabled": True}}, "trialBot"),
    ({"postgresql": {"maxConnections": 5}}, "maxConnections"),
    ({"test": {"waitSeconds": 0}}, "waitSeconds"),
    ({"extra": 1}, "extra"),
]
TOGETHER: list[tuple[Json, str]] = [
    (
        {"operator": {"namespaces": ["one"]}},
        "operator.namespaces: has an effect with operator.scope Namespaced only",
    ),
    (
        {"postgresql": {"enabled": False}},
        "scheduler.spec.database: is needed where postgresql.enabled is false",
    ),
    ({"postgresql": {"password": "a", "existingSecret": "b"}}, "postgresql.existingSecret: is set beside"),
    (
        {"botFleet": {"enabled": True}, "scheduler": {"enabled": False}},
        "botFleet.spec.schedulerRef: is needed where scheduler.enabled is false",
    ),
]


@needs_helm
@pytest.mark.parametrize(("values", "name"), WRONG, ids=[str(values) for values, _ in WRONG])
def test_a_wrong_value_is_refused_with_its_name(values: Json, name: str) -> None:
    said = refusal(values)
    assert "values don't meet the specifications of the schema" in said
    assert name in said


@needs_helm
@pytest.mark.parametrize(("values", "words"), TOGETHER, ids=[words for _, words in TOGETHER])
def test_values_that_do_not_go_together_are_refused_with_the_remedy(values: Json, words: str) -> None:
    assert words in refusal(values)


@needs_helm
def test_a_release_whose_name_no_scheduler_may_have_is_told_so() -> None:
    said = refusal({"fullnameOverride": "1st"})
    assert 'scheduler.name: "1st", made of the release\'s name, does not begin with a letter' in said


@needs_helm
def test_other_charts_may_have_global_values_of_their_own() -> None:
    assert template({"global": {"storageClass": "fast"}}).returncode == 0


def test_what_is_generated_is_up_to_date() -> None:
    assert charts.main(["--check", "--root", str(ROOT)]) == 0


def test_drift_is_told_and_mended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in ("pyproject.toml", "crds", "charts", "docs"):
        source = ROOT / path
        for file in [source] if source.is_file() else source.rglob("*"):
            if file.is_file() and file.suffix in (".yaml", ".toml", ".json", ".md"):
                copy = tmp_path / file.relative_to(ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(file.read_bytes())
    check = ["--check", "--root", str(tmp_path)]
    assert charts.main(check) == 0

    values = tmp_path / "charts/buildgrid/values.yaml"
    values.write_text(values.read_text().replace("# The operator.\n", "# The operator itself.\n"))
    (tmp_path / "crds/buildgrid.build_schedulers.yaml").unlink()
    project = tmp_path / "pyproject.toml"
    project.write_text(re.sub(r'(?m)^version = ".*"', 'version = "9.9.9"', project.read_text()))
    assert charts.main(check) == 1
    told = capsys.readouterr().err
    for path in (
        "charts/buildgrid/values.schema.json",
        "docs/values.md",
        "charts/buildgrid/Chart.yaml",
        "charts/buildgrid-crds/Chart.yaml",
        "charts/buildgrid/crds/buildgrid.build_schedulers.yaml",
        "charts/buildgrid-crds/templates/buildgrid.build_schedulers.yaml",
    ):
        assert path in told

    assert charts.main(["--root", str(tmp_path)]) == 0
    assert charts.main(check) == 0
    described = yaml.safe_load((tmp_path / "charts/buildgrid/Chart.yaml").read_text())
    assert (described["version"], described["appVersion"]) == ("9.9.9", "9.9.9")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1", "a: has no description"),
        ("# What it is.\na: null", "a: its default has no type"),
        ("# What it is.\na: []", "a: a list needs @items"),
        ("# What it is.\na: {}", "a: a mapping without keys needs @values"),
        ("# What it is.\n# @enum One|Two\na: Three", "a: its default is not in @enum"),
        ("# What it is.\n# @pattern ^x$\na: y", "a: its default does not match @pattern"),
        ("# What it is.\n# @sort up\na: y", "a: @sort is not known"),
        ("# @enum One\n# What it is.\na: One", "a: the description goes before the lines with @"),
        ("# Outer.\na:\n  b: 1", "a.b: has no description"),
    ],
)
def test_a_value_that_is_not_described_is_an_error(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        charts.read_values(text)


def test_what_is_written_by_hand_before_the_tables_stays() -> None:
    written = charts.page((), f"By hand.\n\n{charts.MARKER}\n\nold tables\n")
    assert written.startswith(f"By hand.\n\n{charts.MARKER}")
    assert "old tables" not in written
    with pytest.raises(ValueError, match="has lost the line"):
        charts.page((), "By hand.")


def test_the_defaults_in_the_schema_are_those_of_the_file() -> None:
    for chart in (CHART, CRDS_CHART):
        values = yaml.safe_load((chart / "values.yaml").read_text(encoding="utf-8"))
        schema = json.loads((chart / "values.schema.json").read_text(encoding="utf-8"))
        assert _defaults(schema) == values


def _defaults(schema: Json) -> Json:
    return {
        name: _defaults(inner) if "properties" in inner else inner["default"]
        for name, inner in schema["properties"].items()
    }
