"""A real Bazel builds C++ through the Service, on one hand-made bot pod."""

import pytest

from tests.cluster.images.building import Bazel

pytestmark = pytest.mark.timeout(600)


def test_bazel_builds_and_tests_through_the_service(bazel: Bazel) -> None:
    first = bazel.run("test", "//app/...", "//data/...")
    assert first["remote"] >= 8
    assert set(first) <= {"remote", "internal", "remote cache hit"}
    assert "2 tree\n" in bazel.output("app/report.txt")
    bazel.run("clean")
    again = bazel.run("build", "//app/...", "//data/...")
    assert "remote" not in again
    assert again["remote cache hit"] >= 5
