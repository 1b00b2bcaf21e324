"""Actions that mean harm, or are broken: the bot says so in their status, and takes the next one."""

from pathlib import Path

import pytest
from buildgrid_bot.sandbox import Sandbox
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    Command,
    Digest,
    Directory,
    Tree,
)
from buildgrid_protos.google.devtools.remoteworkers.v1test2.bots_pb2 import Lease

from tests.farm.input_trees import bomb, chain, directory
from tests.integration.bot.conftest import StartBot
from tests.integration.bot.fake_farm import FakeFarm, result_of

INVALID_ARGUMENT = 3
X = digest_of(b"x")


@pytest.fixture(params=["best", "none"])
def sandbox(request: pytest.FixtureRequest, best_sandbox: Sandbox) -> Sandbox:
    return best_sandbox if request.param == "best" else Sandbox()


def with_root(farm: FakeFarm, root: Digest, script: str = "true", outputs: tuple[str, ...] = ()) -> Action:
    """A shell script in an input root of its own."""
    farm.cas.put(b"x")
    command = Command(arguments=["/bin/sh", "-c", script], output_paths=outputs)
    command.environment_variables.add(name="PATH", value="/usr/bin:/bin")
    return Action(command_digest=farm.cas.put(command), input_root_digest=root)


async def outcome(farm: FakeFarm, action: Action) -> Lease:
    """What becomes of the action, once the bot has shown that it goes on: with the next one, and no rest."""
    lease = await farm.finished(await farm.submit(action))
    after = await farm.finished(await farm.submit(farm.shell("echo well", files={"x": "x"})))
    assert result_of(after).stdout_raw == b"well\n"
    return lease


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc/evil", "../../evil"])
@pytest.mark.parametrize("kind", ["files", "directories", "symlinks"])
async def test_input_names_that_lead_elsewhere_are_refused(
    farm: FakeFarm, start_bot: StartBot, name: str, kind: str
) -> None:
    bot = await start_bot(sandbox=Sandbox())
    value = str(bot.cache_dir) if kind == "symlinks" else farm.cas.put(Directory())
    root = farm.cas.put(directory(**{kind: {name: value}}))  # type: ignore[arg-type]
    lease = await outcome(farm, with_root(farm, root))
    assert lease.status.code == INVALID_ARGUMENT
    assert repr(name) in lease.status.message
    assert list(bot.cache_dir.rglob("evil")) == []
    assert list((bot.cache_dir / "work").iterdir()) == []


@pytest.mark.parametrize("target", ["..", "/", "../../../outside", "loop"])
async def test_an_input_symlink_as_parent_of_an_output_stays_in_the_root_or_is_refused(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, target: str
) -> None:
    bot = await start_bot(sandbox=sandbox)
    outside = bot.cache_dir / "work" / "outside"
    outside.mkdir()
    root = farm.cas.put(directory(symlinks={"out": target, "loop": "loop"}))
    lease = await outcome(farm, with_root(farm, root, "echo x > out/made", ("out/made/below",)))
    assert lease.status.code == INVALID_ARGUMENT
    assert "'out'" in lease.status.message
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("target", ["..", "/", "loop"])
async def test_an_input_symlink_as_working_directory_is_refused_where_it_leads_out(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox, target: str
) -> None:
    await start_bot(sandbox=sandbox)
    action = farm.shell("pwd", symlinks={"work": target, "loop": "loop"}, working_directory="work")
    lease = await outcome(farm, action)
    assert lease.status.code == INVALID_ARGUMENT
    assert "'work'" in lease.status.message


async def test_a_working_directory_that_leaves_the_root_is_refused(
    farm: FakeFarm, start_bot: StartBot
) -> None:
    await start_bot()
    for path in ("..", "/tmp", "a/../../b"):
        lease = await outcome(farm, farm.shell("pwd", working_directory=path))
        assert lease.status.code == INVALID_ARGUMENT
        assert repr(path) in lease.status.message


async def test_symlink_loops_in_inputs_and_outputs_are_kept_and_end(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    await start_bot(sandbox=sandbox)
    links = {"in/loop": "loop", "in/up": "..", "in/ping": "pong", "in/pong": "ping"}
    script = (
        "rm -rf out; mkdir out; ln -s . out/self; ln -s .. out/up; ln -s loop out/loop; cat in/loop; true"
    )
    outputs = ["in", "in/loop", "out", "out/self", "out/loop/x", "out/up/out/up/out"]
    lease = await outcome(farm, farm.shell(script, symlinks=links, outputs=outputs))
    assert lease.status.code == 0
    result = result_of(lease)
    trees = {d.path: Tree.FromString(farm.cas.get(d.tree_digest)) for d in result.output_directories}
    assert {link.name: link.target for link in trees["in"].root.symlinks} == {
        "loop": "loop",
        "up": "..",
        "ping": "pong",
        "pong": "ping",
    }
    assert trees["out/up/out/up/out"] == trees["out"]
    assert {link.path: link.target for link in result.output_symlinks} == {"in/loop": "loop", "out/self": "."}


async def test_nineteen_hundred_levels_come_and_go(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    bot = await start_bot(sandbox=sandbox)
    blobs = chain(1900, directory({"f": farm.cas.put(b"deep")}))
    for blob in blobs:
        farm.cas.put(blob)
    script = f"cat {'d/' * 1900}f; echo more > {'d/' * 1900}g"
    lease = await outcome(farm, with_root(farm, digest_of(blobs[-1]), script, ("d",)))
    assert (lease.status.code, lease.status.message) == (0, "")
    assert result_of(lease).stdout_raw == b"deep"
    (output,) = result_of(lease).output_directories
    tree = Tree.FromString(farm.cas.get(output.tree_digest))
    assert len(tree.children) == 1899
    assert [file.name for file in tree.children[-1].files] == ["f", "g"]
    assert list((bot.cache_dir / "work").iterdir()) == []


async def test_inputs_that_are_nested_too_deeply_are_refused(farm: FakeFarm, start_bot: StartBot) -> None:
    bot = await start_bot()
    room = (4095 - len(str(bot.cache_dir / "work/1/root")) - 1) // 2
    for levels in (3000, room + 1):  # too deep anywhere, and too deep on this bot
        blobs = chain(levels, directory({"f": X}))
        for blob in blobs:
            farm.cas.put(blob)
        lease = await outcome(farm, with_root(farm, digest_of(blobs[-1])))
        assert lease.status.code == INVALID_ARGUMENT
        assert f"{2 * levels + 1} bytes long" in lease.status.message
    assert list((bot.cache_dir / "work").iterdir()) == []


async def test_outputs_that_are_nested_too_deeply_are_refused_and_removed(
    farm: FakeFarm, start_bot: StartBot, sandbox: Sandbox
) -> None:
    bot = await start_bot(sandbox=sandbox)
    name = "n" * 200
    script = f"for i in 1 2 3 4 5 6 7; do mkdir -p {'/'.join([name] * 3)}; cd {'/'.join([name] * 3)}; done"
    lease = await outcome(farm, farm.shell(script, outputs=[name]))
    assert lease.status.code == INVALID_ARGUMENT
    assert "nested too deeply" in lease.status.message
    assert list((bot.cache_dir / "work").iterdir()) == []


async def test_a_tree_of_a_billion_paths_is_refused(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    blobs = bomb(30, directory({"f": X}))
    for blob in blobs:
        farm.cas.put(blob)
    lease = await outcome(farm, with_root(farm, digest_of(blobs[-1])))
    assert lease.status.code == INVALID_ARGUMENT
    assert "more than 1000000 files" in lease.status.message


async def test_names_that_no_file_system_takes_are_refused(farm: FakeFarm, start_bot: StartBot) -> None:
    await start_bot()
    root = farm.cas.put(directory({"n" * 256: X}))
    lease = await outcome(farm, with_root(farm, root))
    assert lease.status.code == INVALID_ARGUMENT
    assert "longer than 255 bytes" in lease.status.message
    for path, expected in (("n" * 256, 0), ("n" * 256 + "/x", INVALID_ARGUMENT)):
        lease = await outcome(farm, farm.shell("true", outputs=[path]))
        assert lease.status.code == expected, lease.status.message


async def test_many_inputs_are_all_there(farm: FakeFarm, start_bot: StartBot, tmp_path: Path) -> None:
    bot = await start_bot()
    files: dict[str, bytes | str] = {
        f"{n % 100}/{n}": str(n % 2000) if n % 2 else f"shared {n % 10}" for n in range(20_000)
    }
    action = farm.shell("find . -type f | wc -l; cat 99/19999", files=files)
    lease = await farm.finished(await farm.submit(action))
    assert lease.status.code == 0, lease.status.message
    assert result_of(lease).stdout_raw == b"20000\n1999"
    assert list((bot.cache_dir / "work").iterdir()) == []
