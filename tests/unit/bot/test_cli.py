"""The command line: what is understood, and what the refusals say."""

import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from buildgrid_bot.cli import main
from buildgrid_bot.options import Options, checked, default_bot_id, option_parser, parse_size
from buildgrid_bot.sandbox import Root
from buildgrid_bot.worker_properties import describe, parse_properties, with_defaults


@pytest.fixture(autouse=True)
def keep_logging() -> Iterator[None]:
    """`main` sets logging up for a process of its own."""
    root = logging.getLogger()
    before = root.level, list(root.handlers)
    yield
    root.setLevel(before[0])
    root.handlers[:] = before[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "--endpoint"),
        (["--endpoint", "localhost"], "grpc://HOST:PORT"),
        (["--endpoint", "grpc://h:1", "--cas-endpoint", "http://x"], "--cas-endpoint"),
        (["--endpoint", "grpc://h:1", "--logstream-endpoint", "h:1"], "--logstream-endpoint: endpoint 'h:1'"),
        (["--endpoint", "grpc://h:1", "--property", "x"], "--property"),
        (["--endpoint", "grpc://h:1", "--slots", "0"], "--slots"),
        (["--endpoint", "grpc://h:1", "--cache-bytes", "much"], "--cache-bytes"),
        (["--endpoint", "grpc://h:1", "--sandbox-path", "/no/such/path"], "--sandbox-path: /no/such/path"),
        (["--endpoint", "grpc://h:1", "--sandbox-path", "relative"], "--sandbox-path: relative"),
        (["--endpoint", "grpc://h:1", "--root", "input", "--sandbox", "none"], "or use --root system"),
        (["--endpoint", "grpc://h:1", "--tls-ca", "x"], "--tls-ca: grpc://h:1 is without TLS; name it grpcs"),
        (["--endpoint", "grpcs://h:1", "--tls-key", "x"], "--tls-key needs --tls-certificate"),
        (["--endpoint", "grpcs://h:1", "--token-file", "/none"], "--token-file: /none cannot be read"),
        (
            ["--endpoint", "grpc://h:1", "--tls-server-name", "x"],
            "--tls-server-name: grpc://h:1 is without TLS",
        ),
        (["--endpoint", "grpc://h:1", "--disk-bytes", "much"], "--disk-bytes: 'much' is not a size"),
        (["--endpoint", "grpc://h:1", "--disk-bytes", "0"], "--disk-bytes: 0 is no room at all"),
        (["--endpoint", "grpc://h:1", "--log-format", "xml"], "--log-format: 'xml' is none of text, json"),
    ],
)
def test_refusals_name_the_flag(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BUILDGRID_BOT_ENDPOINT", raising=False)
    with pytest.raises(SystemExit) as caught:
        main(["run", *arguments])
    assert caught.value.code == 2
    assert told in capsys.readouterr().err.splitlines()[-1]


def options(*flags: str) -> Options:
    """What `run` makes of the flags, and of the environment."""
    return checked(option_parser().parse_args(["run", "--endpoint", "grpc://h:1", *flags]))


def test_whatever_a_flag_says_may_come_from_a_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in {
        "ENDPOINT": "grpcs://farm:1",
        "CAS_ENDPOINT": "grpcs://cas:1",
        "LOGSTREAM_ENDPOINT": "grpcs://logs:1",
        "TLS_SERVER_NAME": "farm.example.org",
        "INSTANCE": "team/a",
        "PROPERTIES": "OSFamily=linux\nISA=riscv64\nPool=a=b c\n",
        "WORKER_PROPERTIES": "rack=7",
        "SLOTS": "3",
        "BOT_ID": "linux-7",
        "CAPACITY_CLASS": "spot",
        "CACHE_DIR": str(tmp_path),
        "CACHE_BYTES": "1G",
        "DISK_BYTES": "10G",
        "SANDBOX_PATHS": "/usr\n/etc",
        "ROOT": "input",
    }.items():
        monkeypatch.setenv(f"BUILDGRID_BOT_{name}", value)
    read = checked(option_parser().parse_args(["run"]))
    assert (read.endpoint, read.cas_endpoint) == ("grpcs://farm:1", "grpcs://cas:1")
    assert (read.logstream_endpoint, read.server_name) == ("grpcs://logs:1", "farm.example.org")
    assert (read.instance, read.bot_id, read.slots) == ("team/a", "linux-7", 3)
    assert read.properties == [("OSFamily", "linux"), ("ISA", "riscv64"), ("Pool", "a=b c")]
    assert read.worker_properties == [("rack", "7"), ("capacity-class", "spot")]
    assert (read.cache_dir, read.cache_bytes, read.disk_bytes) == (tmp_path, 1 << 30, 10 << 30)
    assert (read.sandbox_paths, read.root) == (["/usr", "/etc"], Root.INPUT)


def test_flags_count_before_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDGRID_BOT_PROPERTIES", "ISA=a\nPool=x")
    monkeypatch.setenv("BUILDGRID_BOT_SLOTS", "3")
    monkeypatch.setenv("BUILDGRID_BOT_LOG_FORMAT", "json")
    read = options("--property", "ISA=b", "--property", "ISA=c", "--slots", "4")
    assert read.properties[:2] == [("ISA", "b"), ("ISA", "c")] and ("Pool", "x") not in read.properties
    assert read.slots == 4
    arguments = option_parser().parse_args(["run", "--log-format", "text"])
    assert arguments.log_format == "text" and option_parser().parse_args(["run"]).log_format == "json"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SLOTS", "many", "--slots: invalid int value: 'many'"),
        ("LOG_FORMAT", "xml", "--log-format: 'xml' is none of text, json"),
        ("SANDBOX", "gvisor", "--sandbox: 'gvisor' is none of auto, bubblewrap, none"),
        ("PROPERTIES", "ISA", "--property: 'ISA' is not KEY=VALUE"),
    ],
)
def test_a_variable_that_is_of_no_use_is_refused_as_its_flag(
    name: str, value: str, told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"BUILDGRID_BOT_{name}", value)
    with pytest.raises(SystemExit):
        main(["run", "--endpoint", "grpc://h:1"])
    assert told in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], 10 << 30),
        (["--cache-bytes", "1G"], 1 << 30),
        (["--disk-bytes", "100G"], 70 << 30),
        (["--disk-bytes", "100G", "--cache-bytes", "5G"], 5 << 30),
        (["--disk-bytes", "100G", "--cache-bytes", "90G"], 70 << 30),
    ],
)
def test_the_cache_takes_no_more_than_its_share_of_the_disk(flags: list[str], expected: int) -> None:
    assert options(*flags).cache_bytes == expected


def test_every_flag_names_its_variable() -> None:
    run = option_parser()._subparsers._group_actions[0].choices["run"]  # type: ignore[union-attr,index]
    flags = [action for action in run._actions if action.dest != "help"]
    assert len(flags) > 15
    assert [flag.dest for flag in flags if "[BUILDGRID_BOT_" not in flag.help] == []


def test_a_missing_bubblewrap_is_said_with_its_remedy(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["run", "--endpoint", "grpc://h:1", "--sandbox", "bubblewrap"])
    assert "--sandbox none" in capsys.readouterr().err


def test_an_input_root_is_not_promised_where_it_cannot_be_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["run", "--endpoint", "grpc://h:1", "--root", "input"])
    assert "--root input: no program bwrap on PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000", 1000), ("1K", 1024), ("2.5M", 2621440), ("10G", 10 << 30), ("1 TiB", 1 << 40)],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text, "--cache-bytes") == expected


def test_given_properties_replace_the_defaults_of_their_key() -> None:
    pairs = parse_properties(["ISA=a", "ISA=b", "Pool=x=y"])
    assert with_defaults(pairs, {"OSFamily": "linux", "ISA": "c"}) == [
        ("ISA", "a"),
        ("ISA", "b"),
        ("Pool", "x=y"),
        ("OSFamily", "linux"),
    ]


def test_properties_of_the_worker_are_not_those_of_its_device() -> None:
    session = describe("id", "1", 2, [("a", "b")], [("capacity-class", "spot")])
    assert [(p.key, p.value) for p in session.worker.devices[0].properties] == [("a", "b")]
    assert [(p.key, p.value) for p in session.worker.properties] == [("capacity-class", "spot")]


def test_bots_with_caches_of_their_own_have_names_of_their_own() -> None:
    assert default_bot_id(Path("/a")) == default_bot_id(Path("/a")) != default_bot_id(Path("/b"))


def test_the_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"buildgrid-bot {metadata.version('buildgrid-kubernetes')}\n"
