"""What the figures were taken on and with."""

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Machine:
    cores: int
    cpu: str
    memory_gib: int
    system: str
    versions: dict[str, str]
    revision: str
    """Of the repository, `+` when something is not committed; empty outside one."""


def this_machine(postgres_version: str) -> Machine:
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        cpu=_cpu_model(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        system=f"{platform.system()} {platform.release()}",
        versions={
            "buildgrid-kubernetes": version("buildgrid-kubernetes"),
            "Python": platform.python_version(),
            "grpcio": version("grpcio"),
            "PostgreSQL": postgres_version,
        },
        revision=_revision(),
    )


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _revision() -> str:
    folder = Path(__file__).parent
    answers = [
        subprocess.run(["git", "-C", str(folder), *command], capture_output=True, text=True)
        for command in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain"])
    ]
    if any(answer.returncode for answer in answers):
        return ""
    return answers[0].stdout.strip() + ("+" if answers[1].stdout else "")
