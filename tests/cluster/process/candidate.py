"""A process that wants to lead: `candidate.py NAMESPACE NAME IDENTITY`. It says `leads` when it does."""

import asyncio
import signal
import sys

from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.connection import connect
from buildgrid_operator.process.leadership import Leadership, LeadershipLost

LOST = 3


async def run(namespace: str, name: str, identity: str) -> int:
    """Until SIGTERM, or until it leads no longer."""
    client = Client(connect(user_agent="buildgrid-operator/test"))
    leadership = Leadership(client, namespace, name, identity)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print("waits", flush=True)
    await leadership.acquire()
    print("leads", flush=True)
    hold = asyncio.create_task(leadership.hold())
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait({hold, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    if hold.done():
        try:
            hold.result()
        except LeadershipLost as error:
            print(error, file=sys.stderr, flush=True)
            return LOST
    hold.cancel()
    await leadership.release()
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(run(*sys.argv[1:])))
