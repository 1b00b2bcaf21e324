"""Errors in a configuration name the field and the remedy."""

from pathlib import Path

import pytest
from buildgrid_scheduler.config import Config, ConfigError, load_config
from buildgrid_scheduler.config.property_set import DynamicPropertySetConfig


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "server.yaml"
    path.write_text(text)
    return load_config(path)


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert str(tmp_path / "server.yaml") in str(caught.value)
    return str(caught.value)


def test_without_a_file_there_are_the_defaults() -> None:
    config = load_config(None)
    assert config == Config()
    assert config.listen == "127.0.0.1:50051"
    assert config.instances == ("",)
    assert isinstance(config.property_set, DynamicPropertySetConfig)
    assert config.property_set.label_key == "Pool"


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()
    assert load(tmp_path, "# nothing\n") == Config()


def test_fields_are_read(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        listen: "[::]:50051"
        instances: ["", main/team]
        scheduler: {max_queue_size: 7, priority_assignment_percentage: 0}
        monitoring: {listen: null}
        """,
    )
    assert config.listen == "[::]:50051"
    assert config.instances == ("", "main/team")
    assert config.scheduler.max_queue_size == 7
    assert config.scheduler.priority_assignment_percentage == 0
    assert config.monitoring.listen is None


def test_overrides_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("listen: 127.0.0.1:1\ndata: /a")
    config = load_config(path, {"listen": "127.0.0.1:2"})
    assert (config.listen, config.data) == ("127.0.0.1:2", Path("/a"))


@pytest.mark.parametrize(
    ("text", "field", "nearest"),
    [
        ("lissten: 127.0.0.1:1", "lissten", "listen"),
        ("scheduler: {max_queue_sise: 3}", "scheduler.max_queue_sise", "max_queue_size"),
        ("storage: {max_byte: 3}", "storage.max_byte", "max_bytes"),
        ("property_set: {match_keys: []}", "property_set.match_keys", "match_property_keys"),
    ],
)
def test_an_unknown_field_suggests_the_nearest(tmp_path: Path, text: str, field: str, nearest: str) -> None:
    assert f"{field}: unknown field; did you mean {nearest}?" in problem(tmp_path, text)


def test_an_unknown_field_that_is_like_no_other_lists_what_there_is(tmp_path: Path) -> None:
    message = problem(tmp_path, "services: {zzzzzz: true}")
    assert "services.zzzzzz: unknown field; known here are action_cache, bots, cas, execution" in message


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("listen: nowhere", "listen"),
        ("listen: 'a b:1'", "listen"),
        ("monitoring: {listen: 9090}", "monitoring.listen"),
        ("instances: main", "instances"),
        ("scheduler: {max_job_attempts: 0}", "scheduler.max_job_attempts"),
        ("scheduler: {priority_assignment_percentage: 101}", "scheduler.priority_assignment_percentage"),
        ("scheduler: {bot_session_keepalive_timeout: soon}", "scheduler.bot_session_keepalive_timeout"),
        ("storage: {type: cloud}", "storage.type"),
        ("storage: {max_bytes: 10}", "storage.max_bytes"),
        ("property_set: {unique_property_keys: [Colour]}", "unique_property_keys: Colour"),
        ("property_set: {label_key: Colour}", "label_key: Colour"),
        ("database: 7", "database"),
    ],
)
def test_a_bad_value_names_its_field(tmp_path: Path, text: str, field: str) -> None:
    assert field in problem(tmp_path, text)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    message = problem(tmp_path, "listen: nowhere\nscheduler: {max_job_attempts: 0}\ncolour: red")
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"- a\n- b\n", "must be a mapping"), (b"a: [", "is not YAML"), (b"listen: \xff\xfe", "is not YAML")],
    ids=["a list", "not YAML", "not text"],
)
def test_a_file_that_is_no_configuration_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "server.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load_config(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("listen: 127.0.0.1:99999", "the port must be from 0 to 65535"),
        ("instances: [a/blobs/b]", "'blobs' may not be a segment"),
        ("instances: [a//b]", "no empty segments"),
        ("instances: [/x]", "no empty segments"),
    ],
)
def test_what_could_never_be_reached_is_refused(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_config(file)
