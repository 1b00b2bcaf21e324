"""Where a command runs: in namespaces of its own through bubblewrap, or plainly in its directory.

In the sandbox a command sees its inputs at /build, the system's programs and settings read-only, a /tmp,
/proc and /dev of its own, and no network unless the action's platform has the property `network` with a
value of `on`, `true` or `yes`. It sees no other process, holds no capability, and is user `nobody`.
"""

import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import Platform

_log = logging.getLogger(__name__)

NETWORK_PROPERTY = "network"
NETWORK_ON = frozenset({"on", "true", "yes"})
# One place for all actions, so that paths which compilers write into their outputs do not differ.
BUILD_DIRECTORY = "/build"
SYSTEM_PATHS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix/store")
_NOBODY = 65534
_PROBE_SECONDS = 10


@dataclass(frozen=True)
class Launch:
    """What to start:

    arguments, and options of bubblewrap that are too many for a command line (NUL-separated).
    """

    arguments: list[str]
    directory: Path
    environment: dict[str, str]
    sandbox_options: bytes | None = None


@dataclass(frozen=True)
class Sandbox:
    """`bwrap` is the path of bubblewrap, None for plain execution; `extra_paths` are seen read-only too."""

    bwrap: str | None = None
    env: str = "/usr/bin/env"
    extra_paths: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`bubblewrap` or `none`, as on the command line and in the bot's properties."""
        return "bubblewrap" if self.bwrap else "none"

    def launch(
        self,
        *,
        root: Path,
        working_directory: str,
        private_tmp: Path,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        network: bool,
    ) -> Launch:
        """How to start a command whose inputs are in `root`. The working directory is relative to it."""
        if self.bwrap is None:
            return Launch(list(arguments), root / working_directory, dict(environment))
        options = [
            *_isolation(network),
            *system_mounts(SYSTEM_PATHS),
            *("--bind", str(root), BUILD_DIRECTORY),
            *("--bind", str(private_tmp), "/tmp"),  # noqa: S108 - the command's own
            *system_mounts(self.extra_paths),  # last, because they may lie below /tmp
            *("--chdir", str(Path(BUILD_DIRECTORY, working_directory))),
            "--clearenv",
        ]
        for name, value in environment.items():
            options += ["--setenv", name, value]
        command = list(arguments)
        if "=" not in command[0]:
            # bubblewrap sets PWD whatever it is told; env takes it away again, or sets what the command
            # wants.
            own = ["-u", "PWD"] if "PWD" not in environment else [f"PWD={environment['PWD']}"]
            command = [self.env, *own, *command]
        return Launch(command, root, {}, b"".join(os.fsencode(option) + b"\0" for option in options))


def wants_network(platform: Platform) -> bool:
    """Whether the platform asks for the network: property `network`, value on, true or yes."""
    return any(item.name == NETWORK_PROPERTY and item.value in NETWORK_ON for item in platform.properties)


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


def find_sandbox(wanted: str, extra_paths: Sequence[str] = ()) -> Sandbox:
    """The sandbox that `wanted` (auto, bubblewrap or none) means on this machine, tried out.

    Raises RuntimeError with the reason when bubblewrap is demanded but does not work here.
    """
    if wanted == "none":
        return Sandbox()
    bwrap = shutil.which("bwrap")
    problem = "no program bwrap on PATH (package bubblewrap)" if bwrap is None else None
    if bwrap is not None:
        sandbox = Sandbox(bwrap, shutil.which("env") or "/usr/bin/env", tuple(extra_paths))
        problem = probe(sandbox)
        if problem is None:
            return sandbox
    if wanted == "bubblewrap":
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
                    [str(sandbox.bwrap), "--args", str(options.fileno()), *launch.arguments],
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


def _isolation(network: bool) -> list[str]:
    return [
        "--die-with-parent",
        *("--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"),
        *(() if network else ("--unshare-net",)),
        *("--uid", str(_NOBODY), "--gid", str(_NOBODY), "--cap-drop", "ALL"),
        *("--hostname", "localhost"),
        *("--proc", "/proc", "--dev", "/dev"),
    ]
