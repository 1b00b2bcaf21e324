"""Builds go on when parts of the farm are killed in the middle of them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.bazel import Bazel
from tests.acceptance.farm import Farm, Postgres, Replica
from tests.acceptance.gate import STEPS, Gate

pytestmark = [pytest.mark.xdist_group("bazel"), pytest.mark.timeout(180)]

GATED = "//gated:gated"
PATIENCE = "--remote_retries=10"
"""Bazel's default of 5 is over after 3 s, and a server takes longer to start on a busy machine."""


@pytest.fixture(scope="module")
def server(bazel: Bazel, gates: Path, folder: Path) -> Iterator[Replica]:
    """Alone, with an embedded database, as on one machine. Tests bring their own bots."""
    with Farm(folder / "alone", gates) as farm:
        server = farm.replica()
        yield server
    # However often it was killed before: its database ends with it.
    assert not (server.data / "postgres" / "postmaster.pid").exists()


@pytest.fixture(scope="module")
def replicas(
    bazel: Bazel, gates: Path, folder: Path, postgres: Postgres
) -> Iterator[tuple[Replica, Replica]]:
    """Two on one database: one for Bazel, with the CAS that is used, and one for the bots."""
    database = {"url": postgres.new_database()}
    with Farm(folder / "pair", gates) as farm:
        yield farm.replica("for_bazel", database=database), farm.replica("for_bots", database=database)


def assert_all_steps_are_there(bazel: Bazel) -> None:
    text = "".join(f"{step} is done\n" for step in sorted(STEPS))
    assert bazel.output("gated/gated.txt").read_text() == text


def test_the_server_is_killed_while_actions_run(
    bazel: Bazel, own_farm: Farm, server: Replica, gate: Gate
) -> None:
    for name in ("one", "two"):
        own_farm.bot(name, server)
    build = bazel.start(server.endpoint, "build", PATIENCE, GATED, *gate.flags)
    gate.wait_for(2)

    server.kill()
    server.start()
    gate.open()
    build.result().succeeded()

    assert_all_steps_are_there(bazel)
    # Bots kept running what they had, and nothing else was begun twice.
    assert gate.all_arrivals() == sorted(STEPS)


def test_the_server_is_killed_and_actions_end_before_it_is_back(
    bazel: Bazel, own_farm: Farm, server: Replica, gate: Gate
) -> None:
    for name in ("one", "two"):
        own_farm.bot(name, server)
    build = bazel.start(server.endpoint, "build", PATIENCE, GATED, *gate.flags)
    gate.wait_for(2)

    server.kill()
    gate.open()
    server.start()
    build.result().succeeded()

    assert_all_steps_are_there(bazel)
    assert gate.all_arrivals() == sorted(STEPS)


@pytest.mark.parametrize("moment", [1, 8])
def test_the_server_is_killed_in_the_rush_of_a_cold_build(
    bazel: Bazel, own_farm: Farm, server: Replica, moment: int
) -> None:
    """Whatever it is doing just then: uploads, enqueues, results, downloads."""
    own_farm.bot("bot", server, slots=2)
    bazel.clean()
    build = bazel.start(
        server.endpoint, "build", PATIENCE, "--noremote_accept_cached", "--subcommands", "//..."
    )
    build.wait_for_line("SUBCOMMAND", times=moment)

    server.kill()
    server.start()
    build.result().succeeded()

    assert "2 tree\n" in bazel.output("app/report.txt").read_text()


def test_the_storage_is_lost_and_the_database_is_not(
    bazel: Bazel, own_farm: Farm, postgres: Postgres
) -> None:
    targets = ("//data:large_sum", "//data:tree_listing")
    server = own_farm.replica(database={"url": postgres.new_database()})
    own_farm.bot("bot", server, slots=2)
    bazel.clean()
    bazel.run(server.endpoint, "build", *targets).succeeded()
    listing = bazel.output("data/tree_listing.txt").read_text()

    server.stop()
    shutil.rmtree(server.data / "cas")
    server.start()
    bazel.clean()
    again = bazel.run(server.endpoint, "build", PATIENCE, *targets).succeeded()

    # The action cache names outputs that are gone: none of its results may be served.
    assert len(again.executed) == len(again.spawns) == 4
    assert bazel.output("data/tree_listing.txt").read_text() == listing


def test_the_replica_of_the_bots_is_killed_while_bazel_uses_another(
    bazel: Bazel, own_farm: Farm, replicas: tuple[Replica, Replica], gate: Gate
) -> None:
    for_bazel, for_bots = replicas
    for name in ("one", "two"):
        own_farm.bot(name, for_bots, cas=for_bazel)
    # Bazel sees nothing of it, so that its default patience is enough.
    build = bazel.start(for_bazel.endpoint, "build", GATED, *gate.flags)
    gate.wait_for(2)

    for_bots.kill()
    for_bots.start()
    gate.open()
    build.result().succeeded()

    assert_all_steps_are_there(bazel)
    assert gate.all_arrivals() == sorted(STEPS)


def test_the_replica_of_bazel_is_killed_while_bots_use_another(
    bazel: Bazel, own_farm: Farm, replicas: tuple[Replica, Replica], gate: Gate
) -> None:
    for_bazel, for_bots = replicas
    for name in ("one", "two"):
        own_farm.bot(name, for_bots, cas=for_bazel)
    build = bazel.start(for_bazel.endpoint, "build", PATIENCE, GATED, *gate.flags)
    gate.wait_for(2)

    for_bazel.kill()
    gate.open()
    for_bazel.start()
    build.result().succeeded()

    assert_all_steps_are_there(bazel)
    assert gate.all_arrivals() == sorted(STEPS)


def test_a_bot_is_killed_while_actions_run(
    bazel: Bazel, own_farm: Farm, postgres: Postgres, gate: Gate
) -> None:
    server = own_farm.replica(
        database={"url": postgres.new_database()},
        scheduler={"bot_session_keepalive_timeout": 10, "session_expiry_interval": 0.2},
    )
    bots = [own_farm.bot(name, server) for name in ("one", "two")]
    build = bazel.start(server.endpoint, "build", GATED, *gate.flags)
    gate.wait_for(2)

    bots[0].kill()
    gate.open()
    build.result().succeeded()

    assert_all_steps_are_there(bazel)
    # The step that was lost with the bot was started once more.
    assert len(gate.all_arrivals()) == len(STEPS) + 1
    assert set(gate.all_arrivals()) == STEPS


def test_a_bot_that_is_killed_and_comes_back_gives_its_work_away_at_once(
    bazel: Bazel, own_farm: Farm, server: Replica, gate: Gate
) -> None:
    """The keepalive of ten minutes need not pass."""
    bot = own_farm.bot("one", server)
    build = bazel.start(server.endpoint, "build", GATED, *gate.flags)
    gate.wait_for(1)

    bot.kill()
    bot.start()
    gate.open()
    build.result().succeeded()

    assert_all_steps_are_there(bazel)
    assert len(gate.all_arrivals()) == len(STEPS) + 1


def test_a_bot_that_is_told_to_stop_finishes_what_it_runs(
    bazel: Bazel, own_farm: Farm, server: Replica, gate: Gate
) -> None:
    bots = [own_farm.bot(name, server) for name in ("one", "two")]
    build = bazel.start(server.endpoint, "build", GATED, *gate.flags)
    gate.wait_for(2)

    bots[0].terminate()
    gate.open()
    build.result().succeeded()

    assert bots[0].wait() == 0
    assert_all_steps_are_there(bazel)
    assert gate.all_arrivals() == sorted(STEPS)
