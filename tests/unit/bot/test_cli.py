"""The command line: what is understood, and what the refusals say."""

import logging
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from buildgrid_bot.cli import main
from buildgrid_bot.options import default_bot_id, parse_size
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
