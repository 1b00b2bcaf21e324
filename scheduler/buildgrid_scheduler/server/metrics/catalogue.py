"""Every metric of a server; `page` writes them down for people.

Names end in their unit (seconds, bytes) or say what they count; labels have a bounded number of values: words
of the protocols and of this program, and property labels, of which the first 100 are told apart.
"""

from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

FAST = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, for what should take milliseconds."""
WAITS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Seconds, for what may take milliseconds or an hour."""
ITEMS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True, slots=True)
class Spec:
    """A metric: `name` is what /metrics shows, `_total` of counters included."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    shared: bool = False
    """read from the database: every replica tells the same number, so take one (`max`), not their sum"""
    buckets: tuple[float, ...] = FAST

    def counter(self, registry: CollectorRegistry) -> Counter:
        """One to be counted up."""
        return Counter(self._of("counter"), self.help, self.labels, registry=registry)

    def gauge(self, registry: CollectorRegistry) -> Gauge:
        """One to be set."""
        return Gauge(self._of("gauge"), self.help, self.labels, registry=registry)

    def histogram(self, registry: CollectorRegistry) -> Histogram:
        """One to be observed."""
        return Histogram(
            self._of("histogram"), self.help, self.labels, registry=registry, buckets=self.buckets
        )

    def gauges(self) -> GaugeMetricFamily:
        """An empty family, for a collector to fill."""
        return GaugeMetricFamily(self._of("gauge"), self.help, labels=self.labels)

    def counters(self) -> CounterMetricFamily:
        """An empty family, for a collector to fill."""
        return CounterMetricFamily(self._of("counter"), self.help, labels=self.labels)

    def _of(self, kind: str) -> str:
        if kind != self.kind:
            raise TypeError(f"{self.name} is a {self.kind}, not a {kind}")
        return self.name


# --- the farm, as the database has it

QUEUE_JOBS = Spec(
    "buildgrid_queue_jobs", "gauge", "Jobs that wait for a bot, of all instances", ("property_label",), True
)
QUEUE_OLDEST = Spec(
    "buildgrid_queue_oldest_seconds",
    "gauge",
    "How long the oldest of them has waited",
    ("property_label",),
    True,
)
JOBS = Spec(
    "buildgrid_jobs", "gauge", "Jobs that are not finished, by stage as clients see it", ("stage",), True
)
BOTS = Spec("buildgrid_bots", "gauge", "Bot sessions, by the status that the bot told", ("status",), True)
BOTS_DRAINED = Spec("buildgrid_bots_drained", "gauge", "Bot sessions that get no more leases", shared=True)
BOT_SLOTS = Spec(
    "buildgrid_bot_slots", "gauge", "Slots of bots in status ok that are not drained", shared=True
)
LEASES = Spec("buildgrid_leases", "gauge", "Jobs in the hands of bots", shared=True)
FLEET_AGE = Spec(
    "buildgrid_fleet_read_age_seconds",
    "gauge",
    "How old the numbers are that are read from the database; they are left out when they are too old",
)
FLEET_FAILURES = Spec(
    "buildgrid_fleet_read_failures_total", "counter", "Times that these numbers could not be read"
)

# --- jobs and leases, as far as they went through this replica

ENQUEUED = Spec(
    "buildgrid_enqueued_total",
    "counter",
    "Actions that clients asked for: queued, shared (a job was there), cached, refused (queue limit)",
    ("outcome",),
)
ASSIGNMENT = Spec(
    "buildgrid_assignment_seconds",
    "histogram",
    "From when a job was queued until a bot was given it",
    ("property_label",),
    buckets=WAITS,
)
LEASE_ENDS = Spec(
    "buildgrid_lease_ends_total",
    "counter",
    "Leases that ended: completed, requeued (the job is tried again), discarded (the job was cancelled)",
    ("outcome",),
)
JOBS_COMPLETED = Spec(
    "buildgrid_jobs_completed_total",
    "counter",
    "Jobs that ended, whoever ended them, by gRPC status; cache hits do not count",
    ("code",),
)
EXECUTION = Spec(
    "buildgrid_execution_seconds",
    "histogram",
    "Time that the steps of executions took",
    ("property_label", "step"),
)

OUTBOX_ITEMS = Spec(
    "buildgrid_outbox_items_total", "counter", "Items for other services", ("outbox", "outcome")
)
OUTBOX_WAITING = Spec("buildgrid_outbox_waiting", "gauge", "Items not sent yet", ("outbox",))

# --- the inside of this replica

HELD_CALLS = Spec("buildgrid_held_bot_calls", "gauge", "Calls of bots that wait for work here")
WATCHED_JOBS = Spec("buildgrid_watched_jobs", "gauge", "Jobs that clients follow here")
BATCH_ITEMS = Spec(
    "buildgrid_batch_items",
    "histogram",
    "Requests done in one transaction, by thread: write, errand, read",
    ("thread",),
    buckets=ITEMS,
)
BATCH_SECONDS = Spec(
    "buildgrid_batch_seconds", "histogram", "Time that these transactions took, retries included", ("thread",)
)
STATEMENT_SECONDS = Spec(
    "buildgrid_statement_seconds",
    "histogram",
    "Time that the answer to a statement was waited for, and to what was sent before it in one go; commit is "
    "the end of a transaction",
    ("statement",),
)

# --- blobs, as far as they went through this replica

CAS_BYTES = Spec(
    "buildgrid_cas_bytes_total", "counter", "Bytes of blobs that were read and written", ("direction",)
)
CAS_SECONDS = Spec(
    "buildgrid_cas_seconds",
    "histogram",
    "Time that the storage took: has, read, write; streams count until their end",
    ("operation",),
    buckets=WAITS,
)
CAS_ERRORS = Spec(
    "buildgrid_cas_errors_total", "counter", "Calls of the storage that failed, by gRPC status", ("code",)
)
CAS_STORED = Spec("buildgrid_cas_stored_bytes", "gauge", "Room that blobs take on the disk of this replica")
CAS_LIMIT = Spec("buildgrid_cas_limit_bytes", "gauge", "Above this the least recently used blobs are evicted")

# --- calls

RPCS = Spec(
    "buildgrid_rpcs_total", "counter", "Calls that ended, by gRPC status", ("service", "method", "code")
)
RPC_SECONDS = Spec(
    "buildgrid_rpc_seconds",
    "histogram",
    "Time that calls with one answer took; those of bots are held while there is no work",
    ("service", "method"),
)
RPCS_RUNNING = Spec("buildgrid_rpcs_running", "gauge", "Calls under way", ("service", "method"))

# --- the process

READY = Spec("buildgrid_ready", "gauge", "1 while this replica can serve, as /readyz tells")
BUILD_INFO = Spec("buildgrid_build_info", "gauge", "Always 1", ("version", "schema_revision"))
CONFIG_INFO = Spec(
    "buildgrid_config_info", "gauge", "Always 1; the hash of the configuration in force", ("hash",)
)
RELOAD_SUCCESSFUL = Spec(
    "buildgrid_config_last_reload_successful",
    "gauge",
    "0 while the configuration file cannot be used, and the last good one is in force",
)
RELOADED_AT = Spec(
    "buildgrid_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When the configuration in force was taken up, in seconds since 1970",
)
RESTART_NEEDED = Spec(
    "buildgrid_config_restart_needed",
    "gauge",
    "1 while the configuration file has changes that take effect at the next start only",
)

PARTS: tuple[tuple[str, str, tuple[Spec, ...]], ...] = (
    (
        "The farm",
        "Read from the database, every `monitoring.fleet_interval`, in one query beside the hot path. Every "
        "replica tells the same numbers: take `max by (...)`, never `sum`.",
        (QUEUE_JOBS, QUEUE_OLDEST, JOBS, BOTS, BOTS_DRAINED, BOT_SLOTS, LEASES),
    ),
    (
        "Jobs and leases",
        "What went through this replica: sum over replicas.",
        (ENQUEUED, ASSIGNMENT, LEASE_ENDS, JOBS_COMPLETED, EXECUTION),
    ),
    (
        "Inside of a replica",
        "",
        (
            HELD_CALLS,
            WATCHED_JOBS,
            BATCH_ITEMS,
            BATCH_SECONDS,
            STATEMENT_SECONDS,
            FLEET_AGE,
            FLEET_FAILURES,
        ),
    ),
    (
        "Other services",
        "What assets, metering and log streams are told; `outgoing.metrics` fills them.",
        (OUTBOX_ITEMS, OUTBOX_WAITING),
    ),
    ("Blobs", "", (CAS_BYTES, CAS_SECONDS, CAS_ERRORS, CAS_STORED, CAS_LIMIT)),
    ("Calls", "", (RPCS, RPC_SECONDS, RPCS_RUNNING)),
    (
        "The process",
        "Besides these there are `process_*` and `python_info` of the Prometheus client.",
        (READY, BUILD_INFO, CONFIG_INFO, RELOAD_SUCCESSFUL, RELOADED_AT, RESTART_NEEDED),
    ),
)
CATALOGUE = tuple(spec for _, _, specs in PARTS for spec in specs)
