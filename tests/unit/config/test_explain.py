"""Errors in a configuration name the line, the field, the remedy, and the nearest known field."""

from pathlib import Path

import pytest

from tests.unit.config.files import problem, refused


@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ("lissten: 127.0.0.1:1", "lissten", "listen"),
        ("LISTEN: 127.0.0.1:1", "LISTEN", "listen"),
        ("scheduler: {max_queue_sise: 3}", "scheduler.max_queue_sise", "max_queue_size"),
        ("scheduler: {max-queue-size: 3}", "scheduler.max-queue-size", "max_queue_size"),
        ("storage: {max_byte: 3}", "storage.max_byte", "max_bytes"),
        ("property_set: {match_keys: []}", "property_set.match_keys", "match_property_keys"),
        ("storage: {type: remot}", "storage.type", "remote"),
        ("logging: {level: warn}", "logging.level", "warning"),
    ],
)
def test_what_is_unknown_suggests_the_nearest(tmp_path: Path, text: str, field: str, nearest: str) -> None:
    found = problem(tmp_path, text)
    assert (found.field, found.nearest) == (field, nearest)
    assert str(refused(tmp_path, text)).endswith(f"; did you mean {nearest}?")


def test_an_unknown_field_that_is_like_no_other_lists_what_there_is(tmp_path: Path) -> None:
    message = problem(tmp_path, "services: {zzzzzz: true}").message
    assert message == "unknown field; known here are action_cache, bots, cas, execution, reflection"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("scheduler: {level: info}", "unknown field here; level belongs to logging"),
        ("scheduler: {instances: [a]}", "unknown field here; instances belongs to the top level"),
        ("storage: {type: disk, region: x}", "unknown field; region belongs to object-store"),
        ("storage: {endpoin: x}", "unknown field; endpoint belongs to object-store and remote"),
        ("property_set: {labels: []}", "unknown field; labels belongs to static"),
    ],
)
def test_a_field_at_the_wrong_place_is_told_the_right_one(tmp_path: Path, text: str, message: str) -> None:
    assert problem(tmp_path, text).message == message


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("listen: nowhere", "listen", "'nowhere' is not HOST:PORT"),
        ("listen: 'a b:1'", "listen", "is not HOST:PORT"),
        ("listen: 127.0.0.1:99999", "listen", "the port must be from 0 to 65535"),
        ("listen: ", "listen", "is empty; give it a value, or remove the line"),
        ("monitoring: {listen: 9090}", "monitoring.listen", "must be HOST:PORT (is the number 9090); write"),
        ("listen: 50051", "listen", "must be HOST:PORT (is the number 50051); write for"),
        ("listen: '50051'", "listen", "'50051' is not HOST:PORT; write for example"),
        ("scheduler: {max_job_attempts: '5'}", "scheduler.max_job_attempts", "'5'); write it without quotes"),
        ("scheduler: {max_job_attempts: yes}", "scheduler.max_job_attempts", "must be a number (is true)"),
        ("scheduler: {check_input_tree: 1}", "scheduler.check_input_tree", "must be true or false (is 1)"),
        ("database: {migrate: 'off'}", "database.migrate", "must be true or false (is 'off')"),
        ("scheduler: {queue_timeout: {job_max_age: 0}}", "scheduler.queue_timeout.job_max_age", "least 1s"),
        ("scheduler: {pruning: {job_max_age: 0s}}", "scheduler.pruning.job_max_age", "at least 1s (is 0s)"),
        (
            "property_set: {match_property_keys: [Pool, ISA, Pool]}",
            "property_set.match_property_keys[2]",
            "'Pool' is there twice; keep one",
        ),
        (
            "property_set: {wildcard_property_keys: [Pool]}",
            "property_set.wildcard_property_keys",
            "Pool: must not be in match_property_keys, too, as it is by default",
        ),
        (
            "property_set: {kind: static, labels: [{label: a}], wildcard_property_keys: [x, x]}",
            "property_set.wildcard_property_keys[1]",
            "'x' is there twice",
        ),
        ("data: [a]", "data", "must be a path"),
        ("instances: main", "instances", "must be a list, for example [main]"),
        ("instances: []", "instances", "must not be empty"),
        ("instances: [a/blobs/b]", "instances[0]", "'blobs' may not be a segment"),
        ("instances: [x, a//b]", "instances[1]", "no empty segments"),
        ("instances: [a, b, a]", "instances[2]", "'a' is there twice; keep one"),
        ("listen: '[::]:9090'", "listen", "[::]:9090 is where monitoring.listen (127.0.0.1:9090) is, too"),
        ("data: ~nobody-of-this-name/x", "data", "there is no such home folder; write the path in full"),
        ("instances: [/x]", "instances[0]", "no empty segments"),
        ("scheduler: {max_job_attempts: 0}", "scheduler.max_job_attempts", "must be at least 1 (is 0)"),
        ("scheduler: {max_job_attempts: 1.5}", "scheduler.max_job_attempts", "a whole number (is 1.5)"),
        ("scheduler: {max_job_attempts: many}", "scheduler.max_job_attempts", "must be a number (is 'many')"),
        (
            "scheduler: {priority_assignment_percentage: 101}",
            "scheduler.priority_assignment_percentage",
            "must be at most 100 (is 101)",
        ),
        (
            "scheduler: {bot_session_keepalive_timeout: soon}",
            "scheduler.bot_session_keepalive_timeout",
            "'soon' is not a duration; write seconds as a number, or for example 90s",
        ),
        (
            "scheduler: {bot_session_keepalive_timeout: 1s}",
            "scheduler.bot_session_keepalive_timeout",
            "must be at least 5s (is 1s)",
        ),
        ("scheduler: {cache_failed_actions: maybe}", "scheduler.cache_failed_actions", "true or false"),
        ("scheduler: {action_browser_url: here}", "scheduler.action_browser_url", "'here' is not a URL"),
        ("storage: {max_bytes: 10}", "storage.max_bytes", "must be at least 1Mi (is 10)"),
        ("storage: {max_bytes: huge}", "storage.max_bytes", "'huge' is not a size"),
        ("storage: {type: cloud}", "storage.type", "one of disk, memory, object-store, remote"),
        ("storage: {type: remote}", "storage.endpoint", "is required; add it"),
        ("database: 7", "database", "must be a section with fields of its own (is 7)"),
        ("database: {url: 'postgresql://a/b', url_file: f}", "database.url_file", "excludes url"),
        ("property_set: {unique_property_keys: [Colour]}", "property_set.unique_property_keys", "Colour: "),
        ("property_set: {label_key: Colour}", "property_set.label_key", "Colour: must also"),
        ("property_set: {label_key: yes}", "property_set.label_key", "YAML takes yes, no, on and off"),
        ("property_set: {kind: static, labels: []}", "property_set.labels", "must not be empty"),
        (
            "property_set: {kind: static, labels: [{label: a}, {label: a}]}",
            "property_set.labels[1].label",
            "'a' is there twice",
        ),
        ("services: {execution: no, bots: no, cas: no, action_cache: no}", "services", "switch on"),
        ("logging: {loggers: {a b: debug}}", "logging.loggers.a b", "is not the name of a logger"),
        ("logging: {format: xml}", "logging.format", "must be one of text, json (is 'xml')"),
        ("reload: {interval: 0}", "reload.interval", "must be at least 0.1s"),
        ("auth: {jwt: [{audiences: [a], algorithms: [none]}]}", "auth.jwt[0].algorithms[0]", "HS256"),
    ],
)  # fmt: skip
def test_a_bad_value_is_told_with_its_field_and_the_remedy(
    tmp_path: Path, text: str, field: str, words: str
) -> None:
    found = problem(tmp_path, text)
    assert found.field == field
    assert words in found.message
    assert found.line == 1


def test_lines_are_those_of_the_fields(tmp_path: Path) -> None:
    error = refused(
        tmp_path,
        "# comment\n"
        "listen: nowhere\n"
        "scheduler:\n"
        "  max_job_attempts: 3\n"
        "\n"
        "  max_infra_attempts: 0\n"
        "colour: red\n"
        "property_set:\n"
        "  kind: static\n"
        "  labels:\n"
        "    - label: a\n"
        "    - properties: []\n",
    )
    assert [(found.line, found.field) for found in error.problems] == [
        (2, "listen"),
        (6, "scheduler.max_infra_attempts"),
        (7, "colour"),
        (12, "property_set.labels[1].label"),
    ]


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = refused(tmp_path, "colour: red\nscheduler: {max_job_attempts: 0}\nlisten: nowhere")
    starts = [line.split(": ")[0].rpartition(":")[2] for line in str(error).splitlines()]
    assert starts == ["1", "2", "3"]


def test_what_cannot_be_read_is_told_together_with_what_cannot_be_used(tmp_path: Path) -> None:
    error = refused(
        tmp_path,
        "data: ${NOWHERE}\n"
        "listen: nowhere\n"
        "scheduler: {max_job_attempts: 0, check_input_tree: 1}\n"
        "listen: 127.0.0.1:1\n",
    )
    assert [(found.line, found.field) for found in error.problems] == [
        (1, "data"),
        (3, "scheduler.check_input_tree"),
        (3, "scheduler.max_job_attempts"),
        (4, "listen"),
    ]


def test_a_value_that_fits_none_of_several_kinds_is_one_problem(tmp_path: Path) -> None:
    assert problem(tmp_path, "scheduler: {max_queue_size: [1]}").field == "scheduler.max_queue_size"
