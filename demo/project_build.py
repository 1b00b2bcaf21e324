"""Builds the C project on a farm through the project's own client: compile, link, test."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from buildgrid_client.remote_command import CommandResult, RemoteCommand, RemoteRunner
from buildgrid_client.tree import Input

from demo.build_plan import BuildPlan, Compile, Link

COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-std=c11", "-Wall", "-Wextra", "-O1", "-iquote", ".")
# Called after each finished action with how many are done, and with what was done.
Progress = Callable[[int, str], None]


class BuildFailed(Exception):
    """A command of the build failed. The text is for people: which one, and what it said."""


@dataclass
class BuildReport:
    """What one run of the build was like."""

    seconds: float = 0.0
    actions: int = 0
    cached: int = 0
    # Seconds each action waited for a bot; those from the cache did not wait.
    queued: list[float] = field(default_factory=list)
    # Actions by the bot that ran them.
    bots: Counter[str] = field(default_factory=Counter)
    test_output: str = ""

    def add(self, result: CommandResult) -> None:
        self.actions += 1
        if result.cached:
            self.cached += 1
            return
        self.queued.append(result.queued.total_seconds())
        self.bots[result.metadata.worker] += 1


def find_compiler() -> str | None:
    """The absolute path of a C compiler of this machine."""
    return next((path for name in COMPILERS if (path := shutil.which(name))), None)


class ProjectBuild:
    """The project at `project`, built by `compiler` (a path that is the same on the bots)."""

    def __init__(self, project: Path, plan: BuildPlan, compiler: str, runner: RemoteRunner) -> None:
        self._project = project
        self._plan = plan
        self._compiler = compiler
        self._runner = runner
        # The compiler driver looks for the assembler and the linker in PATH.
        self._environment = {"PATH": f"{Path(compiler).parent}:/usr/local/bin:/usr/bin:/bin"}

    async def run(self, progress: Progress) -> BuildReport:
        """Build and test everything; what can run at the same time does.

        Outputs stay in the CAS: what one action makes is an input of the next without passing through here.
        Raises BuildFailed, and the errors of the client.
        """
        report = BuildReport()
        start = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                compiles = [
                    group.create_task(self._action(self._compile(step), report, progress))
                    for step in self._plan.compiles
                ]
            objects: dict[str, Input] = {
                step.object: task.result().output_file(step.object)
                for step, task in zip(self._plan.compiles, compiles, strict=True)
            }
            async with asyncio.TaskGroup() as group:
                links = {
                    step.program: group.create_task(self._action(self._link(step, objects), report, progress))
                    for step in self._plan.links
                }
        except ExceptionGroup as failures:
            # One is enough to read; the others are its consequences, or just like it.
            raise failures.exceptions[0] from None
        name = self._plan.test_program
        program: dict[str, Input] = {name: links[name].result().output_file(name)}
        test = RemoteCommand([f"./{name}"], inputs=program, mnemonic="Test", target=name)
        tests = await self._action(test, report, progress)
        report.test_output = tests.stdout.decode(errors="replace").strip()
        report.seconds = time.monotonic() - start
        return report

    async def _action(self, command: RemoteCommand, report: BuildReport, progress: Progress) -> CommandResult:
        result = await self._runner.run(command)
        report.add(result)
        what = f"{command.mnemonic.lower()} {command.target}".strip()
        progress(report.actions, what)
        if result.exit_code != 0:
            said = (result.stderr or result.stdout).decode(errors="replace").strip()
            raise BuildFailed(f"{what} ended with exit code {result.exit_code}:\n{said or '(no output)'}")
        return result

    def _compile(self, step: Compile) -> RemoteCommand:
        inputs: dict[str, Input] = {path: self._project / path for path in (step.source, *step.headers)}
        return RemoteCommand(
            [self._compiler, *_FLAGS, "-c", step.source, "-o", step.object],
            environment=self._environment,
            inputs=inputs,
            output_paths=[step.object],
            mnemonic="Compile",
            target=step.source,
        )

    def _link(self, step: Link, objects: dict[str, Input]) -> RemoteCommand:
        return RemoteCommand(
            [self._compiler, "-o", step.program, *step.objects, "-lm"],
            environment=self._environment,
            inputs={path: objects[path] for path in step.objects},
            output_paths=[step.program],
            mnemonic="Link",
            target=step.program,
        )
