"""Looking at pods: their bot, and what it is told."""

from typing import Any

from buildgrid_operator.desired.bots import FleetInputs, bot_pod

from tests.unit.operator.desired.bots.cases import fleet, fleet_inputs

Json = dict[str, Any]


def pod(owner: Json | None = None, **spec: Any) -> Json:
    """The pod of the smallest fleet with more in its spec."""
    return bot_pod(fleet_inputs(fleet(**spec), owner), 7)


def bot(found: Json) -> Json:
    """Its main container."""
    (container,) = [each for each in found["spec"]["containers"] if each["name"] == "bot"]
    assert isinstance(container, dict)
    return container


def variables(found: Json) -> dict[str, Any]:
    """What the bot is told, without the prefix: a value, or where it comes from."""
    told = bot(found)["env"]
    assert len({each["name"] for each in told}) == len(told)
    return {
        each["name"].removeprefix("BUILDGRID_BOT_"): each.get("value", each.get("valueFrom")) for each in told
    }


def told(owner: Json | None = None, **spec: Any) -> dict[str, Any]:
    """What the bot of such a fleet is told."""
    return variables(pod(owner, **spec))


__all__ = ["FleetInputs", "bot", "pod", "told", "variables"]
