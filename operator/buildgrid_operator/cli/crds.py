"""`buildgrid-operator crds print` and `crds apply`: the CRDs of this version, which the models say."""

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from kubernetes.config import ConfigException

from buildgrid_operator.api.crd import KINDS, crd_of, crd_yaml
from buildgrid_operator.cli.flags import FAILED, USELESS, Flags, add_connection, connected, duration
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.errors import ClusterError
from buildgrid_operator.cluster.kinds import CUSTOM_RESOURCE_DEFINITION, Manifest

_POLL = 0.5
_SHOWN = 5


def configure(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("print", help="write them to standard output, as YAML")
    apply = actions.add_parser("apply", help="bring those of the cluster up to date; refuses downgrades")
    flags = Flags(apply)
    flags.one(
        "--timeout", "2m", type=duration, metavar="TIME", help="for the cluster to serve them (default: 2m)"
    )
    add_connection(flags)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code: 3 for a downgrade, which no other attempt would make possible."""
    if options.action == "print":
        print("---\n".join(crd_yaml(kind) for kind in KINDS), end="")
        return 0
    try:
        return apply_crds(connected(options), options.timeout)
    except (ClusterError, ConfigException) as error:
        print(f"buildgrid-operator: {error}", file=sys.stderr)
        return FAILED


def apply_crds(client: Client, timeout: timedelta) -> int:
    """All of them or, if one would be a downgrade, none. Raises ClusterError."""
    wanted = [crd_of(kind) for kind in KINDS]
    installed = [client.find(CUSTOM_RESOURCE_DEFINITION, None, crd["metadata"]["name"]) for crd in wanted]
    refused = False
    for crd, live in zip(wanted, installed, strict=True):
        lost = [] if live is None else list(lost_fields(live, crd))
        if lost:
            refused = True
            more = f" and {len(lost) - _SHOWN} more" if len(lost) > _SHOWN else ""
            print(
                f"{crd['metadata']['name']} is of a newer version: it has {', '.join(lost[:_SHOWN])}{more}, "
                "which objects may use and this version would drop; use a newer chart, or set "
                "crds.install=false",
                file=sys.stderr,
            )
    if refused:
        return USELESS
    for crd in wanted:
        client.apply(crd)
        print(f"{crd['metadata']['name']}: applied")
    return _wait(client, [crd["metadata"]["name"] for crd in wanted], timeout)


def lost_fields(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """Versions and fields that a CRD in the cluster has and another one has not.

    Fields are only ever added, so that whatever has more of them is newer.
    """
    versions = {version["name"]: version for version in wanted["spec"]["versions"]}
    for version in live["spec"]["versions"]:
        name = version["name"]
        if name not in versions:
            yield f"the version {name}"
            continue
        yield from _lost(_schema(version), _schema(versions[name]), "")


def _schema(version: Mapping[str, Any]) -> Mapping[str, Any]:
    return (version.get("schema") or {}).get("openAPIV3Schema") or {}


def _lost(live: Mapping[str, Any], wanted: Mapping[str, Any], path: str) -> Iterator[str]:
    known = wanted.get("properties") or {}
    for name, inner in (live.get("properties") or {}).items():
        here = f"{path}.{name}" if path else name
        if name in known:
            yield from _lost(inner, known[name], here)
        elif not wanted.get("x-kubernetes-preserve-unknown-fields"):
            yield here
    for part, suffix in (("items", "[]"), ("additionalProperties", "{}")):
        inner, ours = live.get(part), wanted.get(part)
        if isinstance(inner, Mapping) and isinstance(ours, Mapping):
            yield from _lost(inner, ours, path + suffix)


def _wait(client: Client, names: list[str], timeout: timedelta) -> int:
    deadline = time.monotonic() + timeout.total_seconds()
    while True:
        waiting = [
            name for name in names if not _is_served(client.get(CUSTOM_RESOURCE_DEFINITION, None, name))
        ]
        if not waiting:
            return 0
        if time.monotonic() > deadline:
            words = "see its conditions with kubectl describe crd"
            print(
                f"{', '.join(waiting)}: not served after {timeout.total_seconds():g} s; {words}",
                file=sys.stderr,
            )
            return FAILED
        time.sleep(_POLL)


def _is_served(crd: Manifest) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(each["type"] == "Established" and each["status"] == "True" for each in conditions)
