"""Bots that have a session, one by one and in numbers."""

from datetime import UTC, datetime, timedelta
from typing import Any

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.fleet.bots import BotCount, ConnectedBot, connected_bots, count_bots
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import BotEntry, LeaseEntry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def add_bot(provider: SqlProvider, bot_id: str, instance: str = "", **columns: Any) -> None:
    """A session, whose name is `session of BOT_ID`."""
    given = {"status": 1, "connected_at": NOW, "expires_at": NOW, **columns}
    with provider.session() as session:
        session.add(BotEntry(name=f"session of {bot_id}", instance_name=instance, bot_id=bot_id, **given))


def add_lease(
    provider: SqlProvider, job: str, bot_id: str, told: int | None = None, instance: str = "", state: int = 1
) -> None:
    """`told`: minutes from NOW until the bot was told."""
    told_at = None if told is None else NOW + timedelta(minutes=told)
    with provider.session() as session:
        session.add(
            LeaseEntry(
                job_name=job,
                instance_name=instance,
                session_name=f"session of {bot_id}",
                state=state,
                told_at=told_at,
                requirement_hash="hash",
                property_label="label",
                priority=0,
                queued_at=NOW,
            )
        )


def connected(provider: SqlProvider, *instances: str) -> list[ConnectedBot]:
    """As they are told of."""
    with provider.session() as session:
        return list(connected_bots(session, instances))


def test_a_bot_is_told_with_all_that_it_says_of_itself(provider: SqlProvider) -> None:
    add_bot(
        provider,
        "bot",
        status=4,
        capacity=3,
        capacity_class="spot",
        fleet_uid="a fleet",
        cluster_uid="a cluster",
        lease_count=7,
    )
    (bot,) = connected(provider, "")
    assert bot == ConnectedBot(
        "",
        "bot",
        BotStatus.BOT_TERMINATING,
        3,
        NOW,
        "spot",
        "a fleet",
        "a cluster",
        7,
        leases=0,
        busy_since=None,
    )


def test_a_bot_is_busy_since_it_was_told_of_its_oldest_lease(provider: SqlProvider) -> None:
    add_bot(provider, "busy", capacity=4)
    add_lease(provider, "later", "busy", told=5)
    add_lease(provider, "first", "busy", told=2, state=2)
    add_lease(provider, "to be stopped", "busy", told=3, state=5)
    add_lease(provider, "not told yet", "busy")
    add_bot(provider, "given", capacity=1)
    add_lease(provider, "assigned", "given")
    add_bot(provider, "idle")
    found = [(bot.bot_id, bot.leases, bot.busy_since) for bot in connected(provider, "")]
    assert found == [("busy", 4, NOW + timedelta(minutes=2)), ("given", 1, None), ("idle", 0, None)]


def test_bots_are_told_and_counted_by_instance_and_status(provider: SqlProvider) -> None:
    for bot_id, instance, status in [
        ("b", "", 1),
        ("a", "", 1),
        ("c", "", 4),
        ("d", "other", 2),
        ("e", "unasked", 1),
    ]:
        add_bot(provider, bot_id, instance, status=status)
        add_lease(provider, bot_id, bot_id, 1, instance)
    bots = connected(provider, "other", "")
    assert [(bot.instance, bot.bot_id, bot.leases) for bot in bots] == [
        ("", "a", 1),
        ("", "b", 1),
        ("", "c", 1),
        ("other", "d", 1),
    ]
    assert count_bots(bots) == [
        BotCount("", BotStatus.OK, 2),
        BotCount("", BotStatus.BOT_TERMINATING, 1),
        BotCount("other", BotStatus.UNHEALTHY, 1),
    ]


def test_without_bots_there_is_nothing(provider: SqlProvider) -> None:
    assert connected(provider, "") == []
    assert count_bots([]) == []
