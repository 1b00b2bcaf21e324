"""Whether a server speaks TLS: gRPC does not tell a client that does not."""

import asyncio
import ssl

from buildgrid_client.channel import parse_endpoint

_WITHIN = 3.0


async def speaks_tls(endpoint: str, within: float = _WITHIN) -> bool:
    """Whether the server at the endpoint, whatever its scheme, answers in TLS, within so many seconds."""
    host, _, port = parse_endpoint(endpoint)[0].rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Nothing is sent: who it is does not matter.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port), ssl=context)
    except ssl.SSLError as error:
        # An alert is TLS, too.
        return "ALERT" in (error.reason or "")
    except OSError:  # TimeoutError is one
        return False
    writer.transport.abort()
    return True
