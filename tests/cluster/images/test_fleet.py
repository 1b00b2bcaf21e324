"""The first BotFleet: it follows a build from zero and back, and its changes end no action."""

import os
import statistics
import time

import pytest

from tests.cluster.images.bot_pods import BotPod, BotPods
from tests.cluster.images.building import Bazel
from tests.cluster.images.built import HERE, manifest
from tests.cluster.images.figures import Figure
from tests.cluster.images.installation import BOT_FLEET, RELEASE, Installation
from tests.cluster.images.job_history import Job, database_now, jobs_since

BUILD_ACTIONS = 200
ACTIONS = 500
MOTION_SECONDS = float(os.environ.get("MOTION_SECONDS") or (600 if os.environ.get("FULL") == "1" else 180))
"""for so long a fleet is changed all the time, while it works"""
STEP_SECONDS = 6.0
"""between two changes: bots come up in some seconds, so that each finds the one before under way"""

pytestmark = pytest.mark.timeout(500 + MOTION_SECONDS)


def _all_ran_once(jobs: list[Job], count: int, installation: Installation) -> None:
    """By the scheduler's own words, and by the operator's."""
    assert len(jobs) == count
    assert [job for job in jobs if not job.ran_once] == []
    requeued = r'^buildgrid_lease_ends_total\{.*outcome="requeued"'
    assert installation.scheduler_metric(requeued) == 0
    assert installation.operator_metric(r"^buildgrid_operator_fleet_interrupted_actions_total") == 0


def _bots_ended_in_order(pods: list[BotPod], jobs: list[Job]) -> None:
    """Those that had work. Others may have been let go before their program could hear of it."""
    workers = {job.bot for job in jobs}
    assert [pod for pod in pods if pod.name in workers and pod.exit_code not in (0, None)] == []


def test_a_fleet_grows_from_zero_for_a_build_and_goes_back_to_zero(
    installation: Installation, lone_bazel: Bazel, figure: Figure
) -> None:
    assert installation.pods("bot") == {}
    since = database_now(installation)
    with BotPods(installation, RELEASE) as bots:
        done = lone_bazel.run("build", "//many", f"--jobs={BUILD_ACTIONS}", pool="")
        assert done["remote"] == BUILD_ACTIONS
        jobs = jobs_since(installation, since)
        _all_ran_once(jobs, BUILD_ACTIONS, installation)
        assert bots.most == installation.fleet()["spec"]["scaling"]["maxBots"]
        bots.wait_until_none_is_left()
        pods = bots.all
    _bots_ended_in_order(pods, jobs)
    installation.wait_until_fleet_rests()
    assert "".join(f"part_{number}\n" for number in range(BUILD_ACTIONS - 1)) == lone_bazel.output(
        "many/many.txt"
    )

    ended = max(job.completed or 0.0 for job in jobs)
    figure("first Execute until a pod was seen", f"{min(pod.seen for pod in pods) - jobs[0].queued:.2f} s")
    first = {
        pod.name: min(job.started for job in jobs if job.bot == pod.name and job.started)
        for pod in pods
        if any(job.bot == pod.name for job in jobs)
    }
    up = [first[pod.name] - pod.running for pod in pods if pod.name in first and pod.running]
    figure("a pod runs until its first action starts, median and most", f"{_spread(up)}")
    made = [first[pod.name] - pod.seen for pod in pods if pod.name in first]
    figure("a pod is made until its first action starts, median and most", f"{_spread(made)}")
    figure("the build", f"{ended - jobs[0].queued:.1f} s on {len(pods)} bots")
    figure(
        "its last action until the last bot was gone", f"{max(pod.gone or 0 for pod in pods) - ended:.1f} s"
    )


def test_no_action_is_ended_while_the_fleet_is_scaled_and_rolled_out_all_the_time(
    installation: Installation, figure: Figure
) -> None:
    scaling = {"maxBots": 6, "idleTimeout": "3s"}
    installation.change({"scaling": scaling, "rollout": {"maxSurge": 2, "maxUnavailable": 1}}, BOT_FLEET)
    installation.run("create", "configmap", "driver", f"--from-file={HERE / 'driver.py'}")
    endpoint = installation.scheduler()["status"]["endpoints"]["scheduler"]
    told = {"ACTIONS": str(ACTIONS), "SECONDS": str(MOTION_SECONDS), "ENDPOINT": endpoint}
    since = database_now(installation)
    changes = 0
    with BotPods(installation, RELEASE) as bots:
        installation.run("apply", "-f", "-", stdin=manifest("driver.yaml", **told))
        give_up = time.monotonic() + MOTION_SECONDS + 240
        while (phase := installation.get("pod", "driver")["status"]["phase"]) in ("Pending", "Running"):
            assert time.monotonic() < give_up, installation.log("driver")
            _change(installation, changes)
            changes += 1
            time.sleep(STEP_SECONDS)  # the pace of whoever changes it, not a wait for anything
        assert phase == "Succeeded", installation.log("driver")
        installation.change({"replicas": None}, BOT_FLEET)
        jobs = jobs_since(installation, since)
        bots.wait_until_none_is_left()
        pods = bots.all
    _all_ran_once(jobs, ACTIONS, installation)
    _bots_ended_in_order(pods, jobs)
    # It was in motion: bots of many templates had work.
    workers = {job.bot for job in jobs}
    templates = {pod.template for pod in pods if pod.name in workers}
    assert len(templates) > changes // 6
    waits = sorted((job.started or job.queued) - job.queued for job in jobs)
    figure(
        f"{ACTIONS} actions in {jobs[-1].queued - jobs[0].queued:.0f} s, under {changes} changes",
        f"{len(pods)} bots of {len({pod.template for pod in pods})} templates, {len(workers)} had work, "
        f"{sum(not job.ran_once for job in jobs)} actions ended or retried; "
        f"wait median {statistics.median(waits):.1f} s, most {waits[-1]:.1f} s",
    )


def _change(installation: Installation, number: int) -> None:
    """Out, another template, in, to what the work needs, another template, one bot."""
    label = {"workerProperties": [{"key": "round", "value": str(number)}]}
    changes = ({"replicas": 6}, label, {"replicas": 2}, {"replicas": None}, label, {"replicas": 1})
    installation.change(changes[number % len(changes)], BOT_FLEET)


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.2f} s, {max(seconds):.2f} s"
