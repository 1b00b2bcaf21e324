"""`buildgrid-operator create-password`: a Secret with a random password, for the trial PostgreSQL."""

import argparse
import secrets
import sys
from pathlib import Path

from kubernetes import client as kubernetes
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError

from buildgrid_operator.cli.flags import FAILED, USELESS, Flags, add_connection, pair
from buildgrid_operator.cluster.connection import connect

_BYTES = 24
_CONFLICT = 409
_SECONDS = 30


def configure(parser: argparse.ArgumentParser) -> None:
    """Its flags."""
    flags = Flags(parser)
    flags.one("--namespace", required=True, metavar="NAME", help="where the Secret is made")
    flags.one("--secret", required=True, metavar="NAME", help="its name")
    flags.one("--key", "password", metavar="KEY", help="the key of the password (default: %(default)s)")
    flags.many("--label", metavar="KEY=VALUE", help="a label of the Secret; may be given several times")
    add_connection(flags)


def run(options: argparse.Namespace) -> int:
    """Returns the exit code. A Secret that is there stays as it is, and is not read."""
    about = f"Secret {options.namespace}/{options.secret}"
    try:
        labels = dict(pair(each) for each in options.label)
        made = _make(options, labels)
    except argparse.ArgumentTypeError as error:
        print(f"buildgrid-operator: --label: {error}", file=sys.stderr)
        return USELESS
    except (ApiException, HTTPError, ConfigException) as error:
        # What was sent is in no error; the answer's body is left out all the same.
        words = error.reason if isinstance(error, ApiException) else str(error)
        print(f"buildgrid-operator: {about} was not made: {words}", file=sys.stderr)
        return FAILED
    print(f"{about}: {'made' if made else 'is there'}")
    return 0


def _make(options: argparse.Namespace, labels: dict[str, str]) -> bool:
    """The operator's own client knows no Secrets, on purpose. False: there is one."""
    kubeconfig = Path(options.kubeconfig) if options.kubeconfig else None
    api = connect(kubeconfig=kubeconfig, context=options.context, user_agent="buildgrid-operator")
    secret = kubernetes.V1Secret(
        metadata=kubernetes.V1ObjectMeta(name=options.secret, labels=labels),
        type="Opaque",
        string_data={options.key: secrets.token_urlsafe(_BYTES)},
    )
    try:
        kubernetes.CoreV1Api(api).create_namespaced_secret(
            options.namespace, secret, _request_timeout=_SECONDS
        )
    except ApiException as error:
        if error.status == _CONFLICT:
            return False
        raise
    return True
