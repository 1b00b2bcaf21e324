"""Who leads, on the real API server: processes that are killed, stopped, stalled and cut off."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.connection import connect
from buildgrid_operator.cluster.kinds import LEASE, Manifest, ObjectRef
from buildgrid_operator.process.leadership import Leadership, LeadershipLost, LeaseView, Timing, own_identity
from kubernetes import client as kubernetes

from tests.cluster.cluster.faults import HANG_UP, Fault, FaultyServer
from tests.cluster.process.candidate import LOST

CANDIDATE = Path(__file__).with_name("candidate.py")
TAKEOVER = 20.0
"""seconds that the operator promises after a kill -9"""
QUICK = Timing(timedelta(seconds=3), timedelta(seconds=2), timedelta(milliseconds=200))

Process = subprocess.Popen[str]
Start = Callable[[str, str], Process]


@pytest.fixture(scope="module")
def api() -> Iterator[kubernetes.ApiClient]:
    """A connection as KUBECONFIG says."""
    with closing(connect(user_agent="buildgrid-operator/test")) as connection:
        yield connection


@pytest.fixture
def client(api: kubernetes.ApiClient) -> Client:
    """The operator's client, with all rights."""
    return Client(api)


@pytest.fixture
def start(namespace: str) -> Iterator[Start]:
    """Start a candidate for a Lease, with an identity."""
    started: list[Process] = []

    def run(lease: str, identity: str) -> Process:
        process = subprocess.Popen(
            [sys.executable, str(CANDIDATE), namespace, lease, identity],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        assert _says(process) == "waits"
        return process

    yield run
    for process in started:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
        process.kill()
        process.communicate()


def _says(process: Process) -> str:
    """The next line; the suite's own timeout ends a process that says nothing."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _view(client: Client, namespace: str, name: str) -> LeaseView:
    return LeaseView.of(client.get(LEASE, namespace, name))


async def _renewals(client: Client, ref: ObjectRef, number: int) -> None:
    """Wait until a Lease was renewed so many times."""
    seen: set[str] = set()
    while len(seen) <= number:
        lease = await asyncio.to_thread(client.get, ref.kind, ref.namespace, ref.name)
        seen.add(LeaseView.of(lease).renewed)


def test_of_two_candidates_one_leads_and_the_other_follows_within_20_s_of_a_kill(
    client: Client, namespace: str, start: Start
) -> None:
    first = start("killed", "a")
    assert _says(first) == "leads"
    second = start("killed", "b")
    assert _view(client, namespace, "killed").holder == "a"
    first.kill()
    killed = time.monotonic()
    assert _says(second) == "leads"
    assert time.monotonic() - killed < TAKEOVER
    view = _view(client, namespace, "killed")
    assert (view.holder, view.transitions) == ("b", 1)


def test_a_graceful_stop_hands_over_at_once(client: Client, namespace: str, start: Start) -> None:
    first = start("stopped", "a")
    assert _says(first) == "leads"
    second = start("stopped", "b")
    first.terminate()
    assert first.wait(timeout=30) == 0
    stopped = time.monotonic()
    assert _says(second) == "leads"
    # Not after the 15 s of a Lease that was not released.
    assert time.monotonic() - stopped < 10


def test_a_restarted_process_with_the_same_identity_leads_on_at_once(
    client: Client, namespace: str, start: Start
) -> None:
    first = start("restarted", "pod-0")
    assert _says(first) == "leads"
    first.kill()
    killed = time.monotonic()
    assert _says(start("restarted", "pod-0")) == "leads"
    assert time.monotonic() - killed < 10
    assert _view(client, namespace, "restarted").transitions == 0


def test_a_process_that_stood_still_ends_when_it_goes_on(
    client: Client, namespace: str, start: Start
) -> None:
    first = start("stalled", "a")
    assert _says(first) == "leads"
    second = start("stalled", "b")
    first.send_signal(signal.SIGSTOP)
    assert _says(second) == "leads"
    first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=30) == LOST
    assert _view(client, namespace, "stalled").holder == "b"


def test_a_lease_that_is_taken_away_is_lost(client: Client, namespace: str, start: Start) -> None:
    process = start("robbed", "a")
    assert _says(process) == "leads"
    client.patch_merge(ObjectRef(LEASE, namespace, "robbed"), {"spec": {"holderIdentity": "thief"}})
    assert process.wait(timeout=30) == LOST


def test_a_lease_that_is_deleted_is_lost(client: Client, namespace: str, start: Start) -> None:
    process = start("deleted", "a")
    assert _says(process) == "leads"
    client.delete(ObjectRef(LEASE, namespace, "deleted"))
    assert process.wait(timeout=30) == LOST


async def test_a_label_on_the_lease_costs_nothing(client: Client, namespace: str) -> None:
    leadership = Leadership(client, namespace, "labelled", "a", timing=QUICK)
    await leadership.acquire()
    hold = asyncio.create_task(leadership.hold())
    ref = ObjectRef(LEASE, namespace, "labelled")
    await asyncio.to_thread(client.patch_merge, ref, {"metadata": {"labels": {"a": "b"}}})
    await _renewals(client, ref, 3)
    hold.cancel()
    await leadership.release()
    assert _view(client, namespace, "labelled").holder == ""


class _Held(Client):
    """Its next renewal reaches the API server, and the answer only comes when it is let through."""

    def __init__(self, api: kubernetes.ApiClient) -> None:
        super().__init__(api)
        self.hold_next = False
        self.renewed, self.let_through = threading.Event(), threading.Event()

    def within(self, timeout: timedelta) -> Client:
        return self

    def replace(self, obj: Mapping[str, Any]) -> Manifest:
        answer = super().replace(obj)
        if self.hold_next:
            self.hold_next = False
            self.renewed.set()
            assert self.let_through.wait(30)
        return answer


async def test_a_renewal_under_way_does_not_keep_the_lease(
    api: kubernetes.ApiClient, client: Client, namespace: str
) -> None:
    held = _Held(api)
    leadership = Leadership(held, namespace, "under-way", "a", timing=QUICK)
    await leadership.acquire()
    held.hold_next = True
    hold = asyncio.create_task(leadership.hold())
    await asyncio.to_thread(held.renewed.wait, 30)
    hold.cancel()
    release = asyncio.create_task(leadership.release())
    await asyncio.sleep(0)
    held.let_through.set()
    await release
    assert _view(client, namespace, "under-way").holder == ""
    assert not leadership.leads


async def test_a_label_at_the_last_moment_does_not_keep_the_lease(client: Client, namespace: str) -> None:
    leadership = Leadership(client, namespace, "at-last", "a", timing=QUICK)
    await leadership.acquire()
    ref = ObjectRef(LEASE, namespace, "at-last")
    await asyncio.to_thread(client.patch_merge, ref, {"metadata": {"labels": {"a": "b"}}})
    await leadership.release()
    assert _view(client, namespace, "at-last").holder == ""


@pytest.mark.parametrize("fault", [Fault(500), Fault(429, {"Retry-After": "1"}), Fault(HANG_UP)])
async def test_who_cannot_renew_in_time_has_lost_the_lease(
    api: kubernetes.ApiClient, namespace: str, fault: Fault
) -> None:
    name = f"cut-off-{fault.code}"
    with closing(FaultyServer(api)) as faults, closing(faults.connection()) as connection:
        leadership = Leadership(Client(connection), namespace, name, "a", timing=QUICK)
        await leadership.acquire()
        faults.always = fault
        with pytest.raises(LeadershipLost, match="was not renewed in time"):
            await leadership.hold()
        assert not leadership.leads


async def test_failures_that_pass_do_not_cost_the_lease(api: kubernetes.ApiClient, namespace: str) -> None:
    with closing(FaultyServer(api)) as faults, closing(faults.connection()) as connection:
        leadership = Leadership(Client(connection), namespace, "shaky", "a", timing=QUICK)
        await leadership.acquire()
        # The second one is renewed, and only its answer is lost: the next attempt is a conflict with itself.
        faults.faults.extend([Fault(500), Fault(HANG_UP, after=True)])
        hold = asyncio.create_task(leadership.hold())
        await _renewals(Client(api), ObjectRef(LEASE, namespace, "shaky"), 20)
        assert not faults.faults
        assert not hold.done()
        assert leadership.leads
        hold.cancel()
        await leadership.release()


async def test_a_lost_answer_to_the_first_write_still_leads(
    api: kubernetes.ApiClient, namespace: str
) -> None:
    with closing(FaultyServer(api)) as faults, closing(faults.connection()) as connection:
        faults.faults.extend([None, Fault(HANG_UP, after=True)])
        leadership = Leadership(Client(connection), namespace, "lost-answer", "a", timing=QUICK)
        await leadership.acquire()
        assert leadership.leads
        await leadership.release()


def test_the_pods_name_is_the_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "operator-5d4f-x")
    assert own_identity() == "operator-5d4f-x"
    monkeypatch.delenv("POD_NAME")
    assert own_identity() != own_identity()
    assert own_identity().startswith(os.uname().nodename)
