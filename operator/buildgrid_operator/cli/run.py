"""`buildgrid-operator run`"""

import argparse
import asyncio
import os
import sys
from importlib import metadata
from pathlib import Path

from kubernetes.config import ConfigException

from buildgrid_operator.cli.flags import (
    USELESS,
    Flags,
    add_connection,
    add_namespaces,
    log_form,
    namespaces_of,
    pair,
)
from buildgrid_operator.desired import Operator, Settings
from buildgrid_operator.process.leadership import own_identity
from buildgrid_operator.process.operator import run as run_operator
from buildgrid_operator.process.options import Options

IMAGES = "ghcr.io/buildgrid-kubernetes"
"""Where the project's images are, all with the project's version."""
_LEVELS = ("debug", "info", "warning", "error")


def configure(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    flags = Flags(parser)
    add_namespaces(flags)
    flags.one(
        "--leader-election-namespace",
        os.environ.get("POD_NAMESPACE"),
        metavar="NAME",
        help="where the Lease of who acts is (default: POD_NAMESPACE)",
    )
    flags.one(
        "--leader-election-name",
        "buildgrid-operator",
        metavar="NAME",
        help="the Lease (default: %(default)s)",
    )
    flags.one(
        "--monitoring-listen", ":8080", metavar="HOST:PORT", help="metrics and health (default: %(default)s)"
    )
    flags.one(
        "--external-scaler-listen",
        metavar="HOST:PORT",
        help="answer KEDA here, without TLS, how many bots BotFleets of scaling.mode External need "
        "(default: nowhere)",
    )
    flags.one(
        "--log-format", "json", type=log_form, metavar="json|text", help="of its log, on standard error"
    )
    flags.one("--log-level", "info", choices=_LEVELS, help="what is less important is not logged")
    flags.one("--cluster-domain", "cluster.local", metavar="DOMAIN", help="the cluster's DNS domain")
    flags.one("--service-account", "buildgrid-operator", metavar="NAME", help="its own ServiceAccount")
    flags.many(
        "--pod-label",
        metavar="KEY=VALUE",
        help="a label of its own pods, by which NetworkPolicies let it in; may be given several times",
    )
    version = metadata.version("buildgrid-kubernetes")
    for name, kind in (("scheduler", "Schedulers"), ("bot", "BotFleets")):
        flags.one(
            f"--{name}-image",
            f"{IMAGES}/{name}:{version}",
            metavar="IMAGE",
            help=f"of {kind} that name none (default: %(default)s)",
        )
    flags.one("--image-registry", metavar="HOST", help="in front of images that name no registry")
    flags.many("--image-pull-secret", metavar="NAME", help="for every pod; may be given several times")
    flags.switch(
        "--allow-unsafe-pod-templates",
        help="pod templates may set hostPath, privileged, host namespaces and another ServiceAccount",
    )
    flags.one(
        "--scheduler-ca-file",
        metavar="FILE",
        help="PEM of who signs the certificates of Schedulers with TLS, unless they say it in "
        "spec.tls.caConfigMapRef (default: whom the system believes)",
    )
    flags.one(
        "--scheduler-endpoint",
        metavar="URL",
        help="where Schedulers are reached if not at their Service, for an operator outside of the cluster: "
        "grpc://HOST:PORT, with {namespace} and {name} in it",
    )
    flags.one(
        "--workers", "8", type=int, metavar="N", help="Schedulers that it works at at once (default: 8)"
    )
    add_connection(flags)


def run(options: argparse.Namespace) -> int:
    """Until it is told to stop, or leads no longer; returns the exit code."""
    try:
        told = options_of(options)
        return asyncio.run(run_operator(told))
    except (ValueError, OSError, ConfigException) as error:
        print(f"buildgrid-operator: {error}", file=sys.stderr)
        return USELESS


def options_of(options: argparse.Namespace) -> Options:
    """From the flags. Raises ValueError for some that do not fit together."""
    home = options.leader_election_namespace
    if not home:
        raise ValueError("give --leader-election-namespace, where the Lease of who acts may be")
    try:
        labels = dict(pair(each) for each in options.pod_label)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"--pod-label: {error}") from None
    return Options(
        settings=Settings(
            operator=Operator(os.environ.get("POD_NAMESPACE") or home, options.service_account, labels),
            scheduler_image=options.scheduler_image,
            bot_image=options.bot_image,
            image_registry=options.image_registry or None,
            image_pull_secrets=tuple(options.image_pull_secret),
            cluster_domain=options.cluster_domain,
            allow_privileged_pods=options.allow_unsafe_pod_templates,
        ),
        lease_namespace=home,
        lease_name=options.leader_election_name,
        identity=own_identity(),
        namespaces=namespaces_of(options),
        monitoring=options.monitoring_listen,
        external_scaler=options.external_scaler_listen or None,
        log_form=options.log_format,
        log_level=options.log_level,
        ca_file=_path(options.scheduler_ca_file),
        fleet_endpoint=options.scheduler_endpoint or None,
        kubeconfig=_path(options.kubeconfig),
        context=options.context or None,
        workers=options.workers,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
