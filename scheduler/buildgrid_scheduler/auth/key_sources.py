"""Where keys come from: a file, or a URL. All of this blocks, and runs on the thread of a `KeyRing`."""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from buildgrid_scheduler.auth.key_set import KeySet, UnusableKeysError, parse_jwks, secret_key

MAX_BYTES = 1024 * 1024
_CHUNK = 64 * 1024


class KeySource(Protocol):
    """Gets keys."""

    def fetch(self) -> KeySet:
        """The keys as they are now. Raises UnusableKeysError; its message holds no secret."""


class FileKeys:
    """A file that is read again each time, so that one which was replaced (a mounted Secret or ConfigMap,
    whose files are links that move) is found."""

    def __init__(self, path: Path, parse: Callable[[bytes], KeySet]) -> None:
        self._path = path
        self._parse = parse

    def fetch(self) -> KeySet:
        """See `KeySource`."""
        return self._parse(_read(self._path))


def jwks_file(path: Path) -> FileKeys:
    """A JWKS."""
    return FileKeys(path, parse_jwks)


def secret_file(path: Path, algorithms: frozenset[str]) -> FileKeys:
    """A shared secret for these symmetric algorithms."""
    return FileKeys(path, lambda content: secret_key(content, algorithms))


class UrlKeys:
    """A JWKS at an http or https URL.

    `ca_file`: certificates to trust instead of the system's. `bearer_token_file`: the token to send, as
    Kubernetes' /openid/v1/jwks wants it. Both are read for every request. Redirects are not followed: they
    could send the token, or the question whom to trust, elsewhere. `timeout` is in seconds.
    """

    def __init__(
        self,
        url: str,
        *,
        ca_file: Path | None = None,
        bearer_token_file: Path | None = None,
        timeout: float = 5.0,
    ) -> None:
        if not url.startswith(("http://", "https://")):
            raise ValueError(f"{url}: not an http or https URL")
        self._url = url
        self._ca_file = ca_file
        self._bearer_token_file = bearer_token_file
        self._timeout = timeout

    def fetch(self) -> KeySet:
        """See `KeySource`."""
        headers = {"Accept": "application/json"}
        if self._bearer_token_file is not None:
            token = _read(self._bearer_token_file).strip()
            try:
                headers["Authorization"] = f"Bearer {token.decode('ascii')}"
            except UnicodeDecodeError as error:
                raise UnusableKeysError(f"{self._bearer_token_file}: holds no bearer token") from error
        request = urllib.request.Request(self._url, headers=headers)  # noqa: S310 - http(s), see above
        try:
            with self._opener().open(request, timeout=self._timeout) as response:
                return parse_jwks(self._body(response))
        except urllib.error.HTTPError as error:
            with error:
                raise UnusableKeysError(f"{self._url}: HTTP status {error.code}") from error
        except urllib.error.URLError as error:
            raise UnusableKeysError(f"{self._url}: {error.reason}") from error
        except (OSError, http.client.HTTPException) as error:
            raise UnusableKeysError(f"{self._url}: {error}") from error
        except ValueError as error:
            # Of headers that cannot be sent; the message of the library would show them.
            raise UnusableKeysError(f"{self._url}: the request cannot be made") from error
        except UnusableKeysError as error:
            raise UnusableKeysError(f"{self._url}: {error}") from error

    def _opener(self) -> urllib.request.OpenerDirector:
        if self._ca_file is None:
            return urllib.request.build_opener(_NoRedirects)
        trusted = ssl.create_default_context(cadata=_read(self._ca_file).decode("ascii", "replace"))
        return urllib.request.build_opener(_NoRedirects, urllib.request.HTTPSHandler(context=trusted))

    def _body(self, response: Any) -> bytes:
        """Within the timeout as a whole: a server that drips must not hold the thread."""
        until = time.monotonic() + self._timeout
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > MAX_BYTES:
                raise UnusableKeysError(f"more than {MAX_BYTES} bytes")
            if time.monotonic() > until:
                raise UnusableKeysError(f"no end after {self._timeout:g} s")
        return bytes(body)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnusableKeysError(f"{path}: cannot be read: {error.strerror}") from error
