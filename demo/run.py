"""A build farm on one machine, at work: starts it, builds a C project on it twice, and says what happened.

    python demo/run.py                    with the project's own client
    python demo/run.py --client bazel     with Bazel

Everything goes to demo-data/, which is deleted first. Ctrl-C stops it at any moment.
"""

import argparse
import asyncio
import fcntl
import os
import shlex
import shutil
import signal
import sys
from pathlib import Path
from types import FrameType

# Run as a script, Python looks in this folder alone; the modules are those of the folder above.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel
from buildgrid_client.errors import ClientError
from buildgrid_client.execution import ExecutionClient
from buildgrid_client.remote_command import RemoteRunner

from demo.bazel_client import (
    OVERRIDES_VARIABLE,
    BazelClient,
    BazelFailed,
    find_bazel,
    override_flags,
    override_problem,
)
from demo.build_plan import BuildPlan, plan_build
from demo.farm import Farm, FarmFailed
from demo.progress import Step
from demo.project_build import COMPILERS, BuildFailed, BuildReport, ProjectBuild, find_compiler

PROJECT = Path(__file__).parent / "project"
DATA = Path(os.path.relpath(Path(__file__).resolve().parent.parent / "demo-data"))
_BOTS = 2
# The whole build takes seconds; what takes longer than this will never end.
_BUILD_TIMEOUT_S = 180.0
_OUTAGE_TOLERANCE_S = 20.0
_WATCH_INTERVAL_S = 0.5


def main(argv: list[str] | None = None) -> int:
    """Run the demo; the exit code is 0 when everything was built and tested."""
    parser = argparse.ArgumentParser(description="Start a build farm and build a C project on it, twice.")
    parser.add_argument("--client", choices=("own", "bazel"), default="own", help="who asks for the build")
    args = parser.parse_args(argv)
    # Stopped by `kill` as by Ctrl-C: through the blocks that clean up.
    signal.signal(signal.SIGTERM, _interrupt)
    compiler, bazel = find_compiler(), find_bazel()
    if compiler is None:
        return _complain(
            f"no C compiler here (looked for {', '.join(COMPILERS)}); install one:\n"
            "  Debian, Ubuntu: apt-get install gcc libc6-dev\n"
            "  Fedora, RHEL:   dnf install gcc\n"
            "  macOS:          xcode-select --install (or brew install gcc)"
        )
    if args.client == "bazel" and bazel is None:
        return _complain(
            "neither bazel nor bazelisk is in PATH; install one:\n"
            "  Debian:         apt-get install bazel-bootstrap\n"
            "  macOS:          brew install bazelisk\n"
            "  anywhere:       npm install -g @bazel/bazelisk\n"
            "or leave out --client bazel (make demo)"
        )
    overrides = os.environ.get(OVERRIDES_VARIABLE)
    if args.client == "bazel" and (problem := override_problem(overrides)) is not None:
        return _complain(problem)
    with Path(__file__).open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return _complain(f"another demo runs here and uses {DATA}; wait for its end, or stop it")
        return _run_demo(args.client, compiler, bazel)


def _run_demo(client: str, compiler: str, bazel: str | None) -> int:
    shutil.rmtree(DATA, ignore_errors=True)
    if DATA.exists():
        return _complain(f"cannot delete {DATA}; do it by hand: chmod -R u+w {DATA} && rm -rf {DATA}")
    farm = Farm(DATA, bots=_BOTS)
    failure = None
    try:
        with Step("farm") as step:
            farm.start()
            step.done(f"server and {_BOTS} bots on {farm.endpoint}")
        if client == "bazel" and bazel is not None:
            _build_with_bazel(farm, bazel)
        else:
            asyncio.run(_build_with_own_client(farm, plan_build(PROJECT), compiler))
        farm.save_metrics()
    except (FarmFailed, BuildFailed, BazelFailed, ClientError, OSError) as error:
        failure = f"{error}\n  logs: {farm.logs}/"
    except KeyboardInterrupt:
        failure = "interrupted"
    finally:
        # Stopping takes seconds at most; a second Ctrl-C would leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        with Step("stop") as step:
            farm.stop()
            step.done("everything is stopped")
    if failure is not None:
        return _complain(failure)
    _say_next(farm)
    return 0


async def _build_with_own_client(farm: Farm, plan: BuildPlan, compiler: str) -> None:
    channel = open_channel(farm.endpoint)
    runner = RemoteRunner(
        CasClient(channel, outage_tolerance=_OUTAGE_TOLERANCE_S),
        ExecutionClient(channel, outage_tolerance=_OUTAGE_TOLERANCE_S, tool_name="demo"),
    )
    build = ProjectBuild(PROJECT, plan, compiler, runner)
    try:
        for name in ("first build", "second build"):
            with Step(name, plan.action_count) as step:
                report = await _watched(farm, build, step)
                step.done(*_describe(report))
    finally:
        await channel.close()


async def _watched(farm: Farm, build: ProjectBuild, step: Step) -> BuildReport:
    """One build, as long as all processes of the farm live."""
    running = asyncio.create_task(build.run(step.update))
    try:
        async with asyncio.timeout(_BUILD_TIMEOUT_S):
            while not running.done():
                await asyncio.wait([running], timeout=_WATCH_INTERVAL_S)
                if not running.done():
                    farm.check()
        return await running
    except TimeoutError:
        raise FarmFailed(
            f"the build was not done after {_BUILD_TIMEOUT_S:.0f} s; the end of {farm.log('bot-1')}:\n"
            f"{farm.log_tail('bot-1')}"
        ) from None
    finally:
        running.cancel()
        await asyncio.wait([running])


def _build_with_bazel(farm: Farm, bazel: str) -> None:
    client = BazelClient(bazel, PROJECT, DATA, farm.endpoint)
    try:
        for name in ("first build", "second build"):
            with Step(name) as step:
                report = client.run()
                farm.check()
                step.done(f"{report.remote} run remotely, {report.cached} from the cache ({report.summary})")
    finally:
        client.shutdown()


def _describe(report: BuildReport) -> list[str]:
    lines = [f"{report.actions} actions, {report.cached} of them from the cache; {report.test_output}"]
    if report.queued:
        mean = sum(report.queued) / len(report.queued)
        lines.append(f"waited for a bot {mean:.1f} s on average, {max(report.queued):.1f} s at most")
        lines.append(", ".join(f"{bot} ran {count}" for bot, count in sorted(report.bots.items())))
    return lines


def bazel_command(overrides: str | None) -> str:
    """What builds the project on a farm that stays; with folders in place of what Bazel cannot fetch."""
    flags = override_flags(overrides) if override_problem(overrides) is None else []
    words = ["bazel", "test", "//...", "--remote_executor=grpc://127.0.0.1:50051", *flags]
    return shlex.join(words)


def _say_next(farm: Farm) -> None:
    print(
        f"""
The first build ran every action on a bot; the second, from scratch, found the results in the cache.
  logs      {farm.logs}/
  metrics   {DATA / "metrics.txt"} (a server has them at http://127.0.0.1:9090/metrics)
  docs      docs/
Next, a farm that stays:
  .venv/bin/buildgrid-scheduler serve
  .venv/bin/buildgrid-bot run --endpoint grpc://127.0.0.1:50051 --slots 2
and work for it:
  .venv/bin/buildgrid-scheduler execute -- /bin/echo hello
  cd demo/project && {bazel_command(os.environ.get(OVERRIDES_VARIABLE))}"""
    )


def _complain(message: str) -> int:
    print(f"demo: {message}", file=sys.stderr)
    return 1


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
