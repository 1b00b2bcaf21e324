"""A database that is lost with its machine: nobody tells the server, which finds it out and recovers."""

from sqlalchemy import make_url

from tests.farm.bots import Bot, completed
from tests.farm.clients import Client
from tests.farm.lost_postgres import LostPostgres
from tests.farm.waiting import eventually
from tests.integration.server.conftest import OpenChannel, StartServer

NOTICED_WITHIN = 40.0
SOON = {
    "connect_timeout": "2",
    "keepalives_idle": "1",
    "keepalives_interval": "1",
    "keepalives_count": "2",
    "tcp_user_timeout": "2000",
}


async def test_a_server_is_not_ready_without_it_and_works_on_with_the_next_one(
    database: str, start_server: StartServer, channels: OpenChannel
) -> None:
    way = LostPostgres(database)
    way.start()
    try:
        url = make_url(way.url).update_query_dict(SOON).render_as_string(hide_password=False)
        server = start_server(database={"url": url})
        channel = channels(server)
        client, bot = Client(channel), Bot(channel, "", "bot")
        before = await client.queue(await client.add_action("before"))
        way.vanish()
        await eventually(lambda: server.readiness()[0] == 503, NOTICED_WITHIN, server.describe)
        assert "the database cannot be reached" in server.readiness()[1]
        assert server.liveness()[0] == 200, "a restart would not help"
        way.come_back()
        await eventually(lambda: server.readiness()[0] == 200, NOTICED_WITHIN, server.describe)
        after = await client.queue(await client.add_action("after"))
        for execution in (before, after):
            await bot.update(completed(await bot.take_lease()))
            assert (await execution.response()).status.code == 0
    finally:
        way.close()
