"""The replicas of a farm, as each of them writes itself down in the database."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import text
from sqlalchemy.orm import Session

BEAT = timedelta(seconds=5)
"""How often a replica says that it lives."""
GONE_AFTER = timedelta(seconds=30)
"""A replica that was not heard of for this long is told of no more, whatever became of it."""
FORGOTTEN_AFTER = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class ReplicaRecord:
    """A server process, and the configuration that it runs on."""

    id: str
    """made at its start, never used again"""
    host: str
    """in Kubernetes the pod's name"""
    version: str
    started_at: datetime
    config_hash: str
    """SHA-256, in hex, of the file in force"""
    refused_hash: str = ""
    """of a newer file that it could not take up; empty if there is none"""
    refused_error: str = ""
    """why not"""
    fields_at_restart: tuple[str, ...] = ()
    """fields of the file in force that wait for the next start"""


# Its own clock says when it started, the database's when it was heard of: clocks of machines differ.
_WRITE = text("""
INSERT INTO replicas (id, host, version, started_at, config_hash, refused_hash, refused_error,
                      fields_at_restart, seen_at)
VALUES (:id, :host, :version, :started_at, :config_hash, :refused_hash, :refused_error, :fields_at_restart,
        clock_timestamp())
ON CONFLICT (id) DO UPDATE SET
  config_hash = excluded.config_hash, refused_hash = excluded.refused_hash,
  refused_error = excluded.refused_error, fields_at_restart = excluded.fields_at_restart,
  seen_at = excluded.seen_at
""")
_FORGET = text("DELETE FROM replicas WHERE seen_at < clock_timestamp() - :age")
_REMOVE = text("DELETE FROM replicas WHERE id = :id")
_LIST = text("""
SELECT id, host, version, started_at, config_hash, refused_hash, refused_error, fields_at_restart
FROM replicas WHERE seen_at > clock_timestamp() - :age ORDER BY started_at, id
""")


def write_replica(session: Session, record: ReplicaRecord) -> None:
    """It lives, and this is its state. What was not heard of for FORGOTTEN_AFTER goes."""
    session.execute(
        _WRITE,
        {
            "id": record.id,
            "host": record.host,
            "version": record.version,
            "started_at": record.started_at,
            "config_hash": record.config_hash,
            "refused_hash": record.refused_hash,
            "refused_error": record.refused_error,
            "fields_at_restart": list(record.fields_at_restart),
        },
    )
    session.execute(_FORGET, {"age": FORGOTTEN_AFTER})


def remove_replica(session: Session, id_: str) -> None:
    """It has stopped."""
    session.execute(_REMOVE, {"id": id_})


def live_replicas(session: Session) -> list[ReplicaRecord]:
    """Those that were heard of within GONE_AFTER, oldest first."""
    rows = session.execute(_LIST, {"age": GONE_AFTER})
    return [ReplicaRecord(*(*row[:7], tuple(row[7]))) for row in rows]
