"""Flags, from the command line and from the environment."""

import argparse
from importlib import metadata

import pytest
from buildgrid_operator.cli import run
from buildgrid_operator.cli.main import main
from buildgrid_operator.process.options import Options

HOME = "--leader-election-namespace=home"


@pytest.fixture(autouse=True)
def no_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests run outside of a pod."""
    for name in ("POD_NAME", "POD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)


def _options(*arguments: str) -> Options:
    parser = argparse.ArgumentParser()
    run.configure(parser)
    return run.options_of(parser.parse_args(arguments))


def test_what_the_chart_gives_is_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POD_NAME", "op-1")
    monkeypatch.setenv("POD_NAMESPACE", "home")
    options = _options(
        "--namespace=a", "--namespace=b", HOME, "--leader-election-name=op", "--monitoring-listen=:8080",
        "--log-level=debug", "--log-format=text", "--cluster-domain=example.org", "--service-account=op",
        "--pod-label=app=op", "--pod-label=tier=x=y", "--scheduler-image=example.org/s:1",
        "--bot-image=example.org/b:1", "--image-registry=mirror.example.org", "--image-pull-secret=one",
        "--image-pull-secret=two", "--allow-unsafe-pod-templates", "--scheduler-ca-file=/run/ca.crt",
    )  # fmt: skip
    assert options.namespaces == ("a", "b")
    assert (options.identity, options.lease_namespace, options.lease_name) == ("op-1", "home", "op")
    assert (options.log_form, options.log_level) == ("text", "debug")
    settings = options.settings
    assert settings.operator.labels == {"app": "op", "tier": "x=y"}
    assert (settings.scheduler_image, settings.bot_image) == ("example.org/s:1", "example.org/b:1")
    assert settings.image_pull_secrets == ("one", "two")
    assert settings.allow_privileged_pods
    assert str(options.ca_file) == "/run/ca.crt"


def test_the_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDGRID_OPERATOR_NAMESPACE", "a, b")
    monkeypatch.setenv("BUILDGRID_OPERATOR_LOG_FORMAT", "text")
    monkeypatch.setenv("BUILDGRID_OPERATOR_ALLOW_UNSAFE_POD_TEMPLATES", "true")
    options = _options(HOME)
    assert options.namespaces == ("a", "b")
    assert options.log_form == "text"
    assert options.settings.allow_privileged_pods
    assert _options(HOME, "--namespace=c").namespaces == ("c",)


def test_images_are_those_of_the_operators_own_version() -> None:
    settings = _options(HOME, "--all-namespaces").settings
    version = metadata.version("buildgrid-kubernetes")
    registry = "ghcr.io/buildgrid-kubernetes"
    assert settings.scheduler_image == f"{registry}/scheduler:{version}"
    assert settings.bot_image == f"{registry}/bot:{version}"


def test_it_must_be_said_which_namespaces() -> None:
    assert _options(HOME, "--all-namespaces").namespaces == ()
    for arguments in ([], ["--all-namespaces", "--namespace=a"]):
        with pytest.raises(ValueError, match="either --all-namespaces, or --namespace"):
            _options(HOME, *arguments)


def test_the_lease_needs_a_place(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--all-namespaces"]) == 3
    assert "--leader-election-namespace" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--log-format=xml"], "neither json nor text"),
        (["--log-level=loud"], "invalid choice"),
        (["--workers=many"], "invalid int value"),
    ],
)
def test_a_wrong_value_is_told(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", *arguments])
    assert words in capsys.readouterr().err


def test_a_label_is_a_key_and_a_value() -> None:
    with pytest.raises(ValueError, match="--pod-label: 'x' is not KEY=VALUE"):
        _options(HOME, "--all-namespaces", "--pod-label=x")
