"""What the REAPI text asks of whoever executes: the bot, run for real."""

import asyncio
from datetime import timedelta

import pytest
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Command, Tree

from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of

SCRIPT = "#!/bin/sh\necho $0\n"


async def test_a_relative_program_is_found_from_the_working_directory(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    action = farm.action(
        ["./tool"],
        files={"pkg/tool": SCRIPT},
        executables=frozenset({"pkg/tool"}),
        working_directory="pkg",
    )
    result = result_of(await farm.finished(await farm.submit(action)))
    assert (result.exit_code, result.stdout_raw) == (0, b"./tool\n")


@pytest.mark.parametrize(("path", "code"), [("/usr/bin:/bin", 0), ("/nowhere", 127)])
async def test_a_bare_program_is_looked_up_in_the_path_of_the_command(
    farm: FakeFarm, start_bot: StartBot, path: str, code: int
) -> None:
    await start_bot()
    action = farm.action(["sh", "-c", "exit 0"], environment={"PATH": path})
    assert result_of(await farm.finished(await farm.submit(action))).exit_code == code


async def test_what_is_not_named_as_output_is_discarded(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    action = farm.shell("echo 1 > wanted; echo 2 > other; mkdir d; echo 3 > d/f", outputs=["wanted"])
    result = result_of(await farm.finished(await farm.submit(action)))
    assert [file.path for file in result.output_files] == ["wanted"]
    assert not result.output_directories
    assert b"2\n" not in farm.cas.blobs.values()


async def test_parents_of_outputs_are_there_and_the_outputs_themselves_are_not(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    action = farm.shell(
        "test -d a/b && test ! -e a/b/c && test -d ../top && test ! -e ../top/d",
        files={"pkg/in": "x"},
        working_directory="pkg",
        outputs=["a/b/c", "../top/d"],
    )
    assert result_of(await farm.finished(await farm.submit(action))).exit_code == 0


async def test_an_output_is_told_by_what_it_turned_out_to_be(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    action = farm.shell(
        "echo x > file; mkdir dir; echo y > dir/y; ln -s dir link; ln -s nowhere dangling",
        outputs=["dangling", "dir", "file", "link", "never"],
    )
    result = result_of(await farm.finished(await farm.submit(action)))
    assert [file.path for file in result.output_files] == ["file"]
    assert [directory.path for directory in result.output_directories] == ["dir"]
    links = {link.path: link.target for link in result.output_symlinks}
    assert links == {"link": "dir", "dangling": "nowhere"}
    assert not result.output_file_symlinks and not result.output_directory_symlinks


@pytest.mark.parametrize(
    ("directory_format", "tree", "root"),
    [
        (Command.TREE_ONLY, True, False),
        (Command.DIRECTORY_ONLY, False, True),
        (Command.TREE_AND_DIRECTORY, True, True),
    ],
)
async def test_directories_come_in_the_format_that_was_asked_for(
    farm: FakeFarm,
    start_bot: StartBot,
    directory_format: Command.OutputDirectoryFormat.ValueType,
    tree: bool,
    root: bool,
) -> None:
    await start_bot()
    command = Command(output_directory_format=directory_format)
    action = farm.shell("mkdir -p out/sub; echo x > out/sub/f", outputs=["out"], command=command)
    (output,) = result_of(await farm.finished(await farm.submit(action))).output_directories
    assert output.HasField("tree_digest") is tree
    assert output.HasField("root_directory_digest") is root
    if tree:
        told = Tree.FromString(farm.cas.get(output.tree_digest))
        assert [node.name for node in told.root.directories] == ["sub"]
        assert [node.name for node in told.children[0].files] == ["f"]


async def test_two_runs_of_one_action_tell_the_same_outputs(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    action = farm.shell("for n in c a b; do mkdir -p out/$n; echo $n > out/$n/f; done", outputs=["out"])
    first, second = [
        result_of(await farm.finished(await farm.submit(action))).output_directories[0] for _ in range(2)
    ]
    assert first == second


async def test_executable_inputs_are_executable_and_others_are_not(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    action = farm.shell(
        "test -x tool && test ! -x data; echo $?",
        files={"tool": SCRIPT, "data": "x"},
        executables=frozenset({"tool"}),
    )
    assert result_of(await farm.finished(await farm.submit(action))).stdout_raw == b"0\n"


async def test_old_output_files_that_are_directories_come_as_directories(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    command = Command(output_files=["out"])
    action = farm.shell("mkdir out; echo x > out/f", command=command)
    lease = await farm.finished(await farm.submit(action))
    assert lease.status.code == 0
    assert [directory.path for directory in result_of(lease).output_directories] == ["out"]


async def test_the_virtual_duration_is_that_of_the_command_alone(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    farm.cas.called.clear()
    farm.cas.open.clear()
    job = await farm.submit(farm.shell("sleep 0.2", files={"in": "comes late"}))
    await asyncio.wait_for(farm.cas.called.wait(), 20)
    asyncio.get_running_loop().call_later(0.4, farm.cas.open.set)
    metadata = result_of(await farm.finished(job)).execution_metadata
    duration = metadata.virtual_execution_duration.ToTimedelta()
    began, ended = metadata.worker_start_timestamp, metadata.worker_completed_timestamp
    assert duration >= timedelta(seconds=0.2)
    assert duration + timedelta(seconds=0.3) < ended.ToDatetime() - began.ToDatetime()


async def test_node_properties_are_neither_applied_nor_told(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    command = Command(output_node_properties=["mtime", "unix_mode"])
    action = farm.shell("echo x > out", outputs=["out"], command=command)
    (file,) = result_of(await farm.finished(await farm.submit(action))).output_files
    assert not file.HasField("node_properties")
