"""A client in a pod of the scheduler's image: actions in waves, each of which must end well.

    driver.py ENDPOINT ACTIONS SECONDS

A wave is 25 actions at once, which sleep 0.2 to 12 s. Ends with 0 if all exited with 0; the others are told.
"""

import asyncio
import sys

from buildgrid_client.cas import CasClient
from buildgrid_client.channel import open_channel
from buildgrid_client.execution import ExecutionClient
from buildgrid_client.execution_errors import ExecutionFailed
from buildgrid_client.remote_command import RemoteCommand, RemoteRunner

WAVE = 25
SLEEPS = (0.2, 0.5, 1.0, 0.3, 2.0)
LONG = 12.0
"""seconds of one in a wave: nobody may wait for bots to idle by themselves"""


async def _run(runner: RemoteRunner, number: int) -> str:
    """What is wrong with it, if anything."""
    seconds = LONG if number % WAVE == 0 else SLEEPS[number % len(SLEEPS)]
    command = RemoteCommand(
        arguments=["sleep", str(seconds)],
        environment={"PATH": "/usr/bin:/bin"},
        do_not_cache=True,
        salt=str(number).encode(),
        mnemonic="Sleep",
        target=str(number),
    )
    try:
        result = await runner.run(command)
    except ExecutionFailed as error:
        return f"{number}: {error}"
    return f"{number}: exit code {result.exit_code}" if result.exit_code else ""


async def main(endpoint: str, actions: int, seconds: float) -> int:
    """How many did not end well."""
    channel = open_channel(endpoint)
    runner = RemoteRunner(CasClient(channel, ""), ExecutionClient(channel, "", tool_name="driver"))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    pause = seconds * WAVE / actions
    tasks = []
    for number in range(actions):
        if number % WAVE == 0:
            await asyncio.sleep(max(0.0, begun + number // WAVE * pause - loop.time()))
        tasks.append(asyncio.create_task(_run(runner, number)))
    wrong = [each for each in await asyncio.gather(*tasks) if each]
    await channel.close()
    print(f"{actions - len(wrong)} of {actions} ended well", *wrong, sep="\n", flush=True)
    return len(wrong)


if __name__ == "__main__":
    sys.exit(bool(asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))))
