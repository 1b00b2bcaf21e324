"""What a cluster that was made for tests lets them do to itself. Its maker says so in the environment:

| variable | what |
|---|---|
| TEST_CLUSTER_DISPOSABLE=1 | nobody else uses it: the CRDs may be deleted, with all objects |
| TEST_CLUSTER_AUDIT_LOG=FILE | where the API server logs each request (level Metadata) |
| TEST_CLUSTER_ETCD=URL | its etcd, over HTTP and without credentials |
| TEST_CLUSTER_API_SERVER=COMMAND | with `stop` and `start` after it: stops and starts the API server |
"""

import base64
import json
import os
import shlex
import subprocess
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

_PREFIX = "TEST_CLUSTER_"
OPERATOR = "buildgrid-operator"
"""what the operator's requests say who they are"""


def told(name: str) -> str:
    """What the cluster's maker says; the test is skipped where it says nothing."""
    variable = _PREFIX + name
    found = os.environ.get(variable)
    if not found:
        pytest.skip(f"{variable} is not set: see {Path(__file__).name}")
    return found


class AuditLog:
    """The API server's log of requests, from now on."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._begun = file.stat().st_size

    def calls(self) -> Counter[tuple[str, str]]:
        """The operator's requests since then, by verb and resource, for example `schedulers/status`."""
        found: Counter[tuple[str, str]] = Counter()
        with self._file.open("rb") as lines:
            lines.seek(self._begun)
            for line in lines:
                # The last one may not be whole yet.
                if line.endswith(b"\n") and OPERATOR.encode() in line:
                    found.update(_call(json.loads(line)))
        return found


def _call(event: dict[str, Any]) -> list[tuple[str, str]]:
    if event.get("userAgent") != OPERATOR or "objectRef" not in event:
        return []
    ref = event["objectRef"]
    subresource = ref.get("subresource")
    return [(event["verb"], f"{ref['resource']}/{subresource}" if subresource else ref["resource"])]


def audit_log() -> AuditLog | None:
    """None where the API server writes none."""
    file = os.environ.get(_PREFIX + "AUDIT_LOG")
    return AuditLog(Path(file)) if file else None


class ApiServer:
    """Stopped and started as a whole, unlike the connections of `relay`."""

    def __init__(self) -> None:
        self._command = shlex.split(told("API_SERVER"))

    def stop(self) -> None:
        """Nobody answers any more."""
        self._run("stop")

    def start(self) -> None:
        """Waits until it is ready."""
        self._run("start")

    def _run(self, what: str) -> None:
        subprocess.run([*self._command, what], check=True, timeout=120, stdout=subprocess.DEVNULL)


class Etcd:
    """By its JSON gateway: https://etcd.io/docs/v3.5/dev-guide/api_grpc_gateway/"""

    def __init__(self) -> None:
        self._url = told("ETCD")

    def compact(self) -> int:
        """Forget all that was before now; returns the revision from which on it knows."""
        # Any key will do: the header has the revision of the store.
        key = base64.b64encode(b"/").decode()
        revision = int(self._post("kv/range", {"key": key})["header"]["revision"])
        self._post("kv/compaction", {"revision": revision, "physical": True})
        return revision

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310 - the test bed's own etcd, over HTTP
            f"{self._url}/v3/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            found: dict[str, Any] = json.load(answer)
            return found
