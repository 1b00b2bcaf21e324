"""What the objects of a fleet are called. A bot pod's metadata tell which bot of which fleet it is.

A fleet's name has 40 characters at most, so that every name here fits a label (63).
"""

from collections.abc import Mapping

from buildgrid_operator.api.resource import GROUP, Metadata
from buildgrid_operator.desired import names as scheduler_names
from buildgrid_operator.desired.names import OWNER_UID_LABEL, TEMPLATE_HASH, Json

FLEET_LABEL = f"{GROUP}/fleet"
"""The BotFleet's name, on everything that is made for it."""
FLEET_UID_LABEL = f"{GROUP}/fleet-uid"
"""The BotFleet's UID, likewise: one of the same name that was made later is another fleet."""
NUMBER_LABEL = f"{GROUP}/bot-number"
"""On pods: the number in the name."""
PROTECTED_LABEL = f"{GROUP}/protected"
"""On pods that nobody may evict: `true`, until the bot runs nothing and is not given anything any more."""
PROTECTED = "true"
WORKS_FOR = f"{GROUP}/works-for"
"""Annotation of pods: NAMESPACE/NAME of the Scheduler, which a pod tells when its BotFleet is gone."""
INSTANCE = f"{GROUP}/instance"
"""Annotation of pods: the instance there."""

_OF_UID = 5
"""characters, in names"""
BOT = "bot"
"""component, and name of the container"""
INSTALL = "install"
"""name of the init container"""


def pod_name(owner: Metadata, number: int) -> str:
    """The pod, and with it the bot: its `bot_id`. No other fleet's, nor of a namesake before, has it."""
    return f"{pod_prefix(owner)}{number}"


def pod_prefix(owner: Metadata) -> str:
    """What comes before the number."""
    return f"{owner.name}-{owner.uid[:_OF_UID]}-"


def account_name(owner: Metadata) -> str:
    """The ServiceAccount of the pods; policies of Schedulers name it."""
    return bots_name(owner)


def bots_name(owner: Metadata) -> str:
    """The ServiceAccount, the PodDisruptionBudget and the NetworkPolicy."""
    return f"{owner.name}-bots"


def selector(owner: Metadata) -> dict[str, str]:
    """Labels that only this fleet's pods have."""
    return {FLEET_LABEL: owner.name, FLEET_UID_LABEL: owner.uid}


def selector_of_all() -> dict[str, str]:
    """Labels that the bot pods of all fleets have."""
    return {
        "app.kubernetes.io/name": "buildgrid",
        "app.kubernetes.io/component": BOT,
        "app.kubernetes.io/managed-by": "buildgrid-operator",
    }


def labels(owner: Metadata, version: str | None = None) -> dict[str, str]:
    """The labels that Kubernetes recommends, and ours."""
    return {**scheduler_names.recommended_labels(owner, BOT, version), **selector(owner)}


def owner_reference(owner: Metadata) -> Json:
    """Goes with its BotFleet. Without one `kubectl drain` refuses a pod."""
    return scheduler_names.owner_reference(owner, "BotFleet")


def metadata(owner: Metadata, name: str, annotations: Mapping[str, str] | None = None) -> Json:
    """The metadata of an object that goes with its BotFleet, or when it is not wanted any more."""
    told = {"annotations": dict(annotations)} if annotations else {}
    return {
        "name": name,
        "namespace": owner.namespace,
        # Pods do not have it: each is let go of by itself.
        "labels": {**labels(owner), OWNER_UID_LABEL: owner.uid},
        **told,
        "ownerReferences": [owner_reference(owner)],
    }


def number_of(metadata: Json) -> int | None:
    """The number of a bot pod, by its metadata; None: it is none that the operator made."""
    text = (metadata.get("labels") or {}).get(NUMBER_LABEL, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def scheduler_told_by_pod(metadata: Json) -> tuple[str, str] | None:
    """Namespace and name of the Scheduler that a bot pod works for; None: it is none, or does not tell."""
    told = (metadata.get("annotations") or {}).get(WORKS_FOR, "")
    namespace, _, name = told.partition("/")
    number, (fleet, uid, _) = number_of(metadata), told_by_pod(metadata)
    if number is None or not (namespace and name and fleet and uid):
        return None
    # Whose name is not by our rule is not a bot of ours: nobody has others marked by a name.
    expected = pod_name(Metadata(name=fleet, uid=uid), number)
    return (namespace, name) if metadata["name"] == expected else None


def told_by_pod(metadata: Json) -> tuple[str, str, str]:
    """Name and UID of the BotFleet, and the instance, as a bot pod tells them."""
    fleet = (metadata.get("labels") or {}).get(FLEET_LABEL, "")
    instance = (metadata.get("annotations") or {}).get(INSTANCE, "")
    return str(fleet), fleet_uid_of(metadata), str(instance)


def is_protected(metadata: Json) -> bool:
    """Whether the fleet's PodDisruptionBudget keeps a pod from eviction, by its metadata."""
    return (metadata.get("labels") or {}).get(PROTECTED_LABEL) == PROTECTED


def fleet_uid_of(metadata: Json) -> str:
    """The UID of the BotFleet that a pod is of; empty: of none."""
    return str((metadata.get("labels") or {}).get(FLEET_UID_LABEL, ""))


def template_hash_of(metadata: Json) -> str:
    """The hash of the template that a pod was made from; empty: not known."""
    return str((metadata.get("annotations") or {}).get(TEMPLATE_HASH, ""))
