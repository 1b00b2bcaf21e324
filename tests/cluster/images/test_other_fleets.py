"""Fleets in any image, in one that nobody has, and of a Scheduler that wants tokens."""

import pytest
import yaml

from tests.cluster.images.building import TOOLCHAIN_POOL, Bazel
from tests.cluster.images.built import REGISTRY, TOOLCHAIN, version
from tests.cluster.images.installation import BOT_FLEET, RELEASE, Installation, Json
from tests.cluster.images.job_history import database_now, jobs_since
from tests.cluster.operator.processes import eventually

pytestmark = pytest.mark.timeout(600)


def _apply(installation: Installation, name: str, **spec: object) -> None:
    bot = f"{REGISTRY}/bot:{version()}"
    fleet = {
        "apiVersion": "buildgrid.build/v1alpha1",
        "kind": "BotFleet",
        "metadata": {"name": name},
        "spec": {"schedulerRef": {"name": RELEASE}, "image": bot, **spec},
    }
    installation.run("apply", "-f", "-", stdin=yaml.safe_dump(fleet))


def _ready(installation: Installation, name: str) -> Json:
    conditions = installation.get(BOT_FLEET, name).get("status", {}).get("conditions", ())
    found: Json = next((each for each in conditions if each["type"] == "Ready"), {})
    return found


def test_actions_run_in_an_image_that_has_a_compiler_and_no_python(
    installation: Installation, lone_bazel: Bazel
) -> None:
    _apply(
        installation,
        "toolchain",
        actionImage=TOOLCHAIN,
        properties=[{"key": "Pool", "value": TOOLCHAIN_POOL}],
        scaling={"maxBots": 2, "idleTimeout": "5s"},
    )
    since = database_now(installation)
    built = lone_bazel.run("test", "//app/...", "//data/...")
    assert built["remote"] >= 8
    jobs = jobs_since(installation, since)
    assert [job for job in jobs if not job.ran_once] == []
    assert {(job.bot or "").rpartition("-")[0].rpartition("-")[0] for job in jobs} == {"toolchain"}
    eventually(
        lambda: installation.get(BOT_FLEET, "toolchain")["status"].get("replicas") == 0, "it is at zero", 120
    )
    installation.run("delete", BOT_FLEET, "toolchain")


def test_an_image_that_nobody_has_is_told_and_mended_by_an_edit(installation: Installation) -> None:
    endpoint = installation.scheduler()["status"]["endpoints"]["scheduler"]
    properties = [{"key": "Pool", "value": "lost"}]
    _apply(installation, "lost", image=f"{REGISTRY}/bot:no-such-tag", properties=properties)
    client = installation.start_executing(endpoint, "--property=Pool=lost")
    try:
        told = eventually(
            lambda: found if (found := _ready(installation, "lost")).get("status") == "False" else None,
            "Ready is False",
            120,
        )
        assert told["reason"] == "ImagePullFailed"
        assert "no-such-tag" in told["message"]
        _apply(installation, "lost", properties=properties)
        assert client.wait(150) == 0
        assert _ready(installation, "lost")["status"] == "True"
    finally:
        client.kill()
        client.wait()
        installation.run("delete", BOT_FLEET, "lost")


def test_bots_show_a_token_of_their_own_where_the_scheduler_wants_one(installation: Installation) -> None:
    account = f"{installation.namespace}/{RELEASE}-bots"
    rules: list[Json] = [
        {"identities": [{"serviceAccount": f"{installation.namespace}/client"}], "rights": ["Execute"]}
    ]
    installation.run("create", "serviceaccount", "client")
    token = installation.run("create", "token", "client", "--audience=buildgrid").strip()
    installation.change({"auth": {"kubernetes": {}, "policy": rules}})
    installation.wait_until_serving(1)
    (pod,) = installation.pods("scheduler")
    installation.run("exec", "-i", pod, "--", "sh", "-c", "cat > /tmp/token", stdin=token)
    endpoint = installation.scheduler()["status"]["endpoints"]["scheduler"]
    assert installation.execute(endpoint).returncode == 125

    client = installation.start_executing(endpoint, "--token-file=/tmp/token")
    try:
        # Nobody has let its bots in yet.
        told = eventually(
            lambda: words if "RunBots" in (words := _words(installation)) else "",
            "it says what is missing",
            120,
        )
        assert account in told
        rules.append({"identities": [{"serviceAccount": account}], "rights": ["RunBots"]})
        installation.change({"auth": {"kubernetes": {}, "policy": rules}})
        assert client.wait(150) == 0
    finally:
        client.kill()
        client.wait()


def _words(installation: Installation) -> str:
    conditions = installation.fleet()["status"]["conditions"]
    return " ".join(each.get("message", "") for each in conditions)
