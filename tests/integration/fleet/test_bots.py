"""Live bots by what they say of themselves."""

from datetime import UTC, datetime

from buildgrid_scheduler.core.bot_status import BotStatus
from buildgrid_scheduler.fleet.bots import BotCount, count_bots
from buildgrid_scheduler.store.provider import SqlProvider
from buildgrid_scheduler.store.schema import BotEntry

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def test_bots_are_counted_by_instance_and_status(provider: SqlProvider) -> None:
    statuses = {"a": ("", 1), "b": ("", 1), "c": ("", 4), "d": ("other", 2), "e": ("unasked", 1)}
    with provider.session() as session:
        for name, (instance, status) in statuses.items():
            session.add(
                BotEntry(
                    name=name,
                    instance_name=instance,
                    bot_id=name,
                    status=status,
                    connected_at=NOW,
                    expires_at=NOW,
                )
            )
    with provider.session() as session:
        assert count_bots(session, ["", "other"]) == [
            BotCount("", BotStatus.OK, 2),
            BotCount("", BotStatus.BOT_TERMINATING, 1),
            BotCount("other", BotStatus.UNHEALTHY, 1),
        ]


def test_without_bots_there_is_nothing(provider: SqlProvider) -> None:
    with provider.session() as session:
        assert count_bots(session, [""]) == []
