"""A bot that is told what the operator tells those of a fleet: who it says that it is."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from buildgrid_operator.desired.bots import bot_pod

from tests.integration.bot.fake_farm import FakeFarm, result_of
from tests.unit.operator.desired.bots.cases import CLUSTER_UID, UID, fleet, fleet_inputs
from tests.unit.operator.desired.bots.found import variables


async def test_it_opens_a_session_as_the_fleets_and_works(farm: FakeFarm, tmp_path: Path) -> None:
    spec: dict[str, Any] = {
        "properties": [{"key": "Pool", "value": "$(HOME)"}],
        "workerProperties": [{"key": "rack", "value": "7"}],
        "slotsPerBot": 3,
        "capacityClass": "spot",
        "resources": {"limits": {"ephemeral-storage": "20Gi"}},
    }
    told = variables(bot_pod(fleet_inputs(fleet(**spec)), 7))
    by_kubelet = {"BOT_ID": "linux-7", "DISK_BYTES": str(20 << 30)}
    here = {"ENDPOINT": farm.endpoint, "CAS_ENDPOINT": farm.endpoint, "CACHE_DIR": str(tmp_path / "cache")}
    given = {name: value.replace("$$", "$") for name, value in {**told, **by_kubelet, **here}.items()}
    environment = {f"BUILDGRID_BOT_{name}": value for name, value in given.items()}
    temporary = tmp_path / "temporary"  # the pod's own, and not what is on this machine
    temporary.mkdir()
    bot = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "buildgrid_bot", "run"),
        env={**os.environ, **environment, "TMPDIR": str(temporary)},
        stderr=asyncio.subprocess.PIPE,
    )
    lease = await farm.finished(await farm.submit(farm.shell("echo works")))
    bot.terminate()
    _, log = await asyncio.wait_for(bot.communicate(), 30)

    assert result_of(lease).stdout_raw == b"works\n"
    session = farm.bots.updates[0]
    assert session.bot_id == "linux-7"
    assert {(each.key, each.value) for each in session.worker.devices[0].properties} == {
        ("Pool", "$(HOME)"),
        ("OSFamily", "linux"),
        ("ISA", "x86-64"),
    }
    assert {(each.key, each.value) for each in session.worker.properties} >= {
        ("fleet-uid", UID),
        ("cluster-uid", CLUSTER_UID),
        ("capacity-class", "spot"),
        ("sandbox-level", "None"),
        ("rack", "7"),
    }
    assert {each.key: each.value for each in session.worker.configs}["capacity"] == "3"
    first = log.decode().splitlines()[0]
    assert first.startswith('{"time"') and bot.returncode == 0
    assert f"cache {14 << 30} bytes" in log.decode()
