"""The hot SQL, all of it. Each statement takes arrays and serves a whole batch.

Locks are taken in one order, everywhere: in_flight, then bots, then queue and leases, then jobs. Whoever
finishes a job deletes its in_flight row only if nobody holds it, so that nothing ever waits for an
in_flight row while it holds one of the others. A stale row is harmless: enqueueing sees that its job is
complete and replaces it.
"""

# Connections that run these plan them once: joins of a handful of rows against large tables, which are
# right as index loops whatever the statistics of tables that fill and empty all day say.
HOT_SETTINGS = (
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
    "SET enable_seqscan = off",
    "SET jit = off",
    "SET statement_timeout = '30s'",
    "SET lock_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '60s'",
)

# One row in `in_flight` decides which job is shared. The insert waits for another transaction that writes
# the same row and then returns what that one committed, so two replicas can not both create the job.
# Whether a job is complete is looked up in this statement's snapshot, which may be older than the row: a
# job that is not visible yet counts as running. It can be complete by now; sharing it is right then, too.
# What has an entry in the action cache is not enqueued: its outputs have to be looked for in the CAS first.
ENQUEUE = """
WITH asked AS MATERIALIZED (
  SELECT * FROM unnest(
    %(job_name)s::text[], %(instance)s::text[], %(digest)s::text[], %(shareable)s::bool[],
    %(action)s::bytea[], %(do_not_cache)s::bool[], %(priority)s::int4[], %(hash)s::text[],
    %(platform)s::text[], %(label)s::text[], %(command)s::text[], %(response)s::bytea[], %(status)s::int4[],
    %(look_up)s::bool[])
  AS t(job_name, instance, digest, shareable, action, do_not_cache, priority, hash, platform, label,
       command, response, status, look_up)
), hit AS MATERIALIZED (
  SELECT i.job_name, a.result FROM asked i JOIN action_results a
    ON a.instance_name = i.instance AND a.action_digest = i.digest
  WHERE i.look_up
), item AS MATERIALIZED (
  SELECT a.* FROM asked a WHERE NOT EXISTS (SELECT 1 FROM hit h WHERE h.job_name = a.job_name)
), flight AS (
  INSERT INTO in_flight AS f (instance_name, action_digest, job_name)
  SELECT instance, digest, job_name FROM item WHERE shareable ORDER BY instance, digest
  ON CONFLICT (instance_name, action_digest) DO UPDATE SET job_name =
    CASE WHEN EXISTS (SELECT 1 FROM jobs j WHERE j.name = f.job_name AND j.completed_at IS NOT NULL)
    THEN excluded.job_name ELSE f.job_name END
  RETURNING f.instance_name, f.action_digest, f.job_name
), placed AS MATERIALIZED (
  SELECT item.*, coalesce(flight.job_name, item.job_name) AS home
  FROM item LEFT JOIN flight
    ON item.shareable AND flight.instance_name = item.instance AND flight.action_digest = item.digest
), job AS (
  INSERT INTO jobs (name, instance_name, action_digest, action, do_not_cache, priority, requirement_hash,
                    platform_requirements, property_label, command, n_tries, queued_at, completed_at,
                    response, status_code)
  SELECT job_name, instance, digest, action, do_not_cache, priority, hash, platform::jsonb, label, command,
         1, %(now)s, CASE WHEN response IS NULL THEN NULL ELSE %(now)s END, response, status
  FROM placed WHERE home = job_name
  ON CONFLICT (name) DO NOTHING
  RETURNING name
), queued AS (
  INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority, queued_at)
  SELECT p.job_name, p.instance, p.hash, p.label, p.priority, %(now)s
  FROM placed p JOIN job ON job.name = p.job_name WHERE p.response IS NULL
), operation AS (
  INSERT INTO operations (name, instance_name, job_name, created_at, request_metadata_hash,
                          client_identity_id, watched_at)
  SELECT o.name, p.instance, p.home, %(now)s, o.metadata, o.identity,
         CASE WHEN o.watched THEN %(now)s::timestamptz END
  FROM unnest(%(op_name)s::text[], %(op_leader)s::text[], %(op_metadata)s::text[], %(op_identity)s::int8[],
              %(op_watched)s::bool[])
    AS o(name, leader, metadata, identity, watched)
  JOIN placed p ON p.job_name = o.leader
  ON CONFLICT (name) DO NOTHING
)
SELECT p.job_name, p.home, job.name IS NOT NULL AS made, NULL::bytea AS result
FROM placed p LEFT JOIN job ON job.name = p.job_name
UNION ALL SELECT h.job_name, NULL, false, h.result FROM hit h
"""

# Before ENQUEUE is run again after a commit that may have gone through.
JOBS_OF_OPERATIONS = "SELECT name, job_name FROM operations WHERE name = ANY(%s::text[])"

# A statement of its own: ENQUEUE may have waited for the transaction that made the job, whose row in the
# queue is not in its snapshot.
RAISE_PRIORITY = """
UPDATE queue q SET priority = t.priority
FROM unnest(%s::text[], %s::text[], %s::text[], %s::int4[]) AS t(instance, digest, job, priority)
JOIN in_flight f ON f.instance_name = t.instance AND f.action_digest = t.digest AND f.job_name <> t.job
WHERE q.job_name = f.job_name AND q.priority > t.priority
"""

# A job that is born complete must not be found by those who come after it.
FORGET_FLIGHT = """
DELETE FROM in_flight f USING unnest(%s::text[], %s::text[], %s::text[]) AS d(instance, digest, job)
WHERE f.instance_name = d.instance AND f.action_digest = d.digest AND f.job_name = d.job
"""

# Where a limit is set, one replica at a time may add to an instance and label: before any other lock.
LOCK_LABELS = """
SELECT pg_advisory_xact_lock(hashtextextended(k, 0)) FROM (SELECT unnest(%s::text[]) AS k ORDER BY 1) t
"""

# How many jobs of an instance and label wait, counted up to `limit` and no further.
COUNT_WAITING = """
SELECT count(*) FROM (SELECT 1 FROM queue WHERE instance_name = %s AND property_label = %s LIMIT %s) t
"""

SHARED_NOW = """
SELECT f.instance_name, f.action_digest
FROM unnest(%s::text[], %s::text[]) AS t(i, d)
JOIN in_flight f ON f.instance_name = t.i AND f.action_digest = t.d
JOIN jobs j ON j.name = f.job_name AND j.completed_at IS NULL
"""

CACHED_NOW = """
SELECT a.instance_name, a.action_digest
FROM unnest(%s::text[], %s::text[]) AS t(i, d)
JOIN action_results a ON a.instance_name = t.i AND a.action_digest = t.d
"""

ADD_REQUIREMENTS = """
INSERT INTO requirements (requirement_hash, requirements)
SELECT h, r::jsonb FROM unnest(%s::text[], %s::text[]) AS t(h, r) ORDER BY h ON CONFLICT DO NOTHING
"""

# The row is in use from now on, whoever wrote it: pruning deletes none that was asked for a short while ago.
ADD_REQUEST_METADATA = """
INSERT INTO request_metadata (hash, tool_name, tool_version, action_id, invocation_id,
  correlated_invocations_id, action_mnemonic, target_id, configuration_id)
SELECT * FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
  %s::text[], %s::text[]) AS t(h, a, b, c, d, e, f, g, i) ORDER BY 1
ON CONFLICT (hash) DO UPDATE SET created_at = now()
"""

# The marks are looked at only for a bot that has one.
LOCK_SESSIONS = """
SELECT name, instance_name, bot_id, capacity, completed_leases, latest_call, capacity_class, avoided_until,
       drained,
       CASE WHEN drained THEN (SELECT d.disrupted FROM drains d WHERE d.instance_name = bots.instance_name
                               AND d.bot_id = bots.bot_id) END
FROM bots WHERE name = ANY(%s::text[]) ORDER BY name FOR NO KEY UPDATE
"""

# For a bot that was marked while LOCK_SESSIONS waited for its row.
DISRUPTED_SESSIONS = """
SELECT b.name FROM bots b WHERE b.name = ANY(%s::text[]) AND (
  SELECT d.disrupted FROM drains d WHERE d.instance_name = b.instance_name AND d.bot_id = b.bot_id)
"""

LOCK_LEASES = """
SELECT l.session_name, l.job_name, l.state, l.told_at, l.started_at, l.requirement_hash, l.property_label,
       l.queued_at, j.instance_name, j.action_digest, j.do_not_cache, j.n_tries, j.n_infra_tries,
       l.partial_metadata
FROM leases l JOIN jobs j ON j.name = l.job_name
WHERE l.session_name = ANY(%s::text[]) ORDER BY l.job_name FOR UPDATE OF l
"""

LEASE_ACTIONS = "SELECT name, action FROM jobs WHERE name = ANY(%s::text[])"

COMPLETE_JOBS = """
UPDATE jobs j SET completed_at = %s, response = d.response, status_code = d.status, worker_name = d.worker,
  assigned_at = d.assigned, worker_start_at = d.started, worker_completed_at = d.ended
FROM unnest(
  %s::text[], %s::bytea[], %s::int4[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
  AS d(name, response, status, worker, assigned, started, ended)
WHERE j.name = d.name AND j.completed_at IS NULL
"""

LEAVE_FLIGHT = """
DELETE FROM in_flight WHERE ctid = ANY(ARRAY(
  SELECT f.ctid FROM unnest(%s::text[], %s::text[], %s::text[]) AS d(instance, digest, job)
  JOIN in_flight f ON f.instance_name = d.instance AND f.action_digest = d.digest AND f.job_name = d.job
  FOR UPDATE OF f SKIP LOCKED))
"""

STORE_RESULTS = """
INSERT INTO action_results (instance_name, action_digest, result, stored_at)
SELECT i, d, r, %s FROM unnest(%s::text[], %s::text[], %s::bytea[]) AS t(i, d, r) ORDER BY i, d
ON CONFLICT (instance_name, action_digest) DO UPDATE SET result = excluded.result,
  stored_at = excluded.stored_at
"""

DELETE_LEASES = "DELETE FROM leases WHERE job_name = ANY(%s::text[])"

# For jobs that were cancelled while a bot had them, when it has let go: who ran them, and when.
NOTE_STOPPED = """
UPDATE jobs j SET worker_name = d.worker, assigned_at = d.assigned, worker_start_at = d.started,
  worker_completed_at = d.ended
FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
  AS d(name, worker, assigned, started, ended)
WHERE j.name = d.name AND j.worker_name IS NULL
"""

# Before DELETE_LEASES: what waits keeps its priority and queued time. The counts are added to: an earlier
# loss may be acquitted meanwhile (engine.takeovers). A job that a bot could not do avoids all bots that have
# had it, and for longer, until `rather`, where there is another that is like the last in all that jobs may
# require. Those bots are to look out for it; a row that somebody has locked just now is not waited for, since
# that could be a deadlock.
REQUEUE = """
WITH back AS (
  SELECT l.job_name, l.instance_name, t.hash, l.property_label, l.priority, l.queued_at, t.tries, t.infra,
         t.attempt::jsonb AS attempt, t.avoid, t.bot, had.bots,
         CASE WHEN had.bots IS NOT NULL AND EXISTS (
           SELECT 1 FROM bots o WHERE o.instance_name = l.instance_name AND o.bot_id <> ALL(had.bots)
             AND o.status = 1 AND NOT o.drained AND o.expires_at > t.now
             AND o.offer = (SELECT b.offer FROM bots b WHERE b.name = l.session_name))
         THEN t.rather ELSE t.until END AS until
  FROM unnest(%s::text[], %s::int4[], %s::int4[], %s::text[], %s::text[], %s::text[], %s::text[],
              %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])
    AS t(job, tries, infra, hash, attempt, avoid, bot, until, rather, now)
  JOIN leases l ON l.job_name = t.job
  CROSS JOIN LATERAL (SELECT CASE WHEN t.bot IS NOT NULL THEN ARRAY(
    SELECT t.bot UNION SELECT a ->> 'bot' FROM jobs j, jsonb_array_elements(j.attempts) a
    WHERE j.name = t.job) END AS bots) had
), counted AS (
  UPDATE jobs j SET n_tries = j.n_tries + b.tries, n_infra_tries = j.n_infra_tries + b.infra,
    attempts = CASE WHEN b.attempt IS NULL THEN j.attempts
                    ELSE coalesce(j.attempts, '[]'::jsonb) || b.attempt END
  FROM back b WHERE j.name = b.job_name
), had_it AS MATERIALIZED (
  SELECT o.name, b.until FROM back b
  JOIN bots o ON o.instance_name = b.instance_name AND o.bot_id = ANY(b.bots) AND o.bot_id <> b.bot
  ORDER BY o.name FOR NO KEY UPDATE OF o SKIP LOCKED
), warned AS (
  UPDATE bots o SET avoided_until = greatest(o.avoided_until, h.until)
  FROM (SELECT name, max(until) AS until FROM had_it GROUP BY name) h WHERE o.name = h.name
)
INSERT INTO queue (job_name, instance_name, requirement_hash, property_label, priority, queued_at,
                   avoid_class, avoid_bots, avoid_until)
SELECT job_name, instance_name, hash, property_label, priority, queued_at, avoid, bots, until FROM back
ON CONFLICT DO NOTHING
"""

SET_LEASES = """
UPDATE leases l SET state = t.state, told_at = coalesce(l.told_at, %s),
  started_at = coalesce(l.started_at, t.started), partial_metadata = coalesce(t.partial, l.partial_metadata)
FROM unnest(%s::text[], %s::int2[], %s::timestamptz[], %s::bytea[]) AS t(job, state, started, partial)
WHERE l.job_name = t.job
"""

REFRESH_SESSIONS = """
UPDATE bots b SET expires_at = t.expires, status = t.status, completed_leases = t.completed,
  latest_call = t.call, lease_count = b.lease_count + t.given,
  avoided_until = greatest(b.avoided_until, t.avoided)
FROM unnest(%s::timestamptz[], %s::text[], %s::int2[], %s::text[], %s::text[], %s::int8[], %s::timestamptz[])
  AS t(expires, name, status, completed, call, given, avoided)
WHERE b.name = t.name
"""

DELETE_SESSIONS = "DELETE FROM bots WHERE name = ANY(%s::text[])"

# Choose in index order without locks, lock what was chosen, skip what others hold: a replica never locks
# what it does not take. `chosen` above the number of rows means that others were faster: ask again.
_CLAIM = """
WITH candidate AS MATERIALIZED (
  SELECT q.job_name FROM unnest(%(hashes)s::text[]) AS h(hash)
  CROSS JOIN LATERAL (
    SELECT q.job_name, q.priority, q.queued_at FROM queue q
    WHERE q.instance_name = %(instance)s AND q.requirement_hash = h.hash
      AND q.job_name <> ALL(%(exclude)s::text[]){filter}
    ORDER BY {order} LIMIT %(n)s) q
  ORDER BY {order} LIMIT %(n)s
), locked AS MATERIALIZED (
  SELECT q.job_name FROM candidate c JOIN queue q ON q.job_name = c.job_name FOR UPDATE OF q SKIP LOCKED
), taken AS (
  DELETE FROM queue q USING locked l WHERE q.job_name = l.job_name RETURNING q.*
), numbered AS (
  SELECT q.*, row_number() OVER (ORDER BY {order}) AS n FROM taken q
), lease AS (
  INSERT INTO leases (job_name, instance_name, session_name, state, told_at, requirement_hash,
                      property_label, priority, queued_at)
  SELECT t.job_name, t.instance_name, b.session, 1, %(told_at)s, t.requirement_hash, t.property_label,
         t.priority, t.queued_at
  FROM numbered t JOIN unnest(%(slots)s::text[]) WITH ORDINALITY AS b(session, n) ON b.n = t.n
  RETURNING job_name, session_name, requirement_hash, property_label, queued_at
)
SELECT (SELECT count(*) FROM candidate) AS chosen, l.session_name, l.job_name, j.action, j.action_digest,
       l.requirement_hash, {avoided} AS avoided, l.property_label, l.queued_at
FROM (SELECT 1) one LEFT JOIN lease l ON true LEFT JOIN jobs j ON j.name = l.job_name
"""
_BY_PRIORITY, _BY_AGE = "q.priority, q.queued_at, q.job_name", "q.queued_at, q.job_name"
CLAIM_BY_PRIORITY = _CLAIM.format(order=_BY_PRIORITY, filter="", avoided="NULL::text[]")
CLAIM_BY_AGE = _CLAIM.format(order=_BY_AGE, filter="", avoided="NULL::text[]")

# For bots of a capacity class: jobs that avoid it are passed over. When nothing else is left, `avoided` are
# the hashes under which such jobs wait. For one bot, of whatever class, on which jobs failed a while ago, it
# is those that avoid that bot, too.
_FILTER = """
      AND (({avoids}) IS NOT TRUE OR q.avoid_until <= %(now)s::timestamptz)"""
_AVOIDED = """CASE WHEN (SELECT count(*) FROM candidate) < %(n)s THEN ARRAY(
         SELECT h FROM unnest(%(hashes)s::text[]) AS h WHERE EXISTS (
           SELECT 1 FROM queue q WHERE q.instance_name = %(instance)s AND q.requirement_hash = h
             AND ({avoids}) AND q.avoid_until > %(now)s::timestamptz)) END"""
_CLASS = "q.avoid_class = %(class)s::text"
_BOT = f"{_CLASS} OR %(bot)s::text = ANY(q.avoid_bots)"


def _claim_past(avoids: str, order: str) -> str:
    return _CLAIM.format(
        order=order, filter=_FILTER.format(avoids=avoids), avoided=_AVOIDED.format(avoids=avoids)
    )


CLAIM_BY_PRIORITY_FOR_CLASS, CLAIM_BY_AGE_FOR_CLASS = (
    _claim_past(_CLASS, _BY_PRIORITY),
    _claim_past(_CLASS, _BY_AGE),
)
CLAIM_BY_PRIORITY_FOR_BOT, CLAIM_BY_AGE_FOR_BOT = _claim_past(_BOT, _BY_PRIORITY), _claim_past(_BOT, _BY_AGE)

# A suspect was claimed for a bot that still runs something else: it is told of it only after that.
TELL_LATER = "UPDATE leases SET told_at = NULL WHERE job_name = ANY(%s::text[])"

# The distinct (instance, hash) with waiting jobs: one index probe each, however deep the queue is. A suspect
# requires what its hash without the prefix does (core.suspects).
WAITING_HASHES = """
WITH RECURSIVE w(instance_name, requirement_hash) AS (
  (SELECT instance_name, requirement_hash FROM queue ORDER BY 1, 2 LIMIT 1)
  UNION ALL
  SELECT n.instance_name, n.requirement_hash FROM w CROSS JOIN LATERAL (
    SELECT q.instance_name, q.requirement_hash FROM queue q
    WHERE (q.instance_name, q.requirement_hash) > (w.instance_name, w.requirement_hash)
    ORDER BY 1, 2 LIMIT 1) n
)
SELECT w.instance_name, w.requirement_hash, r.requirements
FROM w JOIN requirements r ON r.requirement_hash = regexp_replace(w.requirement_hash, '^alone:', '')
"""

LOAD_OPERATIONS = """
SELECT o.name, o.instance_name, o.job_name, o.cancelled, j.action_digest, j.completed_at IS NOT NULL,
       j.response, l.told_at IS NOT NULL, l.partial_metadata, j.stdout_stream_name, j.stderr_stream_name,
       c.instance, c.workflow, c.actor, c.subject
FROM operations o JOIN jobs j ON j.name = o.job_name LEFT JOIN leases l ON l.job_name = o.job_name
LEFT JOIN client_identities c ON c.id = o.client_identity_id
WHERE o.name = ANY(%s::text[])
"""

NOTIFY = "SELECT pg_notify(%s, p) FROM unnest(%s::text[]) AS t(p)"
