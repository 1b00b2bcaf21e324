"""Actions whose `/` is their input root: a whole system that the client sends, as BuildStream does."""

from dataclasses import replace
from pathlib import Path

import pytest
from buildgrid_bot.sandbox import Root, Sandbox
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Action, Command, Directory

from tests.farm.system_root import system_files
from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of


@pytest.fixture
def sandbox(best_sandbox: Sandbox) -> Sandbox:
    if best_sandbox.bwrap is None:
        pytest.skip("bubblewrap does not work here; install it (Debian: apt-get install bubblewrap)")
    return replace(best_sandbox, root=Root.INPUT)


class Systems:
    """Actions that bring a system of their own."""

    def __init__(self, farm: FakeFarm) -> None:
        self._farm = farm
        self._files: dict[str, bytes | str] = {
            path: file.read_bytes() for path, file in system_files().items()
        }

    def shell(
        self,
        script: str,
        *,
        files: dict[str, bytes | str] | None = None,
        symlinks: dict[str, str] | None = None,
        **more: object,
    ) -> Action:
        return self._farm.action(
            ["sh", "-c", script],
            files={**self._files, **(files or {})},
            executables=frozenset(self._files),
            symlinks={"bin": "usr/bin", **(symlinks or {})},
            environment={"PATH": "/usr/bin"},
            **more,  # type: ignore[arg-type]
        )


@pytest.fixture
def systems(farm: FakeFarm) -> Systems:
    return Systems(farm)


async def test_nothing_of_the_machine_is_seen(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)

    job = await farm.submit(systems.shell("ls /; ls /usr; ls /usr/bin; cat /etc/passwd; pwd"))
    result = result_of(await farm.finished(job))

    top, usr = result.stdout_raw.split(b"usr\n", 1)
    assert set(top.split()) <= {b"bin", b"dev", b"lib", b"lib32", b"lib64", b"proc", b"tmp"}
    assert usr.startswith((b"bin\n", b"lib\nbin\n")) and b"readlink" in usr and b"python" not in usr
    assert b"/etc/passwd" in result.stderr_raw
    assert result.stdout_raw.endswith(b"\n/\n")


async def test_proc_dev_and_tmp_are_there_and_are_no_outputs(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)
    action = systems.shell(
        "set -e; echo lost > /dev/null; cat /proc/self/comm; echo x > /tmp/scratch; echo kept > /new",
        command=Command(output_directory_format=Command.DIRECTORY_ONLY, output_paths=["."]),
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert (result.exit_code, result.stderr_raw) == (0, b"")
    (output,) = result.output_directories
    root = Directory.FromString(farm.cas.get(output.root_directory_digest))
    names = {
        *(node.name for node in root.directories),
        *(node.name for node in root.files),
        *(node.name for node in root.symlinks),
    }
    assert {"usr", "bin", "new"} <= names
    assert not names & {"proc", "dev", "tmp"}, "what the sandbox made for itself is taken away again"


async def test_the_root_named_from_its_working_directory_comes_back_whole(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)
    action = systems.shell(
        "cat in.txt > out.txt; mkdir /installed; cp out.txt /installed",
        files={"build/element/in.txt": "hello"},
        working_directory="build/element",
        command=Command(output_directory_format=Command.DIRECTORY_ONLY, output_paths=["../.."]),
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    (output,) = result.output_directories
    assert output.path == "../.."
    root = Directory.FromString(farm.cas.get(output.root_directory_digest))
    (installed,) = [node for node in root.directories if node.name == "installed"]
    (file,) = Directory.FromString(farm.cas.get(installed.digest)).files
    assert (file.name, farm.cas.get(file.digest)) == ("out.txt", b"hello")


async def test_inputs_may_be_changed_and_others_do_not_see_it(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)
    files: dict[str, bytes | str] = {"etc/small": "1\n", "etc/large": b"2\n" * 100_000}
    change = systems.shell(
        "echo changed >> /etc/small && echo changed > /etc/large && cat /etc/small /etc/large", files=files
    )
    look = systems.shell("cat /etc/small; cat /etc/large", files=files)

    changed = result_of(await farm.finished(await farm.submit(change)))
    looked = result_of(await farm.finished(await farm.submit(look)))

    assert (changed.exit_code, changed.stdout_raw) == (0, b"1\nchanged\nchanged\n")
    assert farm.cas.get(looked.stdout_digest) == b"1\n" + b"2\n" * 100_000


async def test_absolute_symlinks_start_at_the_root(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)
    action = systems.shell(
        "pwd -P; echo made > result",
        symlinks={"work": "/srv/real", "srv/real": "/var/deeper"},
        files={"var/deeper/in.txt": "x"},
        working_directory="work/below",
        outputs=["result", "../../work/below/result"],
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert result.stdout_raw == b"/var/deeper/below\n"
    assert {file.path for file in result.output_files} == {"result", "../../work/below/result"}
    assert farm.cas.get(result.output_files[0].digest) == b"made\n"


async def test_inputs_and_outputs_in_tmp_are_where_they_belong(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)
    reads = systems.shell("cat /tmp/in.txt", files={"tmp/in.txt": "an input"})
    writes = systems.shell("echo x > /tmp/out.txt", outputs=["tmp/out.txt"])

    read = result_of(await farm.finished(await farm.submit(reads)))
    written = result_of(await farm.finished(await farm.submit(writes)))

    assert read.stdout_raw == b"an input"
    assert [file.path for file in written.output_files] == ["tmp/out.txt"]


async def test_the_user_is_whom_the_platform_names(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)
    script = "id -u; id -g; echo mine > /usr/bin/new"

    nobody = await farm.submit(systems.shell(script))
    root = await farm.submit(systems.shell(script, platform={"unixUID": "0", "unixGID": "0"}))
    wrong = await farm.submit(systems.shell(script, platform={"unixUID": "root"}))

    assert result_of(await farm.finished(nobody)).stdout_raw == b"65534\n65534\n"
    as_root = result_of(await farm.finished(root))
    assert (as_root.exit_code, as_root.stdout_raw) == (0, b"0\n0\n")
    refused = await farm.finished(wrong)
    assert refused.status.code == 3
    assert "unixUID" in refused.status.message and "'root'" in refused.status.message


@pytest.mark.parametrize(
    ("program", "code"), [("no-such-program", 127), ("/no/such", 127), ("/etc/data", 126), ("--version", 127)]
)
async def test_what_cannot_be_started_ends_as_in_a_shell(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, program: str, code: int
) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.action([program], files={"etc/data": "x"})

    lease = await farm.finished(await farm.submit(action))

    assert (lease.status.code, result_of(lease).exit_code) == (0, code)
    assert program.encode() in result_of(lease).stderr_raw


async def test_paths_of_the_machine_are_shown_on_request(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems, tmp_path: Path
) -> None:
    (tmp_path / "licence").write_text("for the compiler")
    shown = replace(sandbox, extra_paths=(str(tmp_path / "licence"), "/etc/passwd"))
    await start_bot(sandbox=shown)
    action = systems.shell(
        f"cat {tmp_path}/licence /etc/passwd",
        command=Command(output_directory_format=Command.DIRECTORY_ONLY, output_paths=["."]),
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert result.stdout_raw.startswith(b"for the compiler") and b"root:" in result.stdout_raw
    root = Directory.FromString(farm.cas.get(result.output_directories[0].root_directory_digest))
    assert not {node.name for node in root.directories} & {"etc", "tmp"}


async def test_an_input_in_the_way_of_a_mount_is_named(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, systems: Systems
) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(systems.shell("true", files={"proc": "a file"})))

    assert lease.status.code == 3
    assert "/proc" in lease.status.message and "in the way" in lease.status.message
