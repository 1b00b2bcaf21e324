"""The files that a configuration names: `check-config` and `serve` read all of them first."""

import json
import logging
from pathlib import Path

import pytest
from buildgrid_scheduler.cli.main import main

from tests.credentials.certificates import Authority
from tests.farm.database import Databases, drop_database, rows

ABSENT = """\
database:
  url_file: absent/url
  password_file: absent/password
tls:
  certificate_file: absent/certificate
  key_file: absent/key
auth:
  policy: [{identities: [{subject: a}], rights: [execute]}]
  jwt:
    - {name: a, issuer: a, audiences: [a], jwks: {file: absent/jwks}}
    - name: b
      issuer: b
      audiences: [b]
      secret_file: absent/secret
    - {name: c, issuer: c, audiences: [c], jwks: {url: "https://c", ca_file: absent/ca}}
storage:
  type: remote
  endpoint: grpcs://cas:1
  token_file: absent/token
metering: {url: "http://metering", token_file: absent/metering}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def told(capsys: pytest.CaptureFixture[str], text: str, command: str = "check-config") -> list[str]:
    """The lines that are said of a configuration that cannot be used."""
    Path("server.yaml").write_text(text)
    flags = ["--config"] if command == "serve" else []
    assert main([command, *flags, "server.yaml"]) == 2
    return capsys.readouterr().err.splitlines()


def test_all_files_that_are_missing_are_told_at_once_with_their_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = told(capsys, ABSENT)
    assert [line.split(": ")[:2] for line in lines] == [
        ["server.yaml:2", "database.url_file"],
        ["server.yaml:3", "database.password_file"],
        ["server.yaml:5", "tls.certificate_file"],
        ["server.yaml:6", "tls.key_file"],
        ["server.yaml:10", "auth.jwt[0].jwks.file"],
        ["server.yaml:14", "auth.jwt[1].secret_file"],
        ["server.yaml:15", "auth.jwt[2].jwks.ca_file"],
        ["server.yaml:19", "storage.token_file"],
        ["server.yaml:20", "metering.token_file"],
    ]
    assert lines[0].endswith("absent/url is not there; create it, or name another file")
    assert main(["check-config", "server.yaml", "--json"]) == 2
    problems = json.loads(capsys.readouterr().out)["problems"]
    assert [problem["line"] for problem in problems] == [2, 3, 5, 6, 10, 14, 15, 19, 20]


@pytest.mark.parametrize(
    ("text", "field", "words"),
    [
        ("database: {url_file: empty}", "database.url_file", "empty is empty; write the secret into it"),
        ("database: {url_file: binary}", "database.url_file", "is not text in UTF-8"),
        ("database: {url_file: words}", "database.url_file", "what is in words is not postgresql://USER"),
        ("database: {url_file: .}", "database.url_file", ". cannot be read: Is a directory"),
        ("tls: {certificate_file: empty, key_file: tls.key}", "tls.certificate_file", "holds no certificate"),
        ("tls: {certificate_file: tls.crt, key_file: empty}", "tls.key_file", "is not an unencrypted"),
        ("tls: {certificate_file: tls.crt, key_file: other.key}", "tls.key_file", "is not the key of"),
        (
            "storage: {type: remote, endpoint: 'grpc://cas:1', token_file: empty}",
            "storage.token_file",
            "it must hold a token",
        ),
        (
            "storage: {type: remote, endpoint: 'grpcs://cas:1', ca_file: empty}",
            "storage.ca_file",
            "holds no certificate of a CA",
        ),
        (
            "action_cache: {type: remote, endpoint: 'grpcs://cas:1', client_certificate_file: tls.crt, "
            "client_key_file: other.key}",
            "action_cache.client_key_file",
            "is not the key of the certificate in tls.crt",
        ),
        (
            "storage: {type: object-store, url: 's3://b', secret_files: {access_key_id: empty}}",
            "storage.secret_files.access_key_id",
            "empty is empty",
        ),
        (
            "auth: {jwt: [{audiences: [a], jwks: {file: empty}}], policy: [{identities: [{subject: a}], "
            "rights: [execute]}]}",
            "auth.jwt[0].jwks.file",
            "empty",
        ),
        (
            "auth: {jwt: [{audiences: [a], secret_file: binary}], policy: [{identities: [{subject: a}], "
            "rights: [execute]}]}",
            "auth.jwt[0].secret_file",
            "binary",
        ),
    ],
)  # fmt: skip
def test_what_a_file_holds_is_looked_at_too(
    capsys: pytest.CaptureFixture[str], text: str, field: str, words: str
) -> None:
    authority = Authority()
    authority.server().write(Path())
    authority.server().write(Path(), "other")
    Path("empty").touch()
    Path("words").write_text("foo")
    Path("binary").write_bytes(b"\xff\xfe")
    (line,) = told(capsys, text)
    assert line.startswith(f"server.yaml:1: {field}: ")
    assert words in line


def test_files_are_told_together_with_fields(capsys: pytest.CaptureFixture[str]) -> None:
    text = (
        ABSENT.replace("audiences: [b]", "audiences: []") + "colour: red\nscheduler: {max_job_attempts: 0}\n"
    )
    for command in ("check-config", "serve"):
        lines = told(capsys, f"{text}monitoring: {{listen: 9090}}\ndata: ${{NOWHERE}}\n", command)
        fields = [line.partition("server.yaml:")[2].split(": ")[1] for line in lines]
        assert fields == [
            "database.url_file",
            "database.password_file",
            "tls.certificate_file",
            "tls.key_file",
            "auth.jwt[1].audiences",
            "storage.token_file",
            "metering.token_file",
            "colour",
            "scheduler.max_job_attempts",
            "monitoring.listen",
            "data",
        ]


def test_good_files_are_fine(capsys: pytest.CaptureFixture[str]) -> None:
    Authority().server().write(Path())
    Path("url").write_text("postgresql://x@y/z\n")
    text = "database: {url_file: url}\ntls: {certificate_file: tls.crt, key_file: tls.key}\n"
    Path("server.yaml").write_text(text)
    assert main(["check-config", "server.yaml"]) == 0
    assert capsys.readouterr().err == ""


def test_a_server_finds_the_same_before_it_touches_its_database(
    databases: Databases, capsys: pytest.CaptureFixture[str]
) -> None:
    url = databases.create()
    before = list(logging.getLogger().handlers)
    text = ABSENT.replace("url_file: absent/url", f"url: {url}")
    lines = told(capsys, text, "serve")
    assert len(lines) == 8
    assert lines[3].startswith(
        "buildgrid-scheduler serve: server.yaml:10: auth.jwt[0].jwks.file: absent/jwks"
    )
    assert rows(url, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    assert logging.getLogger().handlers == before
    drop_database(url)


def test_a_setting_of_the_command_line_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    Path("server.yaml").write_text("monitoring:\n  listen: 127.0.0.1:7001\n")
    assert main(["serve", "--config", "server.yaml", "--monitoring-listen", "[::]:50051"]) == 2
    assert "command line: monitoring.listen: [::]:50051 is where listen (127.0.0.1:50051) is, too" in (
        capsys.readouterr().err
    )
