"""`helm uninstall` leaves the CRDs, and what holds data."""

import pytest

from tests.cluster.images.installation import BOT_FLEET, PROPERTY_SET, RELEASE, SCHEDULER, Installation
from tests.cluster.operator.processes import eventually

pytestmark = pytest.mark.timeout(400)
# Blobs, the database, and the database's password, without which its data is lost.
KEPT = {
    f"persistentvolumeclaim/data-{RELEASE}-postgresql-0",
    f"persistentvolumeclaim/{RELEASE}-storage-data",
    f"secret/{RELEASE}-postgresql-generated",
}


def test_nothing_is_left_but_crds_and_data_and_a_new_installation_finds_it(
    installation: Installation,
) -> None:
    assert installation.execute(f"grpc://{RELEASE}-scheduler:50051").returncode == 0
    jobs = ("exec", f"{RELEASE}-postgresql-0", "--", "psql", "-Atc", "SELECT count(*) FROM jobs")
    stored = int(installation.run(*jobs))
    assert stored > 0

    installation.succeed("uninstall")
    eventually(
        lambda: installation.remains() == KEPT, f"{KEPT} are left, not {installation.remains()}", timeout=120
    )
    for crd in (SCHEDULER, PROPERTY_SET, BOT_FLEET):
        assert installation.kubectl("get", "crd", crd).returncode == 0

    installation.install()
    assert int(installation.run(*jobs)) == stored


def test_it_waits_for_a_build_and_refuses_while_one_runs(installation: Installation) -> None:
    """With `deletion.drain`, as long as uninstall.timeoutSeconds; then nothing has changed."""
    installation.succeed("upgrade", "--set=uninstall.timeoutSeconds=5,scheduler.spec.deletion.drain=true")
    installation.wait_for("Ready", "True")
    client = installation.start_executing(f"grpc://{RELEASE}-scheduler:50051", "--property=Pool=nowhere")
    try:
        eventually(
            lambda: installation.scheduler()["status"]["queuedJobs"] == 1, "the status tells of the job"
        )
        refused = installation.helm("uninstall")
        assert refused.returncode != 0
        assert "1 queued" in refused.stdout + refused.stderr
        assert len(installation.pods("operator")) == 1
        installation.wait_for("Ready", "True")
    finally:
        client.kill()
        client.wait()

    # To Helm it is half uninstalled, and only a rollback mends that.
    installation.succeed("rollback")
    installation.succeed("upgrade", "--set=uninstall.timeoutSeconds=5,uninstall.whenBusy=Proceed")
    installation.succeed("uninstall")
    eventually(lambda: installation.remains() == KEPT, f"{KEPT} are left", timeout=120)
