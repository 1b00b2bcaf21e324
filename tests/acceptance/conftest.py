"""One Bazel and one farm for most tests; farms of their own for those that kill."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.bazel import REPOSITORIES, Bazel, find_bazel
from tests.acceptance.farm import Farm, Postgres, Replica
from tests.acceptance.gate import Gate

HERE = Path(__file__).parent
INSTALL_BAZEL = "no bazel or bazelisk on PATH; install one (Debian: apt-get install bazel-bootstrap)"
INSTALL_RULES = (
    "{folder} does not hold {missing}, which Bazel cannot fetch offline; set BAZEL_OVERRIDES to a folder "
    f"with {', '.join(REPOSITORIES)}"
)


@pytest.fixture(scope="session")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    """For everything; kept when a test failed. Not pytest's own, which only its user may enter: a PostgreSQL
    that root starts runs as another, and so do actions.
    """
    folder = Path(tempfile.mkdtemp(prefix="buildgrid-acceptance-"))
    folder.chmod(0o755)
    yield folder
    if request.session.testsfailed:
        print(f"\nlogs and data are kept in {folder}")
    else:
        for path in folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)  # Bazel makes its outputs read-only
        shutil.rmtree(folder)


def bazel_program() -> str:
    """The path of bazel or bazelisk; skips the test where there is none."""
    program = find_bazel()
    if program is None:
        pytest.skip(INSTALL_BAZEL)
    return program


def bazel_overrides() -> Path:
    """The folder with the external repositories; skips the test where there is none."""
    named = os.environ.get("BAZEL_OVERRIDES")
    if not named:
        pytest.skip(INSTALL_RULES.format(folder="BAZEL_OVERRIDES (unset)", missing=", ".join(REPOSITORIES)))
    overrides = Path(named).resolve()
    missing = [name for name in REPOSITORIES if not (overrides / name).is_dir()]
    if missing:
        pytest.skip(INSTALL_RULES.format(folder=overrides, missing=", ".join(missing)))
    return overrides


@pytest.fixture(scope="session")
def bazel(folder: Path) -> Iterator[Bazel]:
    """Bazel in a copy of the workspace."""
    program, overrides = bazel_program(), bazel_overrides()
    workspace = folder / "workspace"
    shutil.copytree(HERE / "workspace", workspace)
    bazel = Bazel(program, workspace, folder / "bazel", overrides)
    yield bazel
    bazel.shutdown()


@pytest.fixture(scope="session")
def gates(folder: Path) -> Path:
    """The folder of all gates."""
    gates = folder / "gates"
    gates.mkdir()
    return gates


@pytest.fixture
def gate(bazel: Bazel, gates: Path, request: pytest.FixtureRequest) -> Iterator[Gate]:
    """A gate of the test's own, and with it actions of its own. Bazel has ended when it is taken away."""
    gate = Gate(gates / request.node.name)
    yield gate
    gate.open()
    bazel.abandon_runs()
    gate.close()


@pytest.fixture(scope="session")
def shared_replica(bazel: Bazel, gates: Path, folder: Path) -> Iterator[Replica]:
    """A server as it is without a configuration, with an embedded database, and two bots."""
    with Farm(folder / "farm", gates) as farm:
        replica = farm.replica()
        farm.bot("one", replica)
        farm.bot("two", replica)
        yield replica


@pytest.fixture
def endpoint(shared_replica: Replica) -> str:
    """The farm that tests share which do no harm to it."""
    shared_replica.check()
    return shared_replica.endpoint


@pytest.fixture(scope="session")
def postgres(bazel: Bazel, folder: Path) -> Iterator[Postgres]:
    """A PostgreSQL that outlives the replicas."""
    postgres = Postgres(folder / "postgres")
    yield postgres
    postgres.stop()


@pytest.fixture
def own_farm(bazel: Bazel, gates: Path, folder: Path, request: pytest.FixtureRequest) -> Iterator[Farm]:
    """An empty farm, for a test that kills parts of it."""
    with Farm(folder / request.node.name, gates) as farm:
        yield farm
        bazel.abandon_runs()
