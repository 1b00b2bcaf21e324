"""Each source of the demo is compiled with exactly the headers it sees."""

from pathlib import Path

import pytest

import demo.run
from demo.bazel_client import OVERRIDES_VARIABLE, override_flags, parse_summary
from demo.build_plan import included_headers, plan_build

PROJECT = Path(demo.run.__file__).parent / "project"


def project_with(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_c", ".c").replace("_h", ".h")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_headers_are_followed_through_headers_and_around_circles(tmp_path: Path) -> None:
    project = project_with(
        tmp_path,
        a__main_c='#include <stdio.h>\n#include "b/one.h"\n',
        b__one_h='#  include "two.h"\n// #include "none.h"\n',
        b__two_h='#include "b/one.h"\n',
    )
    assert included_headers(project, "a/main.c") == ("b/one.h", "b/two.h")


def test_a_header_beside_the_file_comes_before_one_of_the_project(tmp_path: Path) -> None:
    project = project_with(tmp_path, a__main_c='#include "x.h"\n', a__x_h="", x_h="")
    assert included_headers(project, "a/main.c") == ("a/x.h",)


def test_an_include_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    project = project_with(tmp_path, a__main_c='#include "lost.h"\n')
    with pytest.raises(FileNotFoundError, match=r"a/main\.c includes 'lost\.h'"):
        plan_build(project)


def test_every_source_of_the_project_is_compiled_once_and_linked() -> None:
    plan = plan_build(PROJECT)
    sources = {path.relative_to(PROJECT).as_posix() for path in PROJECT.rglob("*.c")}
    assert len(sources) > 25
    assert sorted(step.source for step in plan.compiles) == sorted(sources)
    objects = {step.object for step in plan.compiles}
    assert len(objects) == len(sources)
    assert objects == {name for link in plan.links for name in link.objects}


def test_the_programs_do_not_share_their_main_functions() -> None:
    objects = {link.program: link.objects for link in plan_build(PROJECT).links}
    assert "app/main.o" in objects["toolbox"]
    assert "tests/main.o" not in objects["toolbox"]
    assert "tests/main.o" in objects["unit"]
    assert "app/main.o" not in objects["unit"]


def test_the_headers_of_a_step_exist_and_leave_most_of_the_project_out() -> None:
    plan = plan_build(PROJECT)
    for step in plan.compiles:
        assert all((PROJECT / header).is_file() for header in step.headers)
    machine = next(step for step in plan.compiles if step.source == "calc/machine.c")
    assert "base/map.h" in machine.headers
    assert "json/value.h" not in machine.headers


def test_bazels_own_summary_is_understood() -> None:
    output = (
        "INFO: 3 processes: 3 internal.\nINFO: 60 processes: 12 remote cache hit, 16 internal, 32 remote.\n"
    )
    assert parse_summary(output) == ("12 remote cache hit, 16 internal, 32 remote", 32, 12)
    assert parse_summary("INFO: 1 process: 1 remote.") == ("1 remote", 1, 0)
    assert parse_summary("") == ("", 0, 0)


def test_only_repositories_that_are_there_are_overridden(tmp_path: Path) -> None:
    (tmp_path / "rules_cc").mkdir()
    assert override_flags(None) == []
    assert override_flags(str(tmp_path)) == [
        f"--override_repository=rules_cc={tmp_path.resolve() / 'rules_cc'}"
    ]


def test_the_command_that_follows_has_the_same_overrides(tmp_path: Path) -> None:
    (tmp_path / "rules_cc").mkdir()
    plain = "bazel test //... --remote_executor=grpc://127.0.0.1:50051"
    assert demo.run.bazel_command(None) == plain
    assert demo.run.bazel_command(str(tmp_path)) == " ".join([plain, *override_flags(str(tmp_path))])


@pytest.mark.parametrize(
    ("made", "words"), [(False, "is no folder"), (True, "holds none of rules_cc, rules_java")]
)
def test_overrides_that_are_not_there_are_told_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    made: bool,
    words: str,
) -> None:
    folder = tmp_path / "overrides"
    if made:
        folder.mkdir()
    monkeypatch.setattr("demo.run.find_bazel", lambda: "bazel")
    monkeypatch.setattr("demo.run.find_compiler", lambda: "cc")
    monkeypatch.setattr("demo.run.Farm", None)  # nothing may be started
    monkeypatch.setenv(OVERRIDES_VARIABLE, str(folder))
    assert demo.run.main(["--client", "bazel"]) == 1
    assert f"demo: {OVERRIDES_VARIABLE}={folder} {words}" in capsys.readouterr().err
