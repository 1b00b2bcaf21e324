"""A bot pod, whole. It keeps to restricted Pod Security, and asks not to be ended while it works."""

import math
from datetime import timedelta
from typing import Any

from buildgrid_operator.api.bot_fleet import BotFleetSpec
from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.api.resource import GROUP
from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.bots.checks import check
from buildgrid_operator.desired.bots.connection import TWO_MINUTES, connection
from buildgrid_operator.desired.bots.environment import CACHE, OWN_FIELDS, PREFIX, environment
from buildgrid_operator.desired.bots.inputs import FleetInputs
from buildgrid_operator.desired.bots.properties import ARCHITECTURE, architecture
from buildgrid_operator.desired.bots.rollout import bot_template_hash
from buildgrid_operator.desired.files import TOKEN_LIFETIME, Files
from buildgrid_operator.desired.images import version_of, with_registry
from buildgrid_operator.desired.names import TEMPLATE_HASH, Json
from buildgrid_operator.desired.overlay import overlaid
from buildgrid_operator.desired.pod import RESTRICTED, USER

BROUGHT = "/buildgrid-bot"
"""Where the bot is in an image of somebody else."""
_TMP = "/tmp"  # noqa: S108 - an emptyDir of the pod
_NOT_FOR_NODES = {
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
"""Annotations that keep a node while a bot is on it. They are never changed: the operator lets go of bots."""
_MESH = "sidecar.istio.io/inject"
"""Label, and annotation of older versions. A sidecar would outlive the bot, so that the pod never ends."""
_FIELD = "spec.podTemplate"


def bot_pod(inputs: FleetInputs, number: int) -> Json:
    """The pod of a number. Raises InvalidSpec where the spec does not let there be one."""
    check(inputs)
    owner, overlay = inputs.metadata, inputs.spec.pod_template
    template: Json = {
        "metadata": {
            "labels": {
                **names.labels(owner, version_of(inputs.image)),
                names.NUMBER_LABEL: str(number),
                names.PROTECTED_LABEL: names.PROTECTED,
            },
            "annotations": {
                TEMPLATE_HASH: bot_template_hash(inputs),
                names.WORKS_FOR: f"{inputs.scheduler.metadata.namespace}/{inputs.scheduler.metadata.name}",
                names.INSTANCE: inputs.instance,
                **_NOT_FOR_NODES,
            },
        },
        "spec": _spec(inputs),
    }
    result = template
    if overlay is not None:
        result = overlaid(
            template, overlay, _FIELD, main=names.BOT, privileged=inputs.settings.allow_privileged_pods
        )
        if problems := _relied_on(template, result):
            raise InvalidSpec(problems)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": names.pod_name(owner, number),
            "namespace": owner.namespace,
            **_out_of_mesh(result["metadata"]),
            "ownerReferences": [names.owner_reference(owner)],
        },
        "spec": result["spec"],
    }


def grace_period(inputs: FleetInputs) -> timedelta:
    """How long a pod that somebody else ends may finish what it runs."""
    wanted = inputs.spec.termination_grace_period
    return connection(inputs).longest_action + TWO_MINUTES if wanted is None else wanted


def token_lifetime(grace: timedelta) -> timedelta:
    """Of the token that a bot shows, so that the one that it has when its pod is ended lasts for as long as
    the pod may: kubelet renews none of a pod that is ending (kubernetes/kubernetes#116481).

    Before that it renews one of which a fifth is left, and one that is a day old.
    """
    left = grace + TWO_MINUTES  # kubelet looks after each pod about once a minute
    return max(TOKEN_LIFETIME, min(5 * left, timedelta(days=1) + left))


def _spec(inputs: FleetInputs) -> Json:
    spec, settings, files = inputs.spec, inputs.settings, Files()
    lifetime = token_lifetime(grace_period(inputs))
    variables = environment(inputs, connection(inputs), files, token_lifetime=lifetime)
    secrets = [*settings.image_pull_secrets, *(secret.name for secret in spec.image_pull_secrets)]
    brought = spec.action_image is not None
    optional: Json = {
        "imagePullSecrets": [{"name": name} for name in dict.fromkeys(secrets)],
        "priorityClassName": spec.priority_class_name,
        "runtimeClassName": spec.sandbox.runtime_class_name,
        "initContainers": [_install(inputs)] if brought else [],
    }
    volumes: list[Json] = [
        {"name": "cache", "emptyDir": {}},  # unbounded: limits.ephemeral-storage bounds all together
        {"name": "tmp", "emptyDir": {}},
        *([{"name": "bot", "emptyDir": {}}] if brought else []),
        *files.volumes(),
    ]
    return {
        "serviceAccountName": names.account_name(inputs.metadata),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": math.ceil(grace_period(inputs).total_seconds()),
        "nodeSelector": _nodes(spec),
        **({"hostUsers": False} if spec.sandbox.type == "UserNamespace" else {}),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": _seccomp(spec),
        },
        **{name: value for name, value in optional.items() if value},
        "containers": [_bot(inputs, variables, files)],
        "volumes": volumes,
    }


def _bot(inputs: FleetInputs, variables: list[Json], files: Files) -> Json:
    """In an image of its own the bot is what that image starts; so is any other worker."""
    mounts: list[Json] = [
        {"name": "cache", "mountPath": CACHE},
        {"name": "tmp", "mountPath": _TMP},
        *files.mounts(),
    ]
    action_image = inputs.spec.action_image
    if action_image is None:
        return _container(inputs, names.BOT, inputs.image, {"env": variables}, mounts)
    start = {
        # As the first process a bot that just starts would not hear that it is to end.
        "command": [f"{BROUGHT}/bin/tini", "--", f"{BROUGHT}/bin/buildgrid-bot"],
        "args": ["run"],
        # The image's own may be one that this user may not enter.
        "workingDir": _TMP,
        "env": variables,
    }
    image = with_registry(action_image, inputs.settings.image_registry)
    mounts.append({"name": "bot", "mountPath": BROUGHT, "readOnly": True})
    return _container(inputs, names.BOT, image, start, mounts)


def _install(inputs: FleetInputs) -> Json:
    """Copies the bot, with all that it needs, to where the container of the actions finds it."""
    args = {"args": ["install", "--to", BROUGHT]}
    mounts = [{"name": "bot", "mountPath": BROUGHT}, {"name": "tmp", "mountPath": _TMP}]
    return _container(inputs, names.INSTALL, inputs.image, args, mounts)


def _container(inputs: FleetInputs, name: str, image: str, start: Json, mounts: list[Json]) -> Json:
    resources = {kind: dict(amounts) for kind, amounts in inputs.spec.resources if amounts}
    return {
        "name": name,
        "image": image,
        "imagePullPolicy": inputs.spec.image_pull_policy,
        **start,
        **({"resources": resources} if resources else {}),
        "securityContext": RESTRICTED,
        # A pod that ended is deleted: its last words go to the fleet's condition.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }


def _nodes(spec: BotFleetSpec) -> dict[str, str]:
    wanted = architecture(spec)
    return {"kubernetes.io/os": "linux", **({} if wanted is None else {ARCHITECTURE: wanted})}


def _seccomp(spec: BotFleetSpec) -> Json:
    profile = spec.sandbox.seccomp_profile
    if profile is None:
        return {"type": "RuntimeDefault"}
    return {"type": "Localhost", "localhostProfile": profile}


def _out_of_mesh(metadata: Json) -> Json:
    """Labels and annotations, with no sidecar unless spec.podTemplate asks for one."""
    if any(_MESH in metadata[kind] for kind in ("labels", "annotations")):
        return {kind: metadata[kind] for kind in ("labels", "annotations")}
    return {kind: {**metadata[kind], _MESH: "false"} for kind in ("labels", "annotations")}


def _relied_on(template: Json, result: Json) -> list[Problem]:
    """What a podTemplate must leave as it is, besides what the overlay itself looks after."""
    found: list[Problem] = []
    for kind in ("labels", "annotations"):
        found += [
            Problem(f"{_FIELD}.metadata.{kind}", f"{name} is the operator's; remove it")
            for name in result["metadata"][kind]
            if name.startswith(f"{GROUP}/") and name not in template["metadata"][kind]
        ]
    if result["spec"].get("restartPolicy") != "Never":
        found.append(Problem(f"{_FIELD}.spec.restartPolicy", "must be Never: a bot that ended is replaced"))
    before, after = _variables(template), _variables(result)
    for name, instead in OWN_FIELDS.items():
        if before[PREFIX + name] != after.get(PREFIX + name):
            message = f"{PREFIX}{name} is the operator's; remove it: {instead}"
            found.append(Problem(f"{_FIELD}.spec.containers", message))
    return found


def _variables(template: Json) -> dict[Any, Json]:
    (bot,) = [each for each in template["spec"]["containers"] if each.get("name") == names.BOT]
    return {each.get("name"): each for each in bot.get("env") or ()}
