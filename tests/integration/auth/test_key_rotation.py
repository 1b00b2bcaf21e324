"""Keys that change, at a file and at a real HTTP server that is down, slow or refuses."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from buildgrid_scheduler.auth.jwt import Issuer, JwtAuthenticator
from buildgrid_scheduler.auth.key_ring import KeyRing
from buildgrid_scheduler.auth.key_set import KeySet, UnusableKeysError, parse_jwks
from buildgrid_scheduler.auth.key_sources import KeySource, UrlKeys, jwks_file
from buildgrid_scheduler.core.errors import Unauthenticated, Unavailable

from tests.credentials.certificates import Authority
from tests.credentials.jwks_server import JwksServer
from tests.credentials.tokens import AUDIENCE, ISSUER, SigningKey, jwks
from tests.farm.waiting import eventually_sync

OLD, NEW = SigningKey("old"), SigningKey("new")
HOUR = timedelta(hours=1)


@contextmanager
def running(
    source: KeySource, *, interval: timedelta = HOUR, min_interval: timedelta = timedelta(0)
) -> Iterator[KeyRing]:
    """Keys that are kept current; those of the first fetch may still be on their way."""
    ring = KeyRing("corp", source, refresh_interval=interval, min_interval=min_interval)
    ring.start()
    try:
        yield ring
    finally:
        ring.stop()


def authenticator(ring: KeyRing, wait: float = 30) -> JwtAuthenticator:
    return JwtAuthenticator([Issuer("corp", ring, ISSUER, (AUDIENCE,))], wait_for_keys=wait)


@asynccontextmanager
async def tokens_of(
    server: JwksServer, *, min_interval: timedelta = timedelta(0), interval: timedelta = HOUR
) -> AsyncIterator[JwtAuthenticator]:
    with running(UrlKeys(server.url, timeout=20), interval=interval, min_interval=min_interval) as ring:
        yield authenticator(ring)


async def test_a_call_waits_for_the_first_keys() -> None:
    with JwksServer(jwks(OLD)) as server:
        server.hold()
        async with tokens_of(server) as tokens:
            call = asyncio.create_task(tokens.authenticate(OLD.token()))
            await asyncio.to_thread(server.until_asked, 1)
            assert not call.done()
            server.release()
            assert (await call).subject == "alice"
        assert server.requests == 1


async def test_a_token_with_a_new_key_makes_the_keys_be_fetched() -> None:
    with JwksServer(jwks(OLD)) as server:
        async with tokens_of(server) as tokens:
            await tokens.authenticate(OLD.token())
            server.content = jwks(OLD, NEW)
            assert await tokens.authenticate(NEW.token())
            assert await tokens.authenticate(OLD.token())
            assert server.requests == 2


async def test_a_withdrawn_key_is_not_believed_any_more() -> None:
    with JwksServer(jwks(OLD)) as server:
        async with tokens_of(server) as tokens:
            token = OLD.token()
            await tokens.authenticate(token)
            server.content = jwks(NEW)
            await tokens.authenticate(NEW.token())
            with pytest.raises(Unauthenticated, match="no known key"):
                await tokens.authenticate(token)


async def test_a_flood_of_unknown_keys_does_not_flood_the_server() -> None:
    with JwksServer(jwks(OLD)) as server:
        async with tokens_of(server, min_interval=HOUR) as tokens:
            await tokens.authenticate(OLD.token())
            for number in range(50):
                with pytest.raises(Unauthenticated):
                    await tokens.authenticate(SigningKey(f"unknown-{number}").token())
            assert await tokens.authenticate(OLD.token(sub="bob"))
            assert server.requests == 1


async def test_all_who_wait_for_a_key_wait_for_one_request() -> None:
    with JwksServer(jwks(OLD)) as server:
        async with tokens_of(server) as tokens:
            await tokens.authenticate(OLD.token())
            server.content = jwks(OLD, NEW)
            server.hold()
            calls = [asyncio.create_task(tokens.authenticate(NEW.token(sub=f"u{n}"))) for n in range(20)]
            await asyncio.to_thread(server.until_asked, 2)
            # Whoever gives up takes nothing from the others, and known keys need no waiting.
            calls[0].cancel()
            assert await tokens.authenticate(OLD.token(sub="bob"))
            server.release()
            assert [identity.subject for identity in await asyncio.gather(*calls[1:])] == [
                f"u{n}" for n in range(1, 20)
            ]
            assert server.requests == 2


@pytest.mark.parametrize("trouble", ["down", "refusing", "broken", "empty"])
async def test_the_last_good_keys_stay_while_the_server_is(trouble: str) -> None:
    with JwksServer(jwks(OLD)) as server:
        async with tokens_of(server) as tokens:
            await tokens.authenticate(OLD.token())
            if trouble == "down":
                server.close()
            elif trouble == "refusing":
                server.status = 503
            else:
                server.content = b"<html>" if trouble == "broken" else b'{"keys": []}'
            with pytest.raises(Unavailable, match="cannot be fetched just now"):
                await tokens.authenticate(NEW.token())
            assert await tokens.authenticate(OLD.token(sub="bob"))


async def test_a_server_that_comes_up_later_is_found() -> None:
    with JwksServer(jwks(OLD)) as server:
        server.status = 503
        async with tokens_of(server) as tokens:
            with pytest.raises(Unavailable):
                await tokens.authenticate(OLD.token())
            server.status = 200
            assert await tokens.authenticate(OLD.token())


async def test_nobody_waits_for_a_slow_server_for_long() -> None:
    with JwksServer(jwks(OLD)) as server:
        server.hold()
        with running(UrlKeys(server.url, timeout=20)) as ring:
            with pytest.raises(Unavailable):
                await authenticator(ring, wait=0.05).authenticate(OLD.token())
            server.release()
            assert await authenticator(ring).authenticate(OLD.token())


def test_a_server_that_does_not_answer_is_given_up() -> None:
    with JwksServer(jwks(OLD)) as server:
        server.hold()
        with pytest.raises(UnusableKeysError, match="timed out"):
            UrlKeys(server.url, timeout=0.1).fetch()


def test_keys_are_fetched_from_time_to_time() -> None:
    with (
        JwksServer(jwks(OLD)) as server,
        running(UrlKeys(server.url), interval=timedelta(milliseconds=20)) as ring,
    ):
        eventually_sync(lambda: ring.keys.knows("old"), 20, lambda: str(ring.failure))
        server.content = jwks(NEW)
        eventually_sync(lambda: ring.keys.knows("new"), 20, lambda: str(ring.failure))
        assert not ring.keys.knows("old")
        assert ring.failure is None


def test_a_redirect_is_not_followed() -> None:
    with JwksServer(jwks(OLD)) as elsewhere, JwksServer() as server:
        server.status = 302
        server.headers["Location"] = elsewhere.url
        with pytest.raises(UnusableKeysError, match="HTTP status 302"):
            UrlKeys(server.url).fetch()
        assert elsewhere.requests == 0


def test_a_cluster_is_asked_with_its_ca_and_a_token_that_is_read_each_time(tmp_path: Path) -> None:
    authority = Authority()
    (tmp_path / "ca.crt").write_bytes(authority.pem)
    (tmp_path / "token").write_text("first\n")
    pair = authority.server().write(tmp_path)
    with JwksServer(jwks(OLD), certificate=pair) as server:
        server.bearer = "first"
        source = UrlKeys(
            server.url, ca_file=tmp_path / "ca.crt", bearer_token_file=tmp_path / "token", timeout=20
        )
        assert source.fetch().knows("old")
        server.bearer = "second"
        with pytest.raises(UnusableKeysError, match="HTTP status 401") as caught:
            source.fetch()
        assert "first" not in str(caught.value)
        (tmp_path / "token").write_text("second")
        assert source.fetch().knows("old")
        (tmp_path / "ca.crt").write_bytes(Authority("another").pem)
        with pytest.raises(UnusableKeysError, match="CERTIFICATE_VERIFY_FAILED"):
            source.fetch()


@pytest.mark.parametrize("content", [b"two\nlines", b"\xff\xfe", b"caf\xc3\xa9"])
def test_a_token_file_with_something_else_is_not_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "token").write_bytes(content)
    with JwksServer(jwks(OLD)) as server, pytest.raises(UnusableKeysError) as caught:
        UrlKeys(server.url, bearer_token_file=tmp_path / "token").fetch()
    assert "lines" not in str(caught.value)
    assert "caf" not in str(caught.value)


def test_only_http_is_asked() -> None:
    with pytest.raises(ValueError, match="not an http or https URL"):
        UrlKeys("file:///etc/passwd")


async def test_a_replaced_file_is_found_by_the_next_token_with_a_new_key(tmp_path: Path) -> None:
    """As a kubelet replaces the files of a ConfigMap: a link to a folder moves."""

    def publish(version: str, content: bytes) -> None:
        (tmp_path / version).mkdir()
        (tmp_path / version / "jwks.json").write_bytes(content)
        (tmp_path / "..new").symlink_to(version)
        (tmp_path / "..new").replace(tmp_path / "..data")

    publish("1", jwks(OLD))
    (tmp_path / "jwks.json").symlink_to("..data/jwks.json")
    with running(jwks_file(tmp_path / "jwks.json")) as ring:
        tokens = authenticator(ring)
        await tokens.authenticate(OLD.token())
        publish("2", jwks(NEW))
        assert await tokens.authenticate(NEW.token())
        with pytest.raises(Unauthenticated):
            await tokens.authenticate(OLD.token())


def test_a_fault_does_not_end_the_fetching(caplog: pytest.LogCaptureFixture) -> None:
    asked_for = threading.Event()

    class Faulty:
        def fetch(self) -> KeySet:
            asked_for.wait(20)
            if ring.failure == "internal error":
                return parse_jwks(jwks(OLD))
            raise RuntimeError("a fault")

    with running(Faulty()) as ring:
        first = ring.refresh()
        assert first is not None
        asked_for.set()
        first.result(20)
        assert str(ring.failure) == "internal error"
        again = ring.refresh()
        assert again is not None
        again.result(20)
        assert ring.failure is None
    assert "a fault" in caplog.text


def test_stopping_tells_whoever_waits_and_leaves_no_thread() -> None:
    with JwksServer(jwks(OLD)) as server, running(UrlKeys(server.url, timeout=20)) as ring:
        server.hold()
        waiting = ring.refresh()
        assert waiting is not None
        server.release()
        ring.stop()
        waiting.result(20)
        assert ring.refresh() is None
        eventually_sync(
            lambda: all(thread.name != "keys-corp" for thread in threading.enumerate()), 20, lambda: "it runs"
        )
