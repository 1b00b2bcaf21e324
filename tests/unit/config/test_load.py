"""Reading a configuration: defaults, files, the command line, the environment."""

from datetime import timedelta
from pathlib import Path

import pytest
from buildgrid_scheduler.config import Config, ConfigError, load_config
from buildgrid_scheduler.config.property_set import DynamicPropertySetConfig, StaticPropertySetConfig
from buildgrid_scheduler.config.storage import ObjectStorageConfig

from tests.unit.config.files import load, problem, refused


def test_without_a_file_there_are_the_defaults() -> None:
    config = load_config(None)
    assert config == Config()
    assert config.listen == "127.0.0.1:50051"
    assert config.instances == ("",)
    assert isinstance(config.property_set, DynamicPropertySetConfig)
    assert config.property_set.label_key == "Pool"


def test_paths_may_begin_with_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/builder")
    text = """
        data: ~/data
        database: {url_file: ~/url}
        storage: {type: object-store, url: "s3://b", secret_files: {key: ~/id}, tier: {path: ~/tier}}
    """
    config = load(tmp_path, text)
    assert (config.data, config.database.url_file) == (Path("/home/builder/data"), Path("/home/builder/url"))
    assert isinstance(config.storage, ObjectStorageConfig)
    assert config.storage.secret_files == {"key": Path("/home/builder/id")}
    assert config.storage.tier is not None
    assert config.storage.tier.path == Path("/home/builder/tier")
    assert load_config(None, {"data": Path("~/other")}).data == Path("/home/builder/other")
    assert load(tmp_path, "data: a/~/b").data == Path("a/~/b")


def test_servers_of_one_machine_bind_apart(tmp_path: Path) -> None:
    assert load(tmp_path, "{listen: '[::]:1', monitoring: {listen: '[::]:2'}}").listen == "[::]:1"
    assert load(tmp_path, "{listen: '127.0.0.1:0', monitoring: {listen: '127.0.0.1:0'}}").listen
    assert load(tmp_path, "{listen: '127.0.0.1:9090', monitoring: {listen: null}}").listen
    found = problem(tmp_path, "listen: '[::]:7'\nmonitoring:\n  listen: 127.0.0.1:7\n")
    assert (found.field, found.line) == ("monitoring.listen", 3)


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load(tmp_path, "") == Config()
    assert load(tmp_path, "# nothing\n") == Config()


def test_an_empty_section_is_its_defaults(tmp_path: Path) -> None:
    sections = ("storage", "action_cache", "property_set", "scheduler", "logging", "auth", "database")
    assert load(tmp_path, "".join(f"{name}:\n" for name in sections)) == Config()


def test_a_section_that_may_be_null_is_there_when_it_is_empty_and_not_there_when_it_is_null(
    tmp_path: Path,
) -> None:
    assert load(tmp_path, "tls: null").tls is None
    # Not null: so what it requires is missed.
    assert [found.field for found in refused(tmp_path, "tls:").problems] == [
        "tls.certificate_file",
        "tls.key_file",
    ]
    # On with its defaults: so it is missed that nobody could do anything.
    assert problem(tmp_path, "auth: {mtls: }").field == "auth.policy"


def test_fields_are_read(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        listen: "[::]:50051"
        instances: ["", main/team]
        scheduler: {max_queue_size: 7, priority_assignment_percentage: 0, max_execution_timeout: 1h30m}
        monitoring: {listen: null}
        storage: {max_bytes: 2Gi}
        """,
    )
    assert config.listen == "[::]:50051"
    assert config.instances == ("", "main/team")
    assert config.scheduler.max_queue_size == 7
    assert config.scheduler.priority_assignment_percentage == 0
    assert config.scheduler.max_execution_timeout == timedelta(minutes=90)
    assert config.monitoring.listen is None
    assert config.storage.type == "disk"
    assert config.storage.max_bytes == 2 * 1024**3


def test_a_choice_without_its_tag_is_the_default_one(tmp_path: Path) -> None:
    found = load(tmp_path, "property_set: {match_property_keys: [Pool, GPU]}").property_set
    assert isinstance(found, DynamicPropertySetConfig)
    assert found.match_property_keys == {"Pool", "GPU"}


def test_what_a_dynamic_property_set_leaves_out_follows_from_the_keys_that_it_knows(tmp_path: Path) -> None:
    found = load(tmp_path, "property_set: {match_property_keys: [ISA, GPU]}").property_set
    assert isinstance(found, DynamicPropertySetConfig)
    assert found.unique_property_keys == {"ISA"}
    assert found.label_key is None


def test_a_static_property_set_is_a_list_of_labels(tmp_path: Path) -> None:
    found = load(
        tmp_path,
        """
        property_set:
          kind: static
          labels:
            - {label: linux, properties: [{key: OSFamily, value: linux}, {key: ISA, value: x86-64}]}
            - {label: anything}
          wildcard_property_keys: [comment]
        """,
    ).property_set
    assert isinstance(found, StaticPropertySetConfig)
    assert [label.label for label in found.labels] == ["linux", "anything"]
    assert [(p.key, p.value) for p in found.labels[0].properties] == [
        ("OSFamily", "linux"),
        ("ISA", "x86-64"),
    ]
    assert found.wildcard_property_keys == {"comment"}


def test_overrides_win_over_the_file_field_by_field(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("listen: 127.0.0.1:1\ndata: /a\nlogging: {format: json, level: debug}")
    config = load_config(path, {"listen": "127.0.0.1:2", "logging.level": "error"})
    assert (config.listen, config.data) == ("127.0.0.1:2", Path("/a"))
    assert (config.logging.format, config.logging.level) == ("json", "error")


def test_a_bad_override_is_not_blamed_on_a_line_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "server.yaml"
    path.write_text("\nlisten: 127.0.0.1:1\n")
    with pytest.raises(ConfigError) as caught:
        load_config(path, {"listen": "nowhere"})
    assert str(caught.value).startswith("command line: listen: 'nowhere' is not HOST:PORT")
    with pytest.raises(ConfigError, match=r"^command line: monitoring\.listen: 'x' is not HOST:PORT"):
        load_config(None, {"monitoring.listen": "x"})


# --- variables


def test_variables_of_the_environment_are_put_in_anywhere(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        listen: ${HOST}:${PORT:-50051}
        scheduler: {max_queue_size: "${LIMIT}"}
        instances: ["${TEAM}/main"]
        """,
        {"HOST": "127.0.0.1", "LIMIT": "12", "TEAM": "a"},
    )
    assert config.listen == "127.0.0.1:50051"
    assert config.scheduler.max_queue_size == 12
    assert config.instances == ("a/main",)


def test_a_variable_can_hold_what_would_be_yaml(tmp_path: Path) -> None:
    url = "postgresql://u:p: {a}'#@db/x"
    assert load(tmp_path, "database: {url: '${URL}'}", {"URL": url}).database.url == url


def test_a_dollar_before_a_variable_takes_it_literally(tmp_path: Path) -> None:
    assert load(tmp_path, "data: $${HOME}/$x").data == Path("${HOME}/$x")


def test_a_default_holds_for_a_variable_that_is_empty(tmp_path: Path) -> None:
    assert load(tmp_path, "data: ${DIR:-/srv}", {"DIR": ""}).data == Path("/srv")


def test_a_variable_that_is_not_set_is_named_with_its_line(tmp_path: Path) -> None:
    found = problem(tmp_path, "listen: 127.0.0.1:1\ndata: ${NO_SUCH}")
    assert (found.line, found.field) == (2, "data")
    assert "the environment variable NO_SUCH is not set" in found.message
    assert "${NO_SUCH:-TEXT}" in found.message


def test_the_content_of_a_variable_is_not_shown_when_it_is_wrong(tmp_path: Path) -> None:
    told = str(
        refused(tmp_path, "listen: ${SECRET}\nscheduler: {max_job_attempts: '${SECRET}'}", {"SECRET": "hush"})
    )
    assert "hush" not in told
    assert told.count("${SECRET}") == 2


def test_a_url_with_a_password_is_not_shown(tmp_path: Path) -> None:
    told = str(refused(tmp_path, "database: {url: 'mysql://user:open-sesame@db/x'}"))
    assert "open-sesame" not in told
    assert "database.url: is not postgresql://USER[:PASSWORD]@HOST" in told


# --- files that are no configuration


@pytest.mark.parametrize(
    ("content", "words", "line"),
    [
        (b"- a\n- b\n", "must be a mapping of fields, is a list", 1),
        (b"\nword\n", "must be a mapping of fields, is a single value", 2),
        (b"a: 1\nb: [", "is not YAML", 2),
        (b"listen: \xff\xfe", "is not YAML: it is not text in UTF-8", None),
        (b"a: 1\n---\nb: 2\n", "is not YAML", 2),
        (b"a: &x [*x]\n", "contains itself", 1),
        (b"listen: a\nlisten: b\n", "is there twice, first in line 1", 2),
        (b"listen: !!python/object:os.system x\n", "cannot be read", 1),
    ],
    ids=["list", "word", "not YAML", "not text", "documents", "itself", "twice", "tag"],
)
def test_a_file_that_is_no_configuration_is_named(
    tmp_path: Path, content: bytes, words: str, line: int | None
) -> None:
    path = tmp_path / "server.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert words in str(caught.value)
    where = f"{path}:{line}: " if line is not None else f"{path}: "
    assert str(caught.value).startswith(where)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read: No such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path)


def test_anchors_and_merges_are_yaml_too(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        """
        scheduler: {max_job_attempts: &tries 3, max_infra_attempts: *tries}
        storage: &disk {path: /srv, max_bytes: 1Gi}
        """,
    )
    assert config.scheduler.max_infra_attempts == 3
