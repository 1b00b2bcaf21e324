"""A release of the chart in a namespace of its own, and waiting for what becomes of it."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.conftest import Answer, Kubectl
from tests.cluster.images.built import REGISTRY, version
from tests.cluster.operator.processes import eventually
from tests.unit.charts.rendering import CHART

Json = dict[str, Any]
RELEASE = "buildgrid"
SCHEDULER = "schedulers.buildgrid.build"
PROPERTY_SET = "propertysets.buildgrid.build"
BOT_FLEET = "botfleets.buildgrid.build"
WAIT = 180.0
"""seconds that anything may take on a busy machine"""
_OURS = f"app.kubernetes.io/instance={RELEASE}"


@dataclass(frozen=True)
class Installation:
    """`helm install` with the defaults, in a namespace that admits only restricted pods."""

    kubectl: Kubectl
    namespace: str

    def helm(self, verb: str, *arguments: str) -> Answer:
        """A command of helm for the release, with the images that are tested."""
        if shutil.which("helm") is None:
            pytest.fail("helm is not on PATH; install it: https://helm.sh/docs/intro/install/")
        told = (str(CHART), *_images()) if verb in ("install", "upgrade") else ()
        return subprocess.run(
            ["helm", verb, RELEASE, *told, "--namespace", self.namespace, "--timeout=170s", *arguments],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
        )

    def install(self, *arguments: str) -> None:
        """Install it, and wait until the Scheduler serves."""
        self.succeed("install", *arguments)
        self.wait_for("Ready", "True")
        self.wait_for("ConfigApplied", "True")

    def succeed(self, verb: str, *arguments: str) -> str:
        """What helm says; it must succeed."""
        answer = self.helm(verb, *arguments)
        assert answer.returncode == 0, f"{answer.stdout}\n{answer.stderr}\n{self.events()}"
        return answer.stdout + answer.stderr

    def run(self, *arguments: str, stdin: str = "") -> str:
        """What kubectl says; it must succeed."""
        return self.kubectl("-n", self.namespace, *arguments, stdin=stdin, check=True, timeout=WAIT).stdout

    def get(self, *arguments: str) -> Json:
        """An object, or a list of them."""
        found: Json = json.loads(self.run("get", *arguments, "-o", "json"))
        return found

    def scheduler(self) -> Json:
        """The release's."""
        return self.get(SCHEDULER, RELEASE)

    def fleet(self) -> Json:
        """The release's BotFleet."""
        return self.get(BOT_FLEET, RELEASE)

    def wait_until_fleet_rests(self) -> None:
        """The BotFleet is ready, with no bot and nothing to do, and says so."""

        def rests() -> bool:
            status = self.fleet()["status"]
            ready = next(each for each in status["conditions"] if each["type"] == "Ready")
            zero = all(status.get(name, 0) == 0 for name in ("replicas", "readyBots", "queuedJobs"))
            return zero and bool(ready["status"] == "True")

        eventually(rests, "the BotFleet is at zero and Ready", WAIT)

    def change(self, spec: Json, kind: str = SCHEDULER) -> None:
        """Edit the release's Scheduler, PropertySet or BotFleet, as `kubectl edit` does."""
        self.run("patch", kind, RELEASE, "--type=merge", "-p", json.dumps({"spec": spec}))

    def condition(self, name: str) -> Json:
        """One of the Scheduler's, if it is about the newest generation; else nothing."""
        scheduler = self.scheduler()
        conditions = scheduler.get("status", {}).get("conditions", ())
        found: Json = next((each for each in conditions if each["type"] == name), {})
        current = found.get("observedGeneration") == scheduler["metadata"]["generation"]
        return found if current else {}

    def wait_for(self, name: str, status: str, reason: str = "", timeout: float = WAIT) -> Json:
        """A condition of the Scheduler that becomes so."""

        def look() -> Json | None:
            found = self.condition(name)
            fits = found.get("status") == status and reason in ("", found.get("reason"))
            return found if fits else None

        try:
            return eventually(look, "", timeout)
        except AssertionError:
            status_now = json.dumps(self.scheduler().get("status"), indent=1)
            raise AssertionError(
                f"{name} is not {status} {reason} within {timeout:g} s: {status_now}\n{self.events()}"
            ) from None

    def wait_until_serving(self, replicas: int) -> None:
        """All replicas serve with the newest configuration, and no pod of an older template is left."""

        def look() -> bool:
            deployment = self.get("deployment", f"{RELEASE}-scheduler")
            status = deployment.get("status", {})
            return (
                status.get("observedGeneration") == deployment["metadata"]["generation"]
                and status.get("readyReplicas") == status.get("updatedReplicas") == replicas
                and len(self.pods("scheduler")) == replicas
            )

        eventually(look, f"{replicas} replicas of the newest template\n{self.run('get', 'pods')}", WAIT)
        self.wait_for("Ready", "True")
        self.wait_for("ConfigApplied", "True")

    def restarts(self, component: str) -> int:
        """How often containers of its pods were started again."""
        pods = self.pods(component).values()
        return sum(each["restartCount"] for pod in pods for each in pod["status"]["containerStatuses"])

    def execute(self, endpoint: str, *flags: str) -> Answer:
        """`buildgrid-scheduler execute` of a command that does nothing, in a pod of the scheduler."""
        return self.kubectl(*self._executing(endpoint, *flags), timeout=WAIT)

    def start_executing(self, endpoint: str, *flags: str) -> "subprocess.Popen[bytes]":
        """The same, and not waiting for its end."""
        return subprocess.Popen(
            ["kubectl", *self._executing(endpoint, *flags)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _executing(self, endpoint: str, *flags: str) -> tuple[str, ...]:
        pod = next(iter(self.pods("scheduler")))
        command = ("buildgrid-scheduler", "execute", "--endpoint", endpoint, "--skip-cache-lookup", *flags)
        return (
            *("-n", self.namespace, "exec", pod, "-c", "scheduler", "--", *command),
            *("--wait=120", "--env=PATH=/usr/bin:/bin", "--", "true"),
        )

    def pods(self, component: str) -> dict[str, Json]:
        """Those of a component that are not ended, terminating ones included, by name."""
        items = self.get("pods", "-l", f"{_OURS},app.kubernetes.io/component={component}")["items"]
        return {
            pod["metadata"]["name"]: pod
            for pod in items
            if pod["status"].get("phase") not in ("Succeeded", "Failed")
        }

    def wait_for_pod(self, name: str) -> None:
        """Until it is Ready."""
        self.run("wait", "--for=condition=Ready", f"pod/{name}", "--timeout=170s")

    def in_pod(self, pod: str, *command: str) -> str:
        """What a command in a pod says; it must succeed."""
        return self.run("exec", pod, "--", *command)

    def log(self, pod: str, *arguments: str) -> str:
        """What a pod has logged so far."""
        return self.run("logs", pod, *arguments)

    def events(self) -> str:
        """For the person who reads why a test failed."""
        return self.kubectl("-n", self.namespace, "get", "pods,events").stdout

    def operator_metric(self, pattern: str) -> float:
        """The sum of the samples whose line matches."""
        service = f"/api/v1/namespaces/{self.namespace}/services/http:{RELEASE}-operator:8080/proxy/metrics"
        lines = self.kubectl("get", "--raw", service, check=True).stdout.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if re.search(pattern, line))

    def scheduler_metric(self, pattern: str) -> float:
        """The same of all replicas of the Scheduler."""
        found = 0.0
        for pod in self.pods("scheduler"):
            page = f"/api/v1/namespaces/{self.namespace}/pods/http:{pod}:9090/proxy/metrics"
            lines = self.kubectl("get", "--raw", page, check=True).stdout.splitlines()
            found += sum(float(line.rpartition(" ")[2]) for line in lines if re.search(pattern, line))
        return found

    def wait_for_metric(self, pattern: str, least: float) -> None:
        """Until the sum of the samples is so large."""
        eventually(lambda: self.operator_metric(pattern) >= least, f"{pattern} is {least:g}", WAIT)

    def remains(self) -> set[str]:
        """Everything of this project in the namespace, and in the cluster by the namespace's name."""
        kinds = (
            f"all,configmaps,secrets,serviceaccounts,roles,rolebindings,persistentvolumeclaims,{SCHEDULER},"
            f"{PROPERTY_SET},{BOT_FLEET},poddisruptionbudgets,networkpolicies,jobs,leases,ingresses,endpointslices"
        )
        foreign = {"serviceaccount/default", "configmap/kube-root-ca.crt"}
        here = self.run("get", kinds, "-o", "name").split()
        everywhere = self.run("get", "clusterroles,clusterrolebindings", "-o", "name").split()
        return {name for name in here if name not in foreign} | {
            name for name in everywhere if self.namespace in name
        }


def image_flags(tag: str, *names: str) -> tuple[str, ...]:
    """For helm: images of the project with a tag."""
    return tuple(f"--set=images.{name}.tag={tag}" for name in names)


def _images() -> tuple[str, ...]:
    """Nothing where the defaults are tested."""
    if REGISTRY == "ghcr.io/buildgrid-kubernetes":
        flags: tuple[str, ...] = ()
    else:
        host, _, folder = REGISTRY.partition("/")
        names = ("operator", "scheduler", "bot", "postgres")
        flags = (
            f"--set=images.registry={host}",
            *(f"--set=images.{name}.repository={folder}/{name}".replace("//", "/") for name in names),
        )
    return (*flags, *image_flags(version(), "operator", "scheduler", "bot", "postgres")) if flags else ()
