"""A bot that is installed into a volume runs where there is no Python, no shell and no C library."""

import asyncio
import os
import shutil
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from buildgrid_client.digests import digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    Action,
    ActionResult,
    Command,
    Directory,
)

from tests.farm.clients import Client
from tests.farm.database import Databases, drop_database
from tests.farm.foreign_image import USER, VOLUME, ForeignImage, kill, terminate
from tests.farm.replica import Replica
from tests.farm.small_disk import small_disk
from tests.farm.system_root import write_system

# One process makes the bot and the server, which all tests here use.
pytestmark = [pytest.mark.xdist_group("install"), pytest.mark.timeout(240)]

IMAGES = Path(__file__).parents[3] / "images"
BOT = f"{VOLUME}/bin/buildgrid-bot"
# The only program of an image with nothing else in it.
SHOUT = r"""
#include <ctype.h>
#include <stdio.h>
#include <unistd.h>
extern char **environ;
int main(void) {
  FILE *in = fopen("greeting", "r"), *out = fopen("answer", "w");
  for (int c; (c = getc(in)) != EOF;) putc(toupper(c), out);
  for (char **each = environ; *each; each++) puts(*each);
  return access("/bin/sh", F_OK) == 0 || access("/lib", F_OK) == 0;
}
"""
# What an image may say of its own Python and libraries, and of nobody else's.
MISLEADING = {
    "PATH": "/usr/bin",
    "LD_PRELOAD": "/usr/lib/libjemalloc.so",
    "LD_LIBRARY_PATH": "/opt/toolchain/lib",
    "PYTHONHOME": "/opt/python",
    "PYTHONPATH": "/opt/python/site-packages",
    "LC_ALL": "de_DE.ISO-8859-1",
}


def compile_static(source: Path, program: Path) -> None:
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (Debian: apt-get install gcc libc6-dev)")
    command = ["cc", "-Os", "-static", "-Wall", "-Wextra", "-Werror", "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if "cannot find -lc" in done.stderr:
        pytest.skip("no C library to link statically (Fedora: dnf install glibc-static)")
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Given up afterwards: pytest would keep hundreds of megabytes."""
    folder = tmp_path_factory.mktemp("install")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """Where a test may install the bot; nor is this kept."""
    target = tmp_path / "made" / "volume"
    yield target
    shutil.rmtree(target)


@pytest.fixture(scope="module")
def source(folder: Path) -> Path:
    """The bot as its image holds it, made of what runs this test."""
    launcher, source = folder / "launcher", folder / "source"
    compile_static(IMAGES / "bot" / "launcher.c", launcher)
    bwrap = shutil.which("bwrap")
    subprocess.run(
        [
            *(sys.executable, str(IMAGES / "bot" / "assemble.py"), "--launcher", str(launcher)),
            *("--requirements", str(IMAGES / "bot.in"), *(("--bwrap", bwrap) if bwrap else ()), str(source)),
        ],
        check=True,
    )
    return source


def install(source: Path, to: Path, *, umask: int = -1) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(source / "bin" / "buildgrid-bot"), "install", "--to", str(to)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        umask=umask,
    )


@pytest.fixture(scope="module")
def volume(source: Path, folder: Path) -> Path:
    """Where the bot was installed, by a user with habits of its own; it now is somebody else's."""
    volume = folder / "volume"
    done = install(source, volume, umask=0o077)
    assert done.returncode == 0, done.stderr
    volume.chmod(0o777)  # as kubelets make an emptyDir
    if os.getuid() == 0:
        for path in (volume, *volume.rglob("*")):
            os.lchown(path, 12345, 12345)
    return volume


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Replica]:
    databases = Databases()
    database = databases.create()
    server = Replica(folder / "server", database)
    yield server.start()
    server.close()
    drop_database(database)
    databases.close()


@pytest.fixture
def empty_image(folder: Path, volume: Path, tmp_path: Path) -> ForeignImage:
    """It has one program, which is static."""
    root = folder / "empty"
    if not root.exists():
        root.mkdir()
        (folder / "shout.c").write_text(SHOUT)
        compile_static(folder / "shout.c", root / "shout")
    return ForeignImage(root, volume, tmp_path / "cache")


@pytest.fixture
def small_image(folder: Path, volume: Path, tmp_path: Path) -> ForeignImage:
    """It has a shell, and a C library where this machine has it."""
    root = folder / "small"
    if not root.exists():
        write_system(root, ("cat", "env", "sh", "true"))
    return ForeignImage(root, volume, tmp_path / "cache")


@asynccontextmanager
async def running(image: ForeignImage, server: Replica, name: str, *more: str) -> AsyncIterator[Process]:
    """A bot in the image, with settings in its environment that are not for it."""
    log = image.cache.with_name("log")
    with log.open("wb") as stderr:
        bot = await asyncio.create_subprocess_exec(
            *image.command(
                *(BOT, "run", "--endpoint", f"grpc://{server.endpoint}", "--cache-dir", "/cache/bot"),
                *("--bot-id", name, "--property", f"Pool={name}", *more),
                environment=MISLEADING,
            ),
            stderr=stderr,
        )
    try:
        yield bot
    finally:
        print(log.read_text())
        if bot.returncode is None:
            kill(bot.pid)
        await bot.wait()


async def while_alive(bot: Process, execution: Awaitable[ActionResult]) -> ActionResult:
    """What is awaited; an error as soon as the bot is gone."""
    ended, executed = asyncio.ensure_future(bot.wait()), asyncio.ensure_future(execution)
    await asyncio.wait([ended, executed], return_when=asyncio.FIRST_COMPLETED)
    assert not ended.done(), f"the bot has ended with {bot.returncode}"
    ended.cancel()
    return await executed


async def execute(
    server: Replica, pool: str, *arguments: str, environment: dict[str, str] | None = None
) -> ActionResult:
    """The result of a command in the bot of this pool. Its input is `greeting`, its output `answer`."""
    async with server.open_channel() as channel:
        client = Client(channel)
        root = Directory()
        root.files.add(name="greeting", digest=digest_of(b"hello"))
        command = Command(arguments=arguments, output_paths=["answer"])
        for name, value in sorted((environment or {}).items()):
            command.environment_variables.add(name=name, value=value)
        command.platform.properties.add(name="Pool", value=pool)
        parts = [command.SerializeToString(deterministic=True), root.SerializeToString(deterministic=True)]
        command_digest, root_digest, _ = await client.upload(*parts, b"hello")
        action = Action(
            command_digest=command_digest, input_root_digest=root_digest, platform=command.platform
        )
        (digest,) = await client.upload(action.SerializeToString(deterministic=True))
        answer = await (await client.queue(digest)).response(120)
    assert answer.status.code == 0, answer.status
    return answer.result


def outputs(result: ActionResult) -> dict[str, str]:
    return {file.path: file.digest.hash for file in result.output_files}


async def test_an_image_with_nothing_but_a_static_program_is_the_environment_of_actions(
    empty_image: ForeignImage, server: Replica
) -> None:
    async with running(empty_image, server, "empty", "--sandbox", "none") as bot:
        result = await while_alive(
            bot, execute(server, "empty", "/shout", environment={"LANG": "C", "MINE": "yes"})
        )
        assert result.exit_code == 0, "the image has more in it than it should"
        assert result.stdout_raw == b"LANG=C\nMINE=yes\n", "only what the action says is in its environment"
        assert outputs(result) == {"answer": digest_of(b"HELLO").hash}
        terminate(bot.pid)
        assert await asyncio.wait_for(bot.wait(), 60) == 0


@pytest.mark.parametrize("sandbox", ["bubblewrap", "none"])
async def test_actions_use_the_programs_of_an_image_without_python(
    small_image: ForeignImage, server: Replica, sandbox: str
) -> None:
    if sandbox == "bubblewrap" and not (small_image.volume / "bin" / "bwrap").exists():
        pytest.skip("bubblewrap is not installed here (Debian: apt-get install bubblewrap)")
    name = f"small-{sandbox}"
    async with running(small_image, server, name, "--sandbox", sandbox) as bot:
        script = "cat greeting > answer; echo $0; command -v python3; env"
        shell = ("/bin/sh", "-c", script, "shell")
        result = await while_alive(bot, execute(server, name, *shell, environment={"PATH": "/usr/bin"}))
        assert result.exit_code == 0, result
        said = result.stdout_raw.decode().splitlines()
        assert said[0] == "shell"
        # Those that the shell itself sets.
        assert {line for line in said[1:] if line.split("=")[0] not in ("PWD", "OLDPWD", "_", "SHLVL")} == {
            "PATH=/usr/bin"
        }
        assert outputs(result) == {"answer": digest_of(b"hello").hash}


def test_settings_of_the_image_are_not_taken(empty_image: ForeignImage) -> None:
    assert empty_image.run(BOT, "--version", environment=MISLEADING).startswith("buildgrid-bot ")
    assert empty_image.run(BOT, "--version").startswith("buildgrid-bot "), "and none are needed"


def test_the_bot_is_found_by_links_and_on_path(small_image: ForeignImage) -> None:
    link = small_image.root / "usr" / "bin" / "buildgrid-bot"
    link.unlink(missing_ok=True)
    link.symlink_to(BOT)
    found = small_image.run("/bin/sh", "-c", "buildgrid-bot --version", environment={"PATH": "/usr/bin"})
    assert found.startswith("buildgrid-bot ")


def contents(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): path.read_bytes() if path.is_file() else None
        for path in directory.rglob("*")
    }


def test_installing_again_makes_it_whole(source: Path, target: Path) -> None:
    first = install(source, target)
    assert first.returncode == 0, first.stderr
    (target / "lib" / "libc.so.6").write_bytes(b"cut off")
    (target / "app" / "left_over.py").touch()
    shutil.rmtree(target / "python")
    (target / "lost+found").mkdir()

    second = install(source, target)

    assert second.returncode == 0, second.stderr
    (target / "lost+found").rmdir()
    wanted = contents(source)
    assert contents(target) == wanted
    files = sum(content is not None for content in wanted.values())
    mebibytes = round(sum(map(len, filter(None, wanted.values()))) / 2**20)
    assert f" is in {target}: {files} files, {mebibytes} MiB, " in second.stdout


def test_what_is_installed_installs_itself(volume: Path, source: Path, target: Path) -> None:
    assert install(volume, target).returncode == 0
    assert contents(target) == contents(source)


def test_everybody_may_read_and_run_what_is_installed(volume: Path) -> None:
    modes = {path.stat().st_mode & 0o777 for path in volume.rglob("*")}
    assert modes == {0o755, 0o644}


def test_a_directory_of_somebody_else_is_left_alone(source: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "precious").touch()
    done = install(source, tmp_path)
    assert done.returncode == 1
    assert f"--to: {tmp_path} holds bin, and not of a bot; give an empty directory" in done.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["bin", "precious"]


@pytest.mark.parametrize("where", ["", "app/buildgrid_bot", "further"])
def test_it_does_not_install_into_itself(source: Path, where: str) -> None:
    done = install(source, source / where)
    assert done.returncode == 1
    assert "is where this bot itself is" in done.stderr


def test_a_file_is_no_directory(source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = install(source, tmp_path / "file")
    assert done.returncode == 1
    assert done.stderr == f"buildgrid-bot install: --to: {tmp_path / 'file'} is not a directory; give one\n"


def test_a_full_disk_is_told_with_what_is_needed(source: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "volume", 16) as volume:
        done = install(source, volume)
        assert done.returncode == 1
        assert f"--to: no space left for {volume}: the bot takes " in done.stderr
        assert "enlarge the volume, or its sizeLimit" in done.stderr


def test_a_volume_that_may_not_be_written_is_told_with_the_user(empty_image: ForeignImage) -> None:
    done = subprocess.run(
        empty_image.command(BOT, "install", "--to", "/elsewhere"),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    user = USER if os.getuid() == 0 else 0
    assert f"--to: user {user} may not write to /elsewhere: " in done.stderr
    assert "mount a volume there that this user may write" in done.stderr


def test_a_bot_that_needs_the_python_of_its_machine_is_not_copied(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "buildgrid_bot", "install", "--to", str(tmp_path / "volume")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "use the one of the bot's image" in done.stderr
    assert not (tmp_path / "volume").exists()
