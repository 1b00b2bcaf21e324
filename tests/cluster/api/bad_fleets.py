"""BotFleets that must be refused, and edits of them."""

from typing import Any

from buildgrid_operator.api.bot_fleet import RESERVED_WORKER_PROPERTIES

from tests.cluster.api.bad import AS_IT_IS, Bad, BadEdit
from tests.cluster.api.fleets import FULL_FLEET, fleet
from tests.cluster.api.objects import REMOVE, changed

_PERCENT = {"type": "Percent", "value": 100}
_BOTS = {"type": "Bots", "value": 4}
_SCHEDULE = {"start": "0 7 * * 1-5", "duration": "10h", "minBots": 5}
_LINUX = {"key": "OSFamily", "value": "linux"}


def _f(name: str, path: str, value: Any, says: str = "", **more: Any) -> Bad:
    return Bad(name, "BotFleet", path, value, says, **more)


def _schedule(name: str, field: str, value: Any, says: str = "") -> Bad:
    return _f(name, f"spec.scaling.schedules[0].{field}", value, says,
              base=fleet(scaling={"schedules": [_SCHEDULE]}))  # fmt: skip


def _rate(name: str, field: str, value: Any, says: str = "") -> Bad:
    return _f(name, f"spec.scaling.scaleUp.policies[0].{field}", value, says,
              base=fleet(scaling={"scaleUp": {"policies": [_BOTS]}}))  # fmt: skip


def _property(name: str, field: str, value: Any, says: str = "") -> Bad:
    return _f(name, f"spec.properties[0].{field}", value, says, base=fleet(properties=[_LINUX]))


def _worker_property(name: str, field: str, value: Any, says: str = "") -> Bad:
    return _f(name, f"spec.workerProperties[0].{field}", value, says, base=fleet(workerProperties=[_LINUX]))


_WHOSE = (
    _f("bots of no Scheduler", "spec.schedulerRef", REMOVE),
    _f("a Scheduler without a name", "spec.schedulerRef.name", REMOVE),
    _f("a Scheduler in a namespace in capitals", "spec.schedulerRef.namespace", "Builds", "lower case"),
    _f("a bot of an instance with an empty segment", "spec.instance", "a//b", "segments joined by /"),
    _f("a fleet for which there can be no pod", "metadata.name", "1st-fleet", "a letter first"),
    _f("a fleet whose pods would have long names", "metadata.name", "f" * 41, "40 characters or less"),
    _f("bounds beside scaling", "spec.maxBots", 10),
    _f("a bound that there is not", "spec.scaling.maxBot", 10),
)
_HOW_MANY = (
    _f("fewer than no bots", "spec.replicas", -1),
    _f("more bots than a fleet has", "spec.replicas", 10_001),
    _f("a number of bots as text", "spec.replicas", "8"),
    _f("a fleet that follows an autoscaler and does not begin", "spec.replicas", AS_IT_IS,
       "must be set where scaling.mode is External", more={"spec.scaling.mode": "External"}),
    _f("a way to scale that there is not", "spec.scaling.mode", "Manual"),
    _f("a least number above the greatest", "spec.scaling.minBots", 11, "raise maxBots"),
    _f("more warm bots than bots", "spec.scaling.warmBots", 5, "raise maxBots",
       more={"spec.scaling.maxBots": 4}),
    _f("a fallback above the greatest number", "spec.scaling.fallback.bots", 11, "raise maxBots"),
    _f("a fallback of nothing", "spec.scaling.fallback.bots", REMOVE,
       base=fleet(scaling={"fallback": {"bots": 1}})),
    _f("a wait of a working day", "spec.scaling.targetWait", "8h", "0s to 1h"),
    _f("a wait as a number", "spec.scaling.targetWait", 30),
    _f("bots that idle for days", "spec.scaling.idleTimeout", "2d", "720h"),
    _f("a priority beyond all", "spec.scaling.priority", 1001),
    _f("half a cent", "spec.scaling.cost", 0.5),
    _f("paused, in a word", "spec.scaling.paused", "yes"),
)  # fmt: skip
_RATES = (
    _f("a percentage of no bots", "spec.scaling.scaleUp", {"policies": [_PERCENT]}, "never grows from zero"),
    _f("the least of bots and a percentage of none", "spec.scaling.scaleUp",
       {"policies": [_BOTS, _PERCENT], "selectPolicy": "Min"}, "never grows from zero"),
    _f("the mean of the rates", "spec.scaling.scaleDown.selectPolicy", "Mean"),
    _f("nine rates", "spec.scaling.scaleDown.policies", [_BOTS] * 9),
    _f("a window of a day", "spec.scaling.scaleDown.stabilizationWindow", "24h", "0s to 1h"),
    _rate("a rate in an autoscaler's word", "type", "Pods"),
    _rate("a rate of nothing", "value", 0),
    _rate("a rate without a number", "value", REMOVE),
    _rate("a rate for an hour", "period", "1h", "1s to 30m"),
)  # fmt: skip
_SCHEDULES = (
    _f("a schedule above the greatest number", "spec.scaling.schedules", [_SCHEDULE], "raise maxBots",
       more={"spec.scaling.maxBots": 4}),
    _f("33 schedules", "spec.scaling.schedules", [_SCHEDULE] * 33),
    _schedule("a schedule without an end", "duration", REMOVE),
    _schedule("a schedule for seconds", "duration", "30s", "from 1m"),
    _schedule("a schedule of no bots", "minBots", 0),
    _schedule("a schedule by name", "start", "@daily", "cron expression of five fields"),
    _schedule("a schedule with seconds", "start", "0 0 7 * * 1-5", "cron expression of five fields"),
    _schedule("a schedule by the clock", "start", "7:00 * * * *", "cron expression of five fields"),
    _schedule("a time zone in words", "timeZone", "Central European Time", "IANA"),
    _schedule("a time zone of another folder", "timeZone", "../etc/localtime", "IANA"),
)  # fmt: skip
_BOTS_THEMSELVES = (
    _f("a property twice", "spec.properties", [_LINUX, _LINUX], "keep one"),
    _property("a property that no bot can be told", "key", "a=b", "one line without ="),
    _property("a property over two lines", "value", "a\nb", "remove the line breaks"),
    _property("a bot's property without a value", "value", REMOVE),
    _property("a number as a bot's property", "value", 8),
    _f("a worker's property twice", "spec.workerProperties", [_LINUX, _LINUX], "keep one"),
    _worker_property("a worker's property over two lines", "key", "a\nb", "one line without ="),
    *(
        _worker_property(f"{key}, which bots have anyway", "key", key, "which each bot has anyway")
        for key in RESERVED_WORKER_PROPERTIES
    ),
    _f("no slot", "spec.slotsPerBot", 0),
    _f("more slots than a session has", "spec.slotsPerBot", 1025),
    _f("a class with a space", "spec.capacityClass", "spot market", "a label's value"),
    _f("a bot for no action", "spec.maxActionsPerBot", 0),
)  # fmt: skip
_THEIR_PODS = (
    _f("a bot's image with a space", "spec.image", "bot :1", "must be an image"),
    _f("an empty image of actions", "spec.actionImage", ""),
    _f("a bot's pull policy", "spec.imagePullPolicy", "always"),
    _f("an amount in words", "spec.resources.limits.memory", "lots"),
    _f("a cache for nothing", "spec.cacheSize", "1Mi", "from 100Mi"),
    _f("a cache of bytes", "spec.cacheSize", 1_000_000_000),
    _f("a runtime as the sandbox", "spec.sandbox.type", "gVisor"),
    _f("a runtime without a class", "spec.sandbox.runtimeClassName", AS_IT_IS, "set both, or neither",
       more={"spec.sandbox.type": "RuntimeClass"}),
    _f("a class without a runtime", "spec.sandbox.runtimeClassName", "gvisor", "set both, or neither"),
    _f("a profile anywhere", "spec.sandbox.seccompProfile", "/etc/bot.json", "below the kubelet's folder"),
    _f("a profile outside of the folder", "spec.sandbox.seccompProfile", "bots/../../x", "remove the .."),
    _f("a priority class in words", "spec.priorityClassName", "High Priority", "an object's name"),
    _f("a second to finish", "spec.terminationGracePeriod", "1s", "from 30s"),
    _f("bots' containers beside the pod's spec", "spec.podTemplate.containers", []),
    _f("a ServiceAccount of one's own", "spec.serviceAccount.name", "bots"),
    _f("a rollout that replaces nothing", "spec.rollout.maxSurge", 0, "raise one of them"),
    _f("a rollout of a percentage", "spec.rollout.maxUnavailable", "25%"),
    _f("a drain without patience", "spec.drain.timeout", "0s", "from 1m"),
    _f("pods that must be there at once", "spec.startup.timeout", "1s", "from 30s"),
)  # fmt: skip

BAD_FLEETS = (*_WHOSE, *_HOW_MANY, *_RATES, *_SCHEDULES, *_BOTS_THEMSELVES, *_THEIR_PODS)

_SET = fleet("edited", instance="main", replicas=3, scaling={"mode": "External"})
_FOREIGN = changed(_SET, {"spec.schedulerRef.namespace": "builds"})
BAD_FLEET_EDITS = (
    BadEdit("bots of another Scheduler", _SET, changed(_SET, {"spec.schedulerRef.name": "other"}),
            "spec.schedulerRef", "cannot be changed"),
    BadEdit("bots of a Scheduler elsewhere", _SET, _FOREIGN, "spec.schedulerRef", "cannot be changed"),
    BadEdit("bots of a Scheduler here", _FOREIGN, _SET, "spec.schedulerRef", "cannot be changed"),
    BadEdit("bots of another instance", _SET, changed(_SET, {"spec.instance": "other"}),
            "spec.instance", "cannot be changed"),
    BadEdit("bots of the first instance", _SET, changed(_SET, {"spec.instance": REMOVE}),
            "spec.instance", "cannot be changed"),
    BadEdit("bots of no longer the first instance", fleet("edited"), fleet("edited", instance="main"),
            "spec.instance", "cannot be changed"),
)  # fmt: skip
GOOD_FLEET_EDITS = (
    (_SET, changed(_SET, {"spec.replicas": REMOVE, "spec.scaling.mode": "Auto"})),
    (
        fleet("edited", schedulerRef=FULL_FLEET["spec"]["schedulerRef"], instance="team/a"),
        changed(FULL_FLEET, {"metadata.name": "edited"}),
    ),
)
