"""Our own bot and `execute` on a server with TLS of its own CA and tokens."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.integration.credentials.conftest import StartBot
from tests.integration.credentials.programs import execute
from tests.integration.server.secured import Secured

pytestmark = pytest.mark.xdist_group("credentials")


class Files:
    """What a client was given."""

    def __init__(self, folder: Path, secured: Secured) -> None:
        self._secured = secured
        self.ca = folder / "ca.pem"
        self.ca.write_bytes(secured.credentials.authority.pem)
        self.token = folder / "token"
        self.endpoint = f"grpcs://{secured.server.endpoint}"

    def flags(self, token: str, **other: str | Path) -> list[str | Path]:
        """For a program that has this token."""
        self.replace(token)
        return [
            "--endpoint",
            self.endpoint,
            "--instance",
            "main",
            "--tls-ca",
            self.ca,
            "--token-file",
            self.token,
        ]

    def replace(self, token: str) -> None:
        """As Kubernetes does it: the file is another one, at once."""
        new = self.token.with_name("new")
        new.write_text(token)
        new.replace(self.token)


@pytest.fixture
def of_bot(tmp_path: Path, secured: Secured) -> Files:
    (tmp_path / "of-bot").mkdir()
    return Files(tmp_path / "of-bot", secured)


@pytest.fixture
def of_user(tmp_path: Path, secured: Secured) -> Files:
    (tmp_path / "of-user").mkdir()
    return Files(tmp_path / "of-user", secured)


def pool(folder: Path) -> list[str]:
    """Bot and command of a test are for each other alone."""
    return ["--property", f"Pool={folder.name}"]


def test_a_pods_bot_works_for_a_developer(
    secured: Secured, start_bot: StartBot, of_bot: Files, of_user: Files, tmp_path: Path
) -> None:
    start_bot(*of_bot.flags(secured.credentials.pod("bot-1")), "--bot-id", "bot-1", *pool(tmp_path))
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "in").write_text("x" * 5_000_000)

    ended = execute(
        tmp_path / "work",
        *of_user.flags(secured.credentials.token("alice")),
        *("--input", "in", "--output", "out", *pool(tmp_path)),
        command=("/bin/cp", "in", "out"),
    )

    assert (ended.code, ended.err) == (0, "")
    assert (tmp_path / "work" / "out").stat().st_size == 5_000_000


def test_variables_say_the_same_as_flags(
    secured: Secured, start_bot: StartBot, of_bot: Files, of_user: Files, tmp_path: Path
) -> None:
    of_bot.replace(secured.credentials.pod("bot-2"))
    of_user.replace(secured.credentials.token("alice"))

    def variables(prefix: str, files: Files) -> dict[str, str]:
        told = {"ENDPOINT": files.endpoint, "INSTANCE": "main", "TLS_CA": files.ca, "TOKEN_FILE": files.token}
        return {f"{prefix}_{name}": str(value) for name, value in told.items()}

    bot = {**variables("BUILDGRID_BOT", of_bot), "BUILDGRID_BOT_BOT_ID": "bot-2"}
    start_bot(*pool(tmp_path), environment=bot)

    ended = execute(tmp_path, *pool(tmp_path), environment=variables("BUILDGRID", of_user))

    assert (ended.code, ended.out) == (0, "done\n")


def test_a_running_bot_follows_its_token(
    secured: Secured, start_bot: StartBot, of_bot: Files, of_user: Files, tmp_path: Path
) -> None:
    bot = start_bot(*of_bot.flags(secured.credentials.pod("bot-3")), "--bot-id", "bot-3", *pool(tmp_path))
    bot.until("is open")
    user = [*of_user.flags(secured.credentials.token("alice")), *pool(tmp_path)]

    of_bot.replace(secured.credentials.pod("another-pod"))
    with ThreadPoolExecutor() as thread:
        running = thread.submit(execute, tmp_path, *user)
        # The call that brings the work began with the right token; the one that reports it did not.
        bot.until("bot_id must be the pod's name")
        of_bot.replace(secured.credentials.pod("bot-3"))
        assert (running.result().code, running.result().out) == (0, "done\n")


def test_a_token_file_that_goes_bad_leaves_the_last_token(
    secured: Secured, start_bot: StartBot, of_bot: Files, of_user: Files, tmp_path: Path
) -> None:
    bot = start_bot(*of_bot.flags(secured.credentials.pod("bot-4")), "--bot-id", "bot-4", *pool(tmp_path))
    bot.until("is open")
    of_bot.token.write_text("")
    user = [*of_user.flags(secured.credentials.token("alice")), *pool(tmp_path)]

    assert [execute(tmp_path, *user).code for _ in range(2)] == [0, 0]
    bot.until("stays as it was")
    of_bot.token.unlink()
    assert execute(tmp_path, *user).code == 0


def test_a_bot_that_is_not_its_pod_ends_with_the_reason(
    secured: Secured, start_bot: StartBot, of_bot: Files
) -> None:
    bot = start_bot(*of_bot.flags(secured.credentials.pod("bot-5")), "--bot-id", "bot-x", impatient=True)

    assert bot.exit_code() == 1
    last = bot.log.splitlines()[-1]
    assert "the token is that of pod 'bot-5'; bot_id must be the pod's name" in last
    assert "giving up" in last and " ERROR " in last


def test_an_expired_token_ends_a_bot_with_the_reason(
    secured: Secured, start_bot: StartBot, of_bot: Files
) -> None:
    expired = secured.credentials.token("bot-of-main", exp=int(time.time()) - 5)
    bot = start_bot(*of_bot.flags(expired), impatient=True)

    assert bot.exit_code() == 1
    last = bot.log.splitlines()[-1]
    assert "UNAUTHENTICATED: the credentials have expired; get new ones" in last and "giving up" in last


@pytest.mark.parametrize(
    ("subject", "claims", "words"),
    [
        (
            "alice",
            {"exp": 1},
            "UNAUTHENTICATED: the credentials have expired; get new ones; put a token that",
        ),
        ("alice", {"aud": "x"}, "UNAUTHENTICATED: the token is for another audience; wanted: buildgrid"),
        ("olga", {}, "in instance 'main' is missing; an administrator grants it"),
        ("with-cas-write", {}, "the right 'execute' is missing (an administrator grants it)"),
    ],
)
def test_execute_says_what_is_wrong_with_who_calls(
    secured: Secured, of_user: Files, tmp_path: Path, subject: str, claims: dict[str, Any], words: str
) -> None:
    ended = execute(tmp_path, *of_user.flags(secured.credentials.token(subject, **claims)))

    assert ended.code == 125
    assert words in ended.err


def test_execute_without_a_token_says_which_flag_is_missing(of_user: Files, tmp_path: Path) -> None:
    ended = execute(tmp_path, "--endpoint", of_user.endpoint, "--instance", "main", "--tls-ca", of_user.ca)

    assert ended.code == 125
    assert "UNAUTHENTICATED" in ended.err and "say who calls with --token-file" in ended.err


def test_no_token_is_ever_shown(
    secured: Secured, start_bot: StartBot, of_bot: Files, of_user: Files, tmp_path: Path
) -> None:
    bot = start_bot(
        *of_bot.flags(secured.credentials.pod("bot-6")),
        *("--bot-id", "bot-6", "--log-level", "debug", *pool(tmp_path)),
    )
    bot.until("is open")
    user = of_user.flags(secured.credentials.token("alice"))
    assert execute(tmp_path, *user, *pool(tmp_path), command=("/usr/bin/env",)).code == 0
    of_bot.replace("two\nlines that are no token")
    of_user.replace(os.linesep.join(["so", "secret"]))
    ended = execute(tmp_path, *user)

    assert ended.code == 2 and "--token-file:" in ended.err
    assert secured.shown(bot.log) == []
    assert "lines that" not in bot.log and "secret" not in ended.err
