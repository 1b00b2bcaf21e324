"""A build, and the same build again."""

import hashlib
import subprocess

import pytest

from tests.acceptance.bazel import Bazel
from tests.acceptance.farm import Farm, Postgres

pytestmark = pytest.mark.xdist_group("bazel")

LARGE = b"".join(b"%d\n" % number for number in range(1, 2_700_001))


@pytest.mark.timeout(180)
def test_a_cold_build_runs_every_action_on_the_farm(bazel: Bazel, own_farm: Farm, postgres: Postgres) -> None:
    replica = own_farm.replica(database={"url": postgres.new_database()})
    for name in ("one", "two"):
        own_farm.bot(name, replica)
    bazel.clean()

    built = bazel.run(replica.endpoint, "build", "//...").succeeded()

    assert {spawn.runner for spawn in built.spawns} == {"remote"}
    assert {"CppCompile", "CppLink", "Genrule", "Tree"} <= {spawn.mnemonic for spawn in built.spawns}
    assert built.summary["remote"] == len(built.spawns) >= 15
    assert set(built.summary) <= {"remote", "internal"}
    poem = bazel.workspace / "app" / "poem.txt"
    counted = subprocess.run(
        [bazel.output("app/wordcount")], input=poem.read_bytes(), capture_output=True, check=True
    )
    assert b"2 tree\n" in counted.stdout
    assert bazel.output("app/report.txt").read_bytes() == counted.stdout
    assert "a word of warning" in built.output


def test_a_large_output_arrives_whole(bazel: Bazel, endpoint: str) -> None:
    bazel.run(endpoint, "build", "//data:large", "//data:large_sum", "//data:empty").succeeded()

    assert bazel.output("data/large.txt").read_bytes() == LARGE
    assert bazel.output("data/large_sum.txt").read_text().strip() == hashlib.sha256(LARGE).hexdigest()
    assert bazel.output("data/empty.txt").read_bytes() == b""


def test_a_directory_output_arrives_with_all_that_is_in_it(bazel: Bazel, endpoint: str) -> None:
    bazel.run(endpoint, "build", "//data:tree", "//data:tree_listing").succeeded()

    tree = bazel.output("data/tree")
    leaves = {
        f"branch {branch}/twig/leaf_{leaf}.txt": f"leaf {leaf} of {branch}\n"
        for branch in range(1, 4)
        for leaf in range(1, 6)
    }
    files = {**leaves, "first": "leaf 1 of 1\n", "rustle.sh": "#!/bin/sh\necho rustle\n"}
    found = {str(file.relative_to(tree)): file.read_text() for file in tree.rglob("*") if file.is_file()}
    assert found == files
    assert subprocess.run([tree / "rustle.sh"], capture_output=True, check=True).stdout == b"rustle\n"
    listing = bazel.output("data/tree_listing.txt").read_text()
    assert [line for line in listing.splitlines() if "leaf_" in line] == [
        f"./{name}: {text.strip()}" for name, text in sorted(leaves.items())
    ]
    assert "./first: leaf 1 of 1" in listing


def test_a_symlink_output_leads_to_its_target(bazel: Bazel, endpoint: str) -> None:
    bazel.run(endpoint, "build", "//data:linked").succeeded()

    assert bazel.output("data/link.txt").read_text() == "real\n"
    assert bazel.output("data/link.txt").is_symlink()


def test_after_a_clean_everything_comes_from_the_cache(bazel: Bazel, endpoint: str) -> None:
    bazel.clean()
    bazel.run(endpoint, "build", "//...").succeeded()
    bazel.clean()
    assert not bazel.output("app/report.txt").exists()

    again = bazel.run(endpoint, "build", "//...").succeeded()

    assert again.executed == []
    assert again.summary["remote cache hit"] == len(again.spawns) >= 15
    assert bazel.output("data/large.txt").read_bytes() == LARGE
    assert bazel.output("app/report.txt").read_text().count("\n") > 10
    assert (bazel.output("data/tree") / "rustle.sh").is_file()


def test_a_change_runs_what_depends_on_it_and_nothing_else(bazel: Bazel, endpoint: str) -> None:
    bazel.clean()
    bazel.run(endpoint, "build", "//...").succeeded()
    with (bazel.workspace / "app" / "poem.txt").open("a") as poem:
        poem.write("\nThis line is new.\n")

    bazel.clean()
    again = bazel.run(endpoint, "build", "//...").succeeded()

    assert [spawn.label.rpartition("/")[2] for spawn in again.executed] == ["report.txt"]
    assert "1 new\n" in bazel.output("app/report.txt").read_text()


def test_a_build_without_the_bytes_leaves_them_on_the_farm(bazel: Bazel, endpoint: str) -> None:
    bazel.clean()
    bazel.run(endpoint, "build", "--remote_download_minimal", "//app:report", "//data:large_sum").succeeded()
    assert not bazel.output("data/large.txt").exists()
    assert not bazel.output("app/report.txt").exists()

    bazel.clean()
    bazel.run(endpoint, "build", "//data:large_sum").succeeded()
    assert bazel.output("data/large_sum.txt").read_text().strip() == hashlib.sha256(LARGE).hexdigest()


def test_the_farm_serves_as_a_cache_for_builds_on_ones_own_machine(bazel: Bazel, endpoint: str) -> None:
    own_actions = "--action_env=SALT=built-here"
    flags = [
        *("--remote_executor=", f"--remote_cache={endpoint}", own_actions),
        *("--spawn_strategy=local", "--genrule_strategy=local"),
    ]
    bazel.clean()
    first = bazel.run(endpoint, "build", *flags, "//data:large", "//data:tree")
    bazel.clean()
    second = bazel.run(endpoint, "build", *flags, "//data:large", "//data:tree")

    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert first.summary.get("local") == 2, first.output
    assert second.summary.get("remote cache hit") == 2, second.output
    assert bazel.output("data/large.txt").read_bytes() == LARGE
