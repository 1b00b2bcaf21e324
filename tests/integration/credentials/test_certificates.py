"""Our own bot and `execute` on a server that asks for certificates; connections that cannot come about."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.credentials.certificates import Authority, Pair
from tests.integration.credentials.conftest import MutualTls, StartBot
from tests.integration.credentials.programs import execute
from tests.integration.server.secured import Secured

pytestmark = pytest.mark.xdist_group("credentials")

Flags = list[str | Path]


def shown(folder: Path, pair: Pair) -> Flags:
    """Flags for a certificate, whose files are in the folder."""
    folder.mkdir(exist_ok=True)
    certificate, key = pair.write(folder)
    return ["--tls-certificate", certificate, "--tls-key", key]


def believing(folder: Path, authority: Authority) -> Flags:
    """Flags for a CA."""
    path = folder / "ca.pem"
    path.write_bytes(authority.pem)
    return ["--tls-ca", path]


@pytest.fixture
def server(mutual: MutualTls, tmp_path: Path) -> Flags:
    """Flags that name the server that asks for certificates, and believe it."""
    pool = ["--property", f"Pool={tmp_path.name}"]
    return ["--endpoint", f"grpcs://{mutual.server.endpoint}", *believing(tmp_path, mutual.servers), *pool]


def test_bot_and_user_show_certificates(
    mutual: MutualTls, server: Flags, start_bot: StartBot, tmp_path: Path
) -> None:
    start_bot(*server, *shown(tmp_path / "b", mutual.client("bot")))

    ended = execute(tmp_path, *server, *shown(tmp_path / "a", mutual.client("alice")))

    assert (ended.code, ended.out, ended.err) == (0, "done\n", "")


def test_a_running_bot_follows_its_certificate(
    mutual: MutualTls, server: Flags, start_bot: StartBot, tmp_path: Path
) -> None:
    folder = tmp_path / "b"
    bot = start_bot(*server, *shown(folder, mutual.client("bot")))
    bot.until("is open")

    # Another key, and for a moment the certificate of the old one.
    wrong = mutual.client("nobody")
    (folder / "tls.key").write_bytes(wrong.key)
    with ThreadPoolExecutor() as thread:
        flags = [*server, *shown(tmp_path / "a", mutual.client("alice"))]
        first = thread.submit(execute, tmp_path, *flags)
        assert (first.result().code, first.result().out) == (0, "done\n"), "the connection stays"
        wrong.write(folder)
        second = thread.submit(execute, tmp_path, *flags)
        bot.until("PERMISSION_DENIED")
        mutual.client("bot").write(folder)
        assert (second.result().code, second.result().out) == (0, "done\n")
    assert bot.log.count("new calls connect anew") == 2


@pytest.mark.parametrize("case", ["none", "of another CA", "expired"])
def test_a_certificate_that_the_server_does_not_take_is_named(
    mutual: MutualTls, server: Flags, tmp_path: Path, case: str
) -> None:
    pairs = {
        "of another CA": mutual.client("alice", Authority("unknown CA")),
        "expired": mutual.client("alice", life=timedelta(minutes=-5)),
    }
    flags = shown(tmp_path / "a", pairs[case]) if case in pairs else []

    ended = execute(tmp_path, *server, *flags, "--connect-timeout", "1")

    assert ended.code == 125
    wants = "perhaps it wants a certificate (--tls-certificate, --tls-key), and one from a CA"
    takes = f"perhaps it does not take --tls-certificate {tmp_path / 'a' / 'tls.crt'}: show one that has not"
    assert (takes if case in pairs else wants) in ended.err


def test_a_subject_without_rights_is_refused_in_words(
    mutual: MutualTls, server: Flags, tmp_path: Path
) -> None:
    ended = execute(tmp_path, *server, *shown(tmp_path / "a", mutual.client("mallory")))

    assert ended.code == 125
    assert "mallory" in ended.err and "ask an administrator for the right" in ended.err


@pytest.mark.parametrize(
    ("scheme", "authority", "words"),
    [
        ("grpcs", None, "the server's certificate is not trusted: name its CA with --tls-ca"),
        ("grpcs", "wrong", "the server's certificate is not trusted: name its CA with --tls-ca"),
        ("grpc", None, "the server there speaks TLS: name it grpcs://"),
    ],
)
def test_a_server_that_is_not_reached_as_it_wants_is_told_at_once(
    secured: Secured, tmp_path: Path, scheme: str, authority: str | None, words: str
) -> None:
    flags = believing(tmp_path, Authority("wrong CA")) if authority else []

    ended = execute(
        tmp_path, "--endpoint", f"{scheme}://{secured.server.endpoint}", *flags, "--connect-timeout", "3600"
    )

    assert ended.code == 125
    assert words in ended.err


def test_tls_towards_a_server_without_it_is_told_at_once(secured: Secured, tmp_path: Path) -> None:
    # The port of metrics and health speaks HTTP as it is.
    plain = ["--endpoint", f"grpcs://{secured.server.monitoring}", "--connect-timeout", "3600"]

    ended = execute(tmp_path, *plain)

    assert ended.code == 125
    assert "the server there does not speak TLS: use grpc://" in ended.err


def test_a_bot_that_does_not_believe_its_server_says_so(
    secured: Secured, start_bot: StartBot, tmp_path: Path
) -> None:
    bot = start_bot(
        *("--endpoint", f"grpcs://{secured.server.endpoint}"), *believing(tmp_path, Authority("wrong CA"))
    )

    bot.until("CERTIFICATE_VERIFY_FAILED")
    # A server that gets the right certificate gets its bot.
    believing(tmp_path, secured.credentials.authority)
    bot.until("UNAUTHENTICATED")
