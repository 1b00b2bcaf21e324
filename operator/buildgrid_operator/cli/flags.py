"""Flags that can be given in the environment as well."""

import argparse
import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from buildgrid_operator.api.durations import parse_duration
from buildgrid_operator.cluster.client import Client
from buildgrid_operator.cluster.connection import connect

PREFIX = "BUILDGRID_OPERATOR_"
FAILED, USELESS = 1, 3
"""Exit codes: it may go well later; trying again is of no use (the chart's Jobs end with it)."""


class Flags:
    """Adds flags to a parser, with defaults from the environment."""

    def __init__(self, parser: argparse.ArgumentParser, environment: Mapping[str, str] | None = None) -> None:
        self._parser = parser
        self._environment = os.environ if environment is None else environment

    def one(self, flag: str, default: str | None = None, *, required: bool = False, **more: Any) -> None:
        """A flag with a value. Its type is applied to what comes from the environment, too."""
        told = self._told(flag)
        self._parser.add_argument(
            flag, default=default if told is None else told, required=required and told is None, **more
        )

    def many(self, flag: str, **more: Any) -> None:
        """A flag that may be given several times."""
        told = self._told(flag)
        values = [value.strip() for value in told.split(",") if value.strip()] if told else []
        self._parser.add_argument(flag, action=_Several, default=values, **more)

    def switch(self, flag: str, **more: Any) -> None:
        """A flag without a value; in the environment `true` or `false`."""
        told = (self._told(flag) or "false").lower()
        if told not in ("true", "false"):
            self._parser.error(f"{variable(flag)} must be true or false")
        self._parser.add_argument(flag, action="store_true", default=told == "true", **more)

    def _told(self, flag: str) -> str | None:
        return self._environment.get(variable(flag))


class _Several(argparse.Action):
    """Appends; what is given on the command line takes the place of the environment's values."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        given = getattr(namespace, f"_given_{self.dest}", [])
        setattr(namespace, f"_given_{self.dest}", [*given, values])
        setattr(namespace, self.dest, [*given, values])


def variable(flag: str) -> str:
    """The environment variable of a flag."""
    return PREFIX + flag.removeprefix("--").replace("-", "_").upper()


def duration(text: str) -> timedelta:
    """A flag's type: `90s`, `1h30m`."""
    try:
        return parse_duration(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def pair(text: str) -> tuple[str, str]:
    """A flag's type: `KEY=VALUE`."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def log_form(text: str) -> Literal["json", "text"]:
    """A flag's type."""
    if text == "json":
        return "json"
    if text == "text":
        return "text"
    raise argparse.ArgumentTypeError(f"{text!r} is neither json nor text")


def add_connection(flags: Flags) -> None:
    """How the cluster is reached."""
    flags.one(
        "--kubeconfig", metavar="FILE", help="how the cluster is reached; in a pod: as its ServiceAccount"
    )
    flags.one("--context", metavar="NAME", help="the context of the kubeconfig (default: its current one)")


def connected(options: argparse.Namespace) -> Client:
    """The client, as the flags of `add_connection` say. Raises kubernetes.config.ConfigException."""
    kubeconfig = Path(options.kubeconfig) if options.kubeconfig else None
    return Client(connect(kubeconfig=kubeconfig, context=options.context, user_agent="buildgrid-operator"))


def add_namespaces(flags: Flags) -> None:
    """Which namespaces are meant."""
    flags.many("--namespace", metavar="NAME", help="only in this namespace; may be given several times")
    flags.switch("--all-namespaces", help="in all namespaces")


def namespaces_of(options: argparse.Namespace) -> tuple[str, ...]:
    """The namespaces; empty: all. Raises ValueError when it is not said which."""
    if options.all_namespaces == bool(options.namespace):
        raise ValueError("give either --all-namespaces, or --namespace for each one")
    return tuple(dict.fromkeys(options.namespace))
