"""Bot pods as a watch shows them, those that are gone included."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass
from typing import Any

from buildgrid_operator.desired.bots.names import FLEET_LABEL
from buildgrid_operator.desired.names import TEMPLATE_HASH

from tests.cluster.images.installation import WAIT, Installation
from tests.cluster.operator.processes import eventually

Json = dict[str, Any]


@dataclass(slots=True)
class BotPod:
    """Times are seconds since the epoch, by the clock of the test, of when the watch told."""

    name: str
    template: str
    """hash of what it was made of"""
    seen: float
    running: float | None = None
    ending: float | None = None
    gone: float | None = None
    exit_code: int | None = None
    """of its bot, if that was told before the pod was gone"""


class BotPods:
    """Watches those of a fleet until it is closed."""

    def __init__(self, installation: Installation, fleet: str) -> None:
        self._process = subprocess.Popen(
            [
                *("kubectl", "-n", installation.namespace, "get", "pods", "-l", f"{FLEET_LABEL}={fleet}"),
                *("--watch", "--output-watch-events", "-o", "json"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pods: dict[str, BotPod] = {}
        self._lock = threading.Lock()
        self._most = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> "BotPods":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._thread.join(10)
        self._process.wait()

    @property
    def all(self) -> list[BotPod]:
        """That were ever seen, in the order in which they came."""
        with self._lock:
            return list(self._pods.values())

    @property
    def most(self) -> int:
        """So many there were at once, ending ones not counted."""
        return self._most

    def wait_until_none_is_left(self, timeout: float = WAIT) -> None:
        """All that came have gone."""
        try:
            eventually(lambda: all(pod.gone for pod in self.all), "", timeout)
        except AssertionError:
            left = [pod for pod in self.all if not pod.gone]
            raise AssertionError(f"bots are left after {timeout:g} s: {left}") from None

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._take(json.loads(line), time.time())

    def _take(self, event: Json, now: float) -> None:
        pod = event["object"]
        meta, status = pod["metadata"], pod.get("status", {})
        with self._lock:
            template = meta.get("annotations", {}).get(TEMPLATE_HASH, "")
            known = self._pods.setdefault(meta["uid"], BotPod(meta["name"], template, now))
            if status.get("phase") == "Running":
                known.running = known.running or now
            if "deletionTimestamp" in meta:
                known.ending = known.ending or now
            for container in status.get("containerStatuses", ()):
                if ended := container["state"].get("terminated"):
                    known.exit_code = ended["exitCode"]
            if event["type"] == "DELETED":
                known.gone = now
            there = sum(not (each.ending or each.gone) for each in self._pods.values())
            self._most = max(self._most, there)
