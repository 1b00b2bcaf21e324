"""`helm install` with the defaults gives a farm that runs actions."""

from itertools import count

import pytest

from tests.cluster.images.installation import RELEASE, SCHEDULER, Installation
from tests.cluster.operator.processes import eventually

pytestmark = pytest.mark.timeout(400)


def test_it_serves(installation: Installation) -> None:
    for name, status in {"Ready": "True", "ConfigApplied": "True", "Degraded": "False"}.items():
        assert installation.condition(name)["status"] == status
    status = installation.scheduler()["status"]
    assert status["readyReplicas"] == status["configuredReplicas"] == 1
    assert installation.run("get", SCHEDULER, RELEASE, "--no-headers").split()[1:5] == [
        "True",
        "True",
        "1",
        "1",
    ]


@pytest.mark.parametrize("component", ["operator", "scheduler", "storage", "postgresql"])
def test_each_pod_comes_up_and_stays_up(installation: Installation, component: str) -> None:
    pods = installation.pods(component)
    assert len(pods) == 1
    for name, pod in pods.items():
        installation.wait_for_pod(name)
        assert [each["restartCount"] for each in pod["status"]["containerStatuses"]] == [0]


def test_helm_test_runs_an_action_on_a_bot_that_is_made_for_it(installation: Installation) -> None:
    told = installation.succeed("test")
    assert "A bot ran this." in told
    (bot,) = installation.pods("bot")
    assert "exit 0" in installation.log(bot)


def test_the_operator_comes_to_rest(installation: Installation) -> None:
    """Nothing is written while nothing changes: on a real cluster there are more causes of events."""
    passes = r"^buildgrid_operator_reconcile_total\{"
    calls = r'^buildgrid_operator_api_calls_total\{.*kind="(?!Lease).*verb="(?!get|list|watch)'
    numbers = count(1)

    def rests() -> bool:
        begun, before = installation.operator_metric(calls), installation.operator_metric(passes)
        annotation = f"example.org/nothing={next(numbers)}"
        installation.run("annotate", SCHEDULER, RELEASE, annotation, "--overwrite")
        installation.wait_for_metric(passes, before + 2)
        return installation.operator_metric(calls) == begun

    # The bot of `helm test` goes first.
    installation.wait_until_fleet_rests()
    eventually(rests, "two passes that write nothing", 30)
