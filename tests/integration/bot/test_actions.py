"""Actions as clients see them: run for real, from the fake's CAS and back."""

import json
from pathlib import Path

import pytest
from buildgrid_bot.sandbox import Sandbox
from buildgrid_client.digests import digest_of_message
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Command,
    Digest,
    Directory,
    ExecutedActionMetadata,
    Tree,
)
from buildgrid_protos.build.buildbox.execution_stats_pb2 import ExecutionStatistics
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import PENDING, Lease
from google.protobuf.any_pb2 import Any
from google.rpc.error_details_pb2 import PreconditionFailure

from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of


@pytest.fixture(params=["best", "none"])
def sandbox(request: pytest.FixtureRequest, best_sandbox: Sandbox) -> Sandbox:
    return best_sandbox if request.param == "best" else Sandbox()


async def test_a_command_turns_inputs_into_outputs(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell(
        "cat a/in.txt tool > out/sub/result; cp tool out/tool; echo said; echo warned >&2",
        files={"a/in.txt": "hello ", "tool": "tool"},
        executables=frozenset({"tool"}),
        outputs=["out/sub/result", "out/tool", "never"],
        environment={"PATH": "/usr/bin:/bin"},
    )

    lease = await farm.finished(await farm.submit(action))

    assert lease.status.code == 0
    result = result_of(lease)
    assert (result.exit_code, result.stdout_raw, result.stderr_raw) == (0, b"said\n", b"warned\n")
    outputs = {file.path: file for file in result.output_files}
    assert outputs.keys() == {"out/sub/result", "out/tool"}
    assert farm.cas.get(outputs["out/sub/result"].digest) == b"hello tool"
    assert not outputs["out/sub/result"].is_executable
    assert outputs["out/tool"].is_executable


async def test_metadata_tells_each_step_and_the_usage_of_the_command(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done")

    result = result_of(await farm.finished(await farm.submit(action)))

    metadata = result.execution_metadata
    assert metadata.worker == "bot"
    steps = [
        metadata.worker_start_timestamp,
        metadata.input_fetch_start_timestamp,
        metadata.input_fetch_completed_timestamp,
        metadata.execution_start_timestamp,
        metadata.execution_completed_timestamp,
        metadata.output_upload_start_timestamp,
        metadata.output_upload_completed_timestamp,
        metadata.worker_completed_timestamp,
    ]
    times = [step.ToNanoseconds() for step in steps]
    assert times == sorted(times) and times[0] > 0
    assert metadata.virtual_execution_duration.ToNanoseconds() > 0
    digest, packed, statistics = Digest(), Any(), ExecutionStatistics()
    assert metadata.auxiliary_metadata[0].Unpack(digest)
    packed.ParseFromString(farm.cas.get(digest))
    assert packed.Unpack(statistics)
    assert statistics.command_rusage.utime.ToNanoseconds() > 10_000_000, "the usage of the command itself"
    assert statistics.command_rusage.maxrss > 100


async def test_a_failing_command_is_a_result(farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(farm.shell("echo no >&2; exit 3")))

    assert lease.status.code == 0
    assert (result_of(lease).exit_code, result_of(lease).stderr_raw) == (3, b"no\n")


async def test_a_command_killed_by_a_signal_ends_as_in_a_shell(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(farm.shell("kill -SEGV $$")))

    assert (lease.status.code, result_of(lease).exit_code) == (0, 128 + 11)


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program", "./no-such-program"])
async def test_an_unknown_command_ends_as_in_a_shell(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, name: str
) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(farm.action([name])))

    assert (lease.status.code, result_of(lease).exit_code) == (0, 127)
    assert name.encode() in result_of(lease).stderr_raw


async def test_a_file_that_is_no_program_ends_as_in_a_shell(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)

    lease = await farm.finished(await farm.submit(farm.action(["./data"], files={"data": "x"})))

    assert (lease.status.code, result_of(lease).exit_code) == (0, 126)


async def test_the_environment_is_exactly_the_commands(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_BOT", "1")
    await start_bot(sandbox=sandbox)

    bare = await farm.submit(farm.action(["/usr/bin/env"], environment={"ONE": "a b", "TWO": ""}))
    own_pwd = await farm.submit(farm.action(["/usr/bin/env"], environment={"PWD": "/else"}))

    assert result_of(await farm.finished(bare)).stdout_raw == b"ONE=a b\nTWO=\n"
    assert result_of(await farm.finished(own_pwd)).stdout_raw == b"PWD=/else\n"


async def test_the_command_starts_in_its_working_directory(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell(
        "cat ../top.txt in.txt > out/x",
        files={"top.txt": "top ", "pkg/in.txt": "in"},
        working_directory="pkg",
        outputs=["out/x"],
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert [file.path for file in result.output_files] == ["out/x"]
    assert farm.cas.get(result.output_files[0].digest) == b"top in"


async def test_large_output_comes_as_blobs(farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell(
        "head -c 9000000 /dev/zero; head -c 100000 /dev/zero >&2; head -c 5000000 /dev/zero > big",
        outputs=["big"],
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert not result.stdout_raw and not result.stderr_raw
    assert farm.cas.get(result.stdout_digest) == bytes(9_000_000)
    assert farm.cas.get(result.stderr_digest) == bytes(100_000)
    assert farm.cas.get(result.output_files[0].digest) == bytes(5_000_000)


async def test_large_inputs_arrive_through_streams_that_are_resumed(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    farm.cas.cut_reads_after = 2 << 20
    action = farm.shell("cksum < big; cksum < small", files={"big": b"x" * 6_000_000, "small": b"y" * 10})

    result = result_of(await farm.finished(await farm.submit(action)))

    assert result.exit_code == 0
    assert b" 6000000" in result.stdout_raw
    assert farm.cas.calls.count("Read") == 2


async def test_directories_come_back_as_trees_with_their_symlinks(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell(
        "mkdir -p out/a/same out/b/same; echo x > out/a/same/f; echo x > out/b/same/f; ln -s ../a out/b/up;"
        "ln -s /absolute/path alone; mkdir out/empty",
        outputs=["out", "alone"],
        command=Command(output_directory_format=Command.TREE_AND_DIRECTORY),
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert [(link.path, link.target) for link in result.output_symlinks] == [("alone", "/absolute/path")]
    (output,) = result.output_directories
    assert output.path == "out" and output.is_topologically_sorted
    tree = Tree.FromString(farm.cas.get(output.tree_digest))
    assert [node.name for node in tree.root.directories] == ["a", "b", "empty"]
    assert len(tree.children) == 4, "the two equal directories are told once"
    seen = {digest.hash for digest in (node.digest for node in tree.root.directories)}
    for child in tree.children:
        assert digest_of_message(child).hash in seen, "parents come first"
        seen.update(node.digest.hash for node in child.directories)
    root = Directory.FromString(farm.cas.get(output.root_directory_digest))
    assert root == tree.root
    for node in root.directories:
        Directory.FromString(farm.cas.get(node.digest))


async def test_old_output_fields_are_understood(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    command = Command(output_files=["f", "l", "gone"], output_directories=["d/deep", "d/empty"])
    action = farm.shell("echo f > f; ln -s f l; echo x > d/deep/x", command=command)

    result = result_of(await farm.finished(await farm.submit(action)))

    assert [file.path for file in result.output_files] == ["f"]
    assert [link.path for link in result.output_file_symlinks] == ["l"]
    assert [link.path for link in result.output_symlinks] == ["l"]
    assert [directory.path for directory in result.output_directories] == ["d/deep", "d/empty"]
    empty = Tree.FromString(farm.cas.get(result.output_directories[1].tree_digest))
    assert empty == Tree(root=Directory()), "it was made beforehand"


async def test_symlinks_among_inputs_are_kept(farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell(
        "readlink dir/link; cat dir/link; readlink dangling",
        files={"dir/file": "content\n"},
        symlinks={"dir/link": "file", "dangling": "/no/where"},
    )

    result = result_of(await farm.finished(await farm.submit(action)))

    assert result.stdout_raw == b"file\ncontent\n/no/where\n"


async def test_outputs_behind_a_symlink_out_of_the_root_are_not_read(
    farm: FakeFarm, start_bot: StartBot, tmp_path: Path
) -> None:
    await start_bot(sandbox=Sandbox())
    (tmp_path / "secret").write_text("of the machine")
    action = farm.shell(f"rmdir out; ln -s {tmp_path} out", outputs=["out/secret"])

    result = result_of(await farm.finished(await farm.submit(action)))

    assert result.exit_code == 0
    assert not result.output_files


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x"])
async def test_paths_that_leave_the_root_are_refused_by_name(
    farm: FakeFarm, start_bot: StartBot, path: str
) -> None:
    await start_bot()

    lease = await farm.finished(await farm.submit(farm.shell("true", outputs=[path])))

    assert lease.status.code == 3
    assert path in lease.status.message


async def test_missing_blobs_are_named_so_that_clients_can_upload_them(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    action = farm.shell("true", files={"here": "1", "gone": "22", "dir/gone-too": "333"})
    del farm.cas.blobs[next(key for key in farm.cas.blobs if farm.cas.blobs[key] == b"22")]
    del farm.cas.blobs[next(key for key in farm.cas.blobs if farm.cas.blobs[key] == b"333")]

    lease = await farm.finished(await farm.submit(action))

    assert lease.status.code == 9
    failure = PreconditionFailure()
    assert lease.status.details[0].Unpack(failure)
    assert {violation.type for violation in failure.violations} == {"MISSING"}
    assert sorted(violation.subject[-2:] for violation in failure.violations) == ["/2", "/3"]
    assert all(violation.subject.startswith("blobs/") for violation in failure.violations)


async def test_a_lease_without_an_action_fails_alone(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    job = await farm.submit(farm.shell("true"))
    await farm.finished(job)
    strange = Lease(id="strange", state=PENDING)
    strange.payload.Pack(Digest())

    lease = await farm.finished(await farm.submit_lease(strange))

    assert lease.status.code == 3
    assert "Digest" in lease.status.message


async def test_partial_metadata_comes_with_the_report_that_it_runs(
    farm: FakeFarm, start_bot: StartBot, tmp_path: Path
) -> None:
    bot = await start_bot()
    job = await farm.submit(farm.shell("while :; do sleep 1; done"))
    await farm.active(job)

    assert job.partial is not None
    partial = ExecutedActionMetadata.FromString(job.partial)
    assert partial.worker == "bot"
    assert partial.HasField("execution_start_timestamp")
    assert not bot.task.done()


async def test_the_cas_may_be_away_for_a_while(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    farm.cas.failures = 3

    lease = await farm.finished(await farm.submit(farm.shell("echo back")))

    assert result_of(lease).stdout_raw == b"back\n"


async def test_inputs_are_read_only_and_the_cache_survives_those_who_force_their_way(
    farm: FakeFarm, start_bot: StartBot, best_sandbox: Sandbox
) -> None:
    await start_bot()
    files: dict[str, bytes | str] = {"small": "good", "large": b"good" * 100_000}
    honest = farm.shell("cksum < small; cksum < large; stat -c %a small large", files=files)
    before = result_of(await farm.finished(await farm.submit(honest)))
    rude = farm.shell("chmod u+w small large; echo bad > small; echo bad > large; true", files=files)
    polite = farm.shell("echo bad > small; echo bad > large", files=files)

    assert result_of(await farm.finished(await farm.submit(rude))).exit_code == 0
    refused = result_of(await farm.finished(await farm.submit(polite)))
    after = result_of(await farm.finished(await farm.submit(honest)))

    assert after.stdout_raw == before.stdout_raw
    assert b"444\n444\n" in after.stdout_raw
    if best_sandbox.bwrap:  # as root outside of the sandbox no mode keeps anybody from writing
        assert refused.exit_code != 0


async def test_what_a_command_sees_of_the_machine_is_what_the_probe_promised(
    farm: FakeFarm, start_bot: StartBot, best_sandbox: Sandbox, tmp_path: Path
) -> None:
    await start_bot()
    script = (
        "echo interfaces=$(tail -n +3 /proc/net/dev | cut -d: -f1 | sort | xargs);"
        f"echo outside=$(test -e {tmp_path} && echo seen);"
        "echo cwd=$(pwd); echo processes=$(ls /proc | grep -c '^[0-9]'); echo fds=$(ls /proc/$$/fd | xargs);"
        "echo write=$(touch /usr/x 2>/dev/null && echo yes)"
    )

    alone = await farm.submit(farm.shell(script))
    online = await farm.submit(farm.shell(script, platform={"network": "on"}))

    def told(raw: bytes) -> dict[str, str]:
        return dict(line.split("=", 1) for line in raw.decode().splitlines())

    seen = told(result_of(await farm.finished(alone)).stdout_raw)
    seen_online = told(result_of(await farm.finished(online)).stdout_raw)
    assert len(seen["fds"].split()) <= 4, f"only the standard streams are inherited: {json.dumps(seen)}"
    if best_sandbox.bwrap is None:
        assert seen["outside"] == "seen"
        return
    assert seen["interfaces"] == "lo"
    assert (seen["outside"], seen["write"], seen["cwd"]) == ("", "", "/build")
    assert int(seen["processes"]) < 10
    host = {line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]}
    assert set(seen_online["interfaces"].split()) == host
