"""The images that the tests run: their names, and whether they are there."""

import os
import shutil
import string
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.cluster.conftest import ROOT

HERE = Path(__file__).parent
REGISTRY = os.environ.get("REGISTRY", "ghcr.io/buildgrid-kubernetes")
TOOLCHAIN = os.environ.get("TOOLCHAIN_IMAGE", "localhost/toolchain:test")
BAZEL = os.environ.get("BAZEL_IMAGE", "localhost/bazel:test")
PROJECT = ("scheduler", "operator", "bot", "postgres")


def version() -> str:
    """The tag of the project's images."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    return os.environ.get("VERSION", str(project["project"]["version"]))


def next_version() -> str:
    """Another tag of scheduler and operator, for upgrades; it may name the same images."""
    return os.environ.get("NEXT_VERSION", f"{version()}-next")


def need(*names: str) -> None:
    """Skips the test where one of the project's images is missing."""
    for name in names:
        if "REGISTRY" not in os.environ and not _is_built(f"{REGISTRY}/{name}:{version()}"):
            pytest.skip(
                f"no image {REGISTRY}/{name}:{version()}: run `make images` and load them into the cluster "
                "(`kind load docker-image`), or set REGISTRY and VERSION for images that it can pull"
            )


def need_toolchain() -> None:
    """Skips the test where there is no image with a compiler."""
    if "TOOLCHAIN_IMAGE" not in os.environ and not _is_built(TOOLCHAIN):
        pytest.skip(
            f"no image {TOOLCHAIN}: build it from toolchain.Dockerfile and load it into the cluster, or set "
            "TOOLCHAIN_IMAGE for an image with gcc and no Python that it can pull"
        )


def need_bazel() -> None:
    """Skips the test where there is no image with Bazel and the toolchain's compiler."""
    need_toolchain()
    if "BAZEL_IMAGE" not in os.environ and not _is_built(BAZEL):
        pytest.skip(
            f"no image {BAZEL}: build it from bazel.Dockerfile and load it into the cluster, or set "
            "BAZEL_IMAGE for an image with Bazel and the compiler of TOOLCHAIN_IMAGE that it can pull"
        )


def manifest(file: str, **more: str) -> str:
    """A file beside this one, with the names of the images filled in, and `more`."""
    text = string.Template((HERE / file).read_text())
    return text.substitute(
        {"IMAGES": REGISTRY, "VERSION": version(), "TOOLCHAIN": TOOLCHAIN, "BAZEL": BAZEL}, **more
    )


def _is_built(image: str) -> bool:
    """Whether one of the builders knows the image on this machine."""
    for inspect in (["docker", "image", "inspect", image], ["buildah", "inspect", "--type", "image", image]):
        if (
            shutil.which(inspect[0])
            and not subprocess.run(inspect, capture_output=True, check=False).returncode
        ):
            return True
    return False
