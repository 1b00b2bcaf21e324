"""The images as pods under restricted Pod Security: an action from outside runs, everything ends in order."""

import json
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Kubectl
from tests.cluster.images.built import manifest, need, need_toolchain

pytestmark = pytest.mark.timeout(600)

EXECUTE = str(Path(sys.executable).with_name("buildgrid-scheduler"))
USER = 65532
# The grace period of a pod that names none. What takes longer to end is killed.
GRACE = timedelta(seconds=30)
ENDPOINT = "grpc://scheduler:50051"


@dataclass(frozen=True)
class Farm:
    """The pods of farm.yaml in a namespace of their own."""

    kubectl: Kubectl
    namespace: str

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl says; it must succeed."""
        return self.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=True, timeout=240).stdout

    def apply(self, file: str) -> None:
        """Create what is in a file beside this one."""
        text = manifest(file, ENDPOINT=ENDPOINT, CAS_ENDPOINT=ENDPOINT)
        self.run("apply", "-f", "-", stdin=text)

    def wait_until_ready(self, *pods: str) -> None:
        """Returns once the pods are Ready; tells why one is not."""
        waited = self.kubectl(
            *("-n", self.namespace, "wait", "--for=condition=Ready", "--timeout=180s"),
            *(f"pod/{pod}" for pod in pods),
            timeout=240,
        )
        if waited.returncode:
            logs = "\n".join(f"{pod}: {self.log(pod)}" for pod in pods)
            raise AssertionError(
                f"{waited.stderr}\n{self.run('get', 'pods')}\n{self.run('get', 'events')}\n{logs}"
            )

    def log(self, pod: str, *arguments: str) -> str:
        """What a pod has logged so far."""
        return self.kubectl("-n", self.namespace, "logs", pod, *arguments).stdout

    def in_pod(self, pod: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a pod."""
        return self.kubectl("-n", self.namespace, "exec", pod, "--", *command, timeout=120)

    def status(self, pod: str) -> dict[str, Any]:
        """The status of a pod's only container."""
        status: dict[str, Any] = json.loads(self.run("get", "pod", pod, "-o", "json"))["status"]
        found: dict[str, Any] = (status.get("containerStatuses") or [{}])[0]
        return found

    def wait_for_end(self, pod: str, restarts: int | None = None) -> dict[str, Any]:
        """How a pod's container ended: exitCode, finishedAt; `restarts`: after so many of them."""
        field, state = "{.status.containerStatuses[0].state.terminated.reason}", "state"
        if restarts is not None:
            field, state = "{.status.containerStatuses[0].restartCount}=" + str(restarts), "lastState"
        self.run("wait", f"pod/{pod}", f"--for=jsonpath={field}", "--timeout=120s")
        terminated: dict[str, Any] = self.status(pod)[state]["terminated"]
        return terminated

    @contextmanager
    def endpoint(self) -> Iterator[str]:
        """The scheduler's Service, reached from here."""
        forward = subprocess.Popen(
            ["kubectl", "-n", self.namespace, "port-forward", "service/scheduler", ":50051"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert forward.stdout is not None
        try:
            line = forward.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match, f"kubectl port-forward said {line!r}"
            yield f"grpc://127.0.0.1:{match[1]}"
        finally:
            forward.terminate()
            forward.wait()
            forward.stdout.close()

    def execute(self, pool: str, *command: str, flags: tuple[str, ...] = (), cwd: Path | None = None) -> Any:
        """Run a command on the farm; the result as `execute --json` tells it."""
        with self.endpoint() as endpoint:
            ended = subprocess.run(
                [
                    *(EXECUTE, "execute", "--endpoint", endpoint, "--property", f"Pool={pool}", "--json"),
                    *("--env", "PATH=/usr/bin:/bin", "--wait", "60", *flags, "--", *command),
                ],
                capture_output=True,
                text=True,
                cwd=cwd,
                timeout=180,
                check=False,
            )
        assert ended.stdout, ended.stderr
        return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def farm(kubectl: Kubectl, namespace: str) -> Farm:
    """PostgreSQL, a scheduler and a bot, ready, in a namespace that admits only restricted pods."""
    need("scheduler", "bot", "postgres")
    kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", check=True)
    farm = Farm(kubectl, namespace)
    farm.run("create", "secret", "generic", "database", f"--from-literal=password={secrets.token_hex(16)}")
    farm.apply("farm.yaml")
    farm.wait_until_ready("postgres", "scheduler", "bot")
    return farm


@pytest.mark.parametrize("pod", ["postgres", "scheduler", "bot"])
def test_runs_as_a_user_without_rights_on_a_read_only_root(farm: Farm, pod: str) -> None:
    assert farm.in_pod(pod, "id", "-u").stdout.strip() == str(USER)
    refused = farm.in_pod(pod, "touch", "/opt/x")
    assert refused.returncode and "Read-only file system" in refused.stderr
    assert farm.in_pod(pod, "cat", "/proc/1/comm").stdout.strip() == "tini"


def test_an_action_from_outside_runs_in_the_bot(farm: Farm, tmp_path: Path) -> None:
    (tmp_path / "greeting").write_text("hello")
    command = "cat greeting > answer; hostname; id -u"
    result = farm.execute(
        "bot", "sh", "-c", command, flags=("--input", "greeting", "--output", "answer"), cwd=tmp_path
    )
    assert result["exit_code"] == 0, result
    assert (tmp_path / "answer").read_text() == "hello"


def test_an_image_with_a_compiler_and_no_python_is_the_environment_of_actions(
    farm: Farm, tmp_path: Path
) -> None:
    need_toolchain()
    farm.apply("toolchain.yaml")
    farm.wait_until_ready("toolchain")
    (tmp_path / "main.c").write_text('#include <stdio.h>\nint main(void) { puts("compiled"); }\n')
    command = "! command -v python3 && gcc -o program main.c && ./program"
    flags = ("--input", "main.c", "--output", "program")
    result = farm.execute("toolchain", "sh", "-c", command, flags=flags, cwd=tmp_path)
    assert result["exit_code"] == 0, result
    assert result["stdout"] == "compiled\n"
    assert (tmp_path / "program").stat().st_size > 0


def _terminate(farm: Farm, pod: str, *, restarted: bool) -> None:
    """SIGTERM to the first process, as a kubelet sends it; it ends by itself, with 0, in time."""
    restarts = int(farm.status(pod)["restartCount"]) + 1 if restarted else None
    began = datetime.now(UTC)
    farm.in_pod(pod, "sh", "-c", "kill -TERM 1")
    ended = farm.wait_for_end(pod, restarts)
    assert ended["exitCode"] == 0, farm.log(pod, f"--previous={str(restarted).lower()}")
    assert datetime.fromisoformat(ended["finishedAt"]) - began < GRACE
    if restarted:
        farm.wait_until_ready(pod)


def test_the_bot_ends_in_order(farm: Farm) -> None:
    _terminate(farm, "bot", restarted=False)


def test_a_scheduler_ends_in_order(farm: Farm) -> None:
    _terminate(farm, "scheduler", restarted=True)


def test_a_database_shuts_down_in_order_and_keeps_its_data(farm: Farm) -> None:
    count = ("psql", "-Atc", "SELECT count(*) FROM jobs")
    before = farm.in_pod("postgres", *count).stdout
    assert int(before) > 0
    _terminate(farm, "postgres", restarted=True)
    assert "database system is shut down" in farm.log("postgres", "--previous")
    assert farm.in_pod("postgres", *count).stdout == before
    assert farm.in_pod("postgres", "psql", "-Atc", "SHOW fsync").stdout.strip() == "on"
    farm.wait_until_ready("scheduler")


def test_a_database_without_its_password_says_what_is_missing(farm: Farm) -> None:
    pod = next(
        item
        for item in yaml.safe_load(manifest("farm.yaml"))["items"]
        if item["kind"] == "Pod" and item["metadata"]["name"] == "postgres"
    )
    pod["metadata"] = {"name": "postgres-without-password"}
    pod["spec"]["containers"][0]["env"] = []
    pod["spec"]["restartPolicy"] = "Never"
    farm.run("apply", "-f", "-", stdin=yaml.safe_dump(pod))
    ended = farm.wait_for_end("postgres-without-password")
    assert ended["exitCode"] == 2
    assert "PASSWORD_FILE: /secrets/password is missing" in farm.log("postgres-without-password")
