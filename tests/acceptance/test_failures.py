"""What goes wrong in an action is told as the action's own failure."""

import pytest

from tests.acceptance.bazel import Bazel, BazelResult

pytestmark = pytest.mark.xdist_group("bazel")

BUILD_FAILED, TESTS_FAILED = 1, 3
OF_THE_FARM = ("UNAVAILABLE", "INTERNAL", "UNKNOWN", "DATA_LOSS", "io.grpc", "Remote Execution Failure")


def assert_not_blamed_on_the_farm(failed: BazelResult) -> None:
    assert not [word for word in OF_THE_FARM if word in failed.output], failed.output


@pytest.mark.parametrize("time", ["first", "second"])
def test_an_action_that_fails_shows_its_exit_code_and_stderr(bazel: Bazel, endpoint: str, time: str) -> None:
    failed = bazel.run(endpoint, "build", "//broken:exits_with_7")

    assert failed.exit_code == BUILD_FAILED
    assert "Exit 7" in failed.output
    assert "there is no cheese left" in failed.output
    assert_not_blamed_on_the_farm(failed)
    # A failure is not cached: the second time it is run again.
    assert [(spawn.exit_code, spawn.cache_hit) for spawn in failed.spawns] == [(7, False)]


def test_what_does_not_depend_on_a_failure_is_built(bazel: Bazel, endpoint: str) -> None:
    failed = bazel.run(endpoint, "build", "--keep_going", "//broken:exits_with_7", "//broken:is_well")

    assert failed.exit_code == BUILD_FAILED
    assert bazel.output("broken/is_well.txt").read_text() == "well\n"


def test_an_output_that_was_not_made_is_named(bazel: Bazel, endpoint: str) -> None:
    failed = bazel.run(endpoint, "build", "//broken:makes_nothing")

    assert failed.exit_code == BUILD_FAILED
    assert "makes_nothing.txt" in failed.output and "was not created" in failed.output
    assert_not_blamed_on_the_farm(failed)


def test_a_compiler_error_is_shown(bazel: Bazel, endpoint: str) -> None:
    failed = bazel.run(endpoint, "build", "//broken:does_not_compile")

    assert failed.exit_code == BUILD_FAILED
    assert "undeclared_answer" in failed.output
    assert_not_blamed_on_the_farm(failed)


def test_tests_pass_on_the_farm_and_their_results_are_cached(bazel: Bazel, endpoint: str) -> None:
    passed = bazel.run(endpoint, "test", "//...").succeeded()
    bazel.clean()
    again = bazel.run(endpoint, "test", "//...").succeeded()

    runs = [spawn.label for spawn in passed.spawns if spawn.mnemonic == "TestRunner"]
    assert [label for label in runs if "app/words_test/" in label], runs
    assert [label for label in runs if "app/wordcount_test/" in label], runs
    assert "2 tests pass" in passed.output
    assert again.executed == [] and "2 tests pass" in again.output


def test_a_test_that_fails_is_reported_with_its_log(bazel: Bazel, endpoint: str) -> None:
    failed = bazel.run(endpoint, "test", "--test_output=errors", "//broken:failing_test", "//app:words_test")

    assert failed.exit_code == TESTS_FAILED
    assert "expected 42, got 41" in failed.output
    assert "1 test passes" in failed.output and "1 fails remotely" in failed.output
    log = bazel.output("broken/failing_test/test.log", "bazel-testlogs")
    assert "expected 42, got 41" in log.read_text()
    assert_not_blamed_on_the_farm(failed)


def test_a_test_that_takes_too_long_is_a_timeout_with_its_log(bazel: Bazel, endpoint: str) -> None:
    failed = bazel.run(endpoint, "test", "--test_timeout=2", "//broken:slow_test")

    assert failed.exit_code == TESTS_FAILED
    assert "TIMEOUT" in failed.output
    log = bazel.output("broken/slow_test/test.log", "bazel-testlogs")
    assert "this will take a while" in log.read_text()


def test_a_platform_property_that_the_farm_does_not_know_is_named(bazel: Bazel, endpoint: str) -> None:
    failed = bazel.run(endpoint, "build", "--remote_default_exec_properties=Colour=red", "//broken:is_well")

    assert failed.exit_code != 0
    assert "FAILED_PRECONDITION" in failed.output and "Colour" in failed.output
    assert "OSFamily" in failed.output  # what it does know
