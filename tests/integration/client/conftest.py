"""A fake farm and a channel to it."""

from collections.abc import AsyncIterator

import grpc.aio
import pytest
from buildgrid_client.channel import open_channel

from tests.integration.client.fake_farm import FakeFarm, serve


@pytest.fixture
def farm() -> FakeFarm:
    return FakeFarm()


@pytest.fixture
async def endpoint(farm: FakeFarm) -> AsyncIterator[str]:
    server, port = await serve(farm)
    yield f"grpc://127.0.0.1:{port}"
    await server.stop(grace=None)


@pytest.fixture
async def channel(endpoint: str) -> AsyncIterator[grpc.aio.Channel]:
    channel = open_channel(endpoint)
    yield channel
    await channel.close()
