"""Where a command runs: in namespaces of its own through bubblewrap, or plainly in its directory.

In the sandbox a command sees a /tmp, /proc and /dev of its own, and no network unless the action's platform
has the property `network` with a value of `on`, `true` or `yes`. It sees no other process, holds no
capability, and is user `nobody`, or whom the properties `unixUID` and `unixGID` name.

Its `/` is one of two. `system`: the machine's programs and settings, read-only, and the inputs at /build;
for clients that expect tools on the worker. `input`: the input root, writable, and nothing of the machine;
for clients that send a whole system (BuildStream).
"""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform

from buildgrid_bot.errors import InvalidAction
from buildgrid_bot.mount_points import TMP, MountPoints

_log = logging.getLogger(__name__)

NETWORK_PROPERTY = "network"
NETWORK_ON = frozenset({"on", "true", "yes"})
# One place for all actions, so that paths which compilers write into their outputs do not differ.
BUILD_DIRECTORY = "/build"
SYSTEM_PATHS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store")
USER_PROPERTY, GROUP_PROPERTY = "unixUID", "unixGID"
_NOBODY = 65534
_HIGHEST_ID = (1 << 32) - 2  # the one above means "no change", chown(2)
_PROBE_SECONDS = 10


class Root(StrEnum):
    """What an action's `/` is; the values are those of the command line."""

    SYSTEM = "system"
    INPUT = "input"


@dataclass(frozen=True)
class User:
    """Who a command is within its sandbox. Outside it is whoever runs the bot."""

    uid: int = _NOBODY
    gid: int = _NOBODY


@dataclass(frozen=True)
class Launch:
    """What to start:

    arguments, and options of bubblewrap that are too many for a command line (NUL-separated). `mount_points`
    are to be removed from the root after the command, before its outputs are looked at.
    """

    arguments: list[str]
    directory: Path
    environment: dict[str, str]
    sandbox_options: bytes | None = None
    mount_points: MountPoints | None = None


@dataclass(frozen=True)
class Sandbox:
    """`bwrap` is the path of bubblewrap, None for plain execution; `extra_paths` are seen read-only too.

    `root` is `system` for plain execution.
    """

    bwrap: str | None = None
    env: str = "/usr/bin/env"
    extra_paths: tuple[str, ...] = ()
    root: Root = Root.SYSTEM

    @property
    def name(self) -> str:
        """`bubblewrap` or `none`, as on the command line and in the bot's properties."""
        return "bubblewrap" if self.bwrap else "none"

    @property
    def chroot(self) -> bool:
        """Whether the input root is the action's `/`."""
        return self.root is Root.INPUT

    def launch(
        self,
        *,
        root: Path,
        working_directory: str,
        private_tmp: Path | None,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        network: bool,
        user: User = User(),
    ) -> Launch:
        """How to start a command whose inputs are in `root`. The working directory is relative to it.

        `private_tmp` becomes its /tmp; without one, that of the root is, where the root is the action's `/`.
        Raises InvalidAction where an input is in the way of what has to be mounted.
        """
        if self.bwrap is None:
            return Launch(list(arguments), root / working_directory, dict(environment))
        points = MountPoints(root) if self.chroot else None
        options = [
            *_isolation(network, user),
            *(
                self._system_view(root, private_tmp)
                if points is None
                else self._input_view(root, private_tmp, points)
            ),
            *("--chdir", str(Path("/" if self.chroot else BUILD_DIRECTORY, working_directory))),
            "--clearenv",
        ]
        for name, value in environment.items():
            options += ["--setenv", name, value]
        command = list(arguments)
        if not self.chroot and "=" not in command[0]:
            # bubblewrap sets PWD whatever it is told; env takes it away again, or sets what the command
            # wants. An input root need not have an env, so that there PWD stays, and is right.
            own = ["-u", "PWD"] if "PWD" not in environment else [f"PWD={environment['PWD']}"]
            command = [self.env, *own, *command]
        packed = b"".join(os.fsencode(option) + b"\0" for option in options)
        return Launch(command, root, {}, packed, points)

    def _system_view(self, root: Path, private_tmp: Path | None) -> list[str]:
        return [
            *("--proc", "/proc", "--dev", "/dev"),
            *system_mounts(SYSTEM_PATHS),
            *("--bind", str(root), BUILD_DIRECTORY),
            *(() if private_tmp is None else ("--bind", str(private_tmp), f"/{TMP}")),
            *system_mounts(self.extra_paths),  # last, because they may lie below /tmp
        ]

    def _input_view(self, root: Path, private_tmp: Path | None, points: MountPoints) -> list[str]:
        options = ["--bind", str(root), "/"]
        options += ["--proc", points.make("/proc"), "--dev", points.make("/dev")]
        if private_tmp is not None:
            options += ["--bind", str(private_tmp), points.make(f"/{TMP}")]
        for path in dict.fromkeys(self.extra_paths):
            # What is mounted on the private /tmp is not in the root.
            hidden = private_tmp is not None and Path(path).is_relative_to(f"/{TMP}")
            where = path if hidden else points.make(path, directory=Path(path).is_dir())
            options += ["--ro-bind", path, where]
        return options


def wants_network(platform: Platform) -> bool:
    """Whether the platform asks for the network: property `network`, value on, true or yes."""
    return any(item.name == NETWORK_PROPERTY and item.value in NETWORK_ON for item in platform.properties)


def wanted_user(platform: Platform) -> User:
    """Who the platform asks the command to be; `nobody` where it does not say.

    Raises InvalidAction for what is no user or group number.
    """
    ids = {USER_PROPERTY: _NOBODY, GROUP_PROPERTY: _NOBODY}
    for item in platform.properties:
        if item.name in ids:
            if not (item.value.isascii() and item.value.isdecimal() and int(item.value) <= _HIGHEST_ID):
                raise InvalidAction(
                    f"platform property {item.name} is {item.value!r}, must be a number up to {_HIGHEST_ID}"
                )
            ids[item.name] = int(item.value)
    return User(ids[USER_PROPERTY], ids[GROUP_PROPERTY])


def system_mounts(paths: Sequence[str]) -> list[str]:
    """Options that show the machine's own programs read-only;

    /bin and /lib stay the symlinks that they often are.
    """
    options: list[str] = []
    for path in dict.fromkeys(paths):
        if Path(path).is_symlink():
            options += ["--symlink", str(Path(path).readlink()), path]
        elif Path(path).exists():
            options += ["--ro-bind", path, path]
    return options


def find_sandbox(wanted: str, extra_paths: Sequence[str] = (), root: Root = Root.SYSTEM) -> Sandbox:
    """The sandbox that `wanted` (auto, bubblewrap or none) means on this machine, tried out.

    Raises RuntimeError with the reason when bubblewrap is demanded, or needed for the root, but does not work
    here.
    """
    if wanted == "none":
        if root is Root.INPUT:
            raise RuntimeError("an input root becomes an action's / only in a sandbox")
        return Sandbox()
    bwrap = shutil.which("bwrap")
    problem = "no program bwrap on PATH (package bubblewrap)" if bwrap is None else None
    if bwrap is not None:
        sandbox = Sandbox(bwrap, shutil.which("env") or "/usr/bin/env", tuple(extra_paths))
        problem = probe(sandbox)
        if problem is None:
            return replace(sandbox, root=root)
    if wanted == "bubblewrap" or root is Root.INPUT:
        raise RuntimeError(problem)
    _log.warning("actions run without a sandbox: %s", problem)
    return Sandbox()


def probe(sandbox: Sandbox) -> str | None:
    """What keeps the sandbox from working, found out by running `true` in it; None when it works."""
    with tempfile.TemporaryDirectory(prefix="buildgrid-bot-probe-") as directory:
        root, private_tmp = Path(directory, "root"), Path(directory, "tmp")
        root.mkdir()
        private_tmp.mkdir()
        launch = sandbox.launch(
            root=root,
            working_directory="",
            private_tmp=private_tmp,
            arguments=["true"],
            environment={"PATH": os.defpath},
            network=False,
        )
        try:
            with tempfile.TemporaryFile() as options:
                options.write(launch.sandbox_options or b"")
                options.seek(0)
                done = subprocess.run(
                    [str(sandbox.bwrap), "--args", str(options.fileno()), "--", *launch.arguments],
                    pass_fds=[options.fileno()],
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=_PROBE_SECONDS,
                    check=False,
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
    if done.returncode:
        return done.stderr.decode(errors="replace").strip() or f"bwrap exited with {done.returncode}"
    return None


def _isolation(network: bool, user: User) -> list[str]:
    return [
        "--die-with-parent",
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if network else ("--unshare-net",)),
        *("--uid", str(user.uid), "--gid", str(user.gid), "--cap-drop", "ALL"),
        *("--hostname", "localhost"),
    ]
