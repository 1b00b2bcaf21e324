"""How the API server is reached, and that nothing secret is kept where it could be shown."""

from pathlib import Path

import pytest
from buildgrid_operator.cluster.connection import connect
from kubernetes.config import ConfigException, incluster_config

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://api.example.org:6443"}}]
users: [{name: u, user: {token: abc}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""


def test_a_kubeconfig_says_where(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(KUBECONFIG)
    api = connect(kubeconfig=path, user_agent="buildgrid-operator/1")
    assert api.configuration.host == "https://api.example.org:6443"
    assert api.user_agent == "buildgrid-operator/1"
    assert api.configuration.retries is False


def test_a_pod_uses_its_service_account_and_reads_the_token_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token, certificate = tmp_path / "token", tmp_path / "ca.crt"
    token.write_text("first")
    certificate.write_text("certificate")
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "fd00::1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "443")
    monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(certificate))
    settings = connect(user_agent="x").configuration
    assert settings.host == "https://[fd00::1]:443"
    assert settings.get_api_key_with_prefix("BearerToken") == "bearer first"
    token.write_text("second")
    loader = settings.refresh_api_key_hook.__closure__[0].cell_contents
    loader.token_expires_at = loader.token_expires_at.replace(year=2000)
    assert settings.get_api_key_with_prefix("BearerToken") == "bearer second"


def test_no_credentials_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigException):
        connect(kubeconfig=tmp_path / "missing", user_agent="x")
