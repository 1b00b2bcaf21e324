"""What of a BotFleet does not fit its Scheduler.

What makes the pods impossible raises; what only makes it likely that no bot gets a session is a notice, since
tokens, certificates and copies of ConfigMaps may come from elsewhere.
"""

import re
from collections.abc import Iterator

from buildgrid_operator.api.auth import KUBERNETES_ISSUER, Auth
from buildgrid_operator.api.auth import Matcher as Identities
from buildgrid_operator.api.problems import InvalidSpec, Problem
from buildgrid_operator.desired.auth import auth_of, has_fleet_port
from buildgrid_operator.desired.bots import names
from buildgrid_operator.desired.bots.connection import connection
from buildgrid_operator.desired.bots.inputs import FleetInputs

CERTIFICATE_VARIABLE, TOKEN_VARIABLE = "BUILDGRID_BOT_TLS_CERTIFICATE", "BUILDGRID_BOT_TOKEN_FILE"
_MAY_RUN_BOTS = frozenset({"RunBots", "Administer"})
_PATTERN = re.compile(r"\*\*|\*|\?|[^*?]+")
_MEANING = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
"""As the scheduler reads patterns of a policy."""


def check(inputs: FleetInputs) -> None:
    """Raises InvalidSpec with everything that must be mended before there can be a pod."""
    if problems := list(_problems(inputs)):
        raise InvalidSpec(problems)


def notices(inputs: FleetInputs) -> tuple[Problem, ...]:
    """What probably keeps bots from a session, and what to do. Fields are the BotFleet's."""
    return tuple(_notices(inputs))


def _problems(inputs: FleetInputs) -> Iterator[Problem]:
    fleet, scheduler = inputs.metadata, inputs.scheduler
    owner, spec = scheduler.metadata, scheduler.spec
    allowed = spec.allowed_fleet_namespaces
    if fleet.namespace != owner.namespace and not {"*", fleet.namespace} & set(allowed):
        yield Problem(
            "spec.schedulerRef.namespace",
            f"the Scheduler {owner.name} does not take fleets of the namespace {fleet.namespace}; add it to "
            "the Scheduler's spec.allowedFleetNamespaces, or make the fleet in its namespace",
        )
    if inputs.instance not in spec.instances:
        known = ", ".join(repr(name) for name in spec.instances)
        yield Problem(
            "spec.instance",
            f"the Scheduler {owner.name} does not serve {inputs.instance!r}; it serves {known}",
        )


def _notices(inputs: FleetInputs) -> Iterator[Problem]:
    scheduler = inputs.scheduler
    owner, spec = scheduler.metadata, scheduler.spec
    told, auth = connection(inputs), auth_of(spec)
    given = _variables(inputs)
    if told.authority is not None and owner.namespace != inputs.metadata.namespace:
        yield Problem(
            "spec.schedulerRef.namespace",
            f"bots mount the ConfigMap {told.authority[0]} with the Scheduler's CA from their own namespace "
            f"{inputs.metadata.namespace}, since none can be mounted from {owner.namespace}; keep a copy "
            "there, for example with trust-manager",
        )
    if has_fleet_port(spec) and CERTIFICATE_VARIABLE not in given:
        yield Problem(
            "spec.podTemplate",
            "the Scheduler asks every caller for a certificate (spec.tls.clientCaSecretRef); mount one, for "
            f"example of cert-manager's CSI driver, and set {CERTIFICATE_VARIABLE} and "
            f"{CERTIFICATE_VARIABLE.replace('CERTIFICATE', 'KEY')} of the container {names.BOT}",
        )
    if auth is None:
        return
    if auth.kubernetes is None:
        if not {CERTIFICATE_VARIABLE, TOKEN_VARIABLE} & given:
            yield Problem(
                "spec.podTemplate",
                "the Scheduler takes no tokens of this cluster, so that bots have none to show; set "
                f"auth.kubernetes of the Scheduler, or mount a token and set {TOKEN_VARIABLE} of the "
                f"container {names.BOT}",
            )
    elif TOKEN_VARIABLE not in given and not _may_run_bots(inputs, auth, told.instance):
        account = f"{inputs.metadata.namespace}/{names.account_name(inputs.metadata)}"
        yield Problem(
            "spec.schedulerRef",
            f"no rule in auth.policy of the Scheduler {owner.name} lets {account} run bots; add "
            f"{{identities: [{{serviceAccount: {account}}}], rights: [RunBots]}}",
        )


def _variables(inputs: FleetInputs) -> set[str]:
    """Names of environment variables that spec.podTemplate gives to the bot."""
    listed = [container.get("env") for container in inputs.template_containers()]
    return {
        str(each.get("name"))
        for env in listed
        if isinstance(env, list)
        for each in env
        if isinstance(each, dict)
    }


def _may_run_bots(inputs: FleetInputs, auth: Auth, instance: str) -> bool:
    """Whether the policy lets the ServiceAccount in, as its token tells of it."""
    owner = inputs.metadata
    namespace, account = owner.namespace, names.account_name(owner)
    subject = f"system:serviceaccount:{namespace}:{account}"
    identity = {
        "issuer": KUBERNETES_ISSUER,
        "workflow": KUBERNETES_ISSUER,
        "subject": subject,
        "actor": subject,
        "service_account": f"{namespace}/{account}",
    }
    return any(
        _MAY_RUN_BOTS & set(rule.rights)
        and any(_matches(pattern, instance) for pattern in rule.instances)
        and any(_is(identities, identity) for identities in rule.identities)
        for rule in auth.policy
    )


def _is(identities: Identities, identity: dict[str, str]) -> bool:
    wanted = {name: pattern for name, pattern in identities if pattern is not None}
    return all(name in identity and _matches(pattern, identity[name]) for name, pattern in wanted.items())


def _matches(pattern: str, value: str) -> bool:
    parts = (_MEANING.get(part) or re.escape(part) for part in _PATTERN.findall(pattern))
    return re.fullmatch("".join(parts), value, re.DOTALL) is not None
