"""What is installed: names, what is chosen by values, what is left out, and that it is the same each time."""

import base64
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from buildgrid_operator.api import BotFleet, PropertySet, Scheduler
from buildgrid_operator.desired.bots import bot_pod, notices

from tests.unit.charts.rendering import (
    CHART,
    CRDS_CHART,
    NAMESPACE,
    ROOT,
    VALUES,
    Json,
    arguments_of,
    find,
    is_hook,
    needs_helm,
    notes,
    objects,
    pods,
    rendered,
    template,
    text_of,
)
from tests.unit.operator.desired.bots.cases import fleet_inputs
from tests.unit.operator.desired.cases import changed
from tests.unit.operator.desired.restricted import violations

pytestmark = needs_helm

_CLUSTER_KINDS = {"ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}


@pytest.mark.parametrize("name", VALUES)
def test_it_is_the_same_each_time(name: str) -> None:
    assert template(VALUES[name]).stdout == text_of(name)


def test_templates_neither_guess_nor_ask_the_cluster() -> None:
    words = re.compile(
        r"\b(lookup|rand[A-Z]\w*|uuidv4|now|genCA|genSelfSignedCert|genPrivateKey|Capabilities)\b"
    )
    for file in (*CHART.rglob("templates/**/*"), *CRDS_CHART.rglob("templates/**/*")):
        if file.suffix in (".yaml", ".tpl", ".txt") and "CustomResourceDefinition" not in file.read_text():
            inside = re.findall(
                r"{{.*?}}", re.sub(r"{{-?\s*/\*.*?\*/\s*-?}}", "", file.read_text(), flags=re.S), re.S
            )
            assert not [code for code in inside if words.search(code)], file


@pytest.mark.parametrize("chart", [CHART, CRDS_CHART], ids=lambda chart: chart.name)
def test_helm_has_nothing_to_say_against_a_chart(chart: Path) -> None:
    ended = subprocess.run(
        ["helm", "lint", "--strict", str(chart)], capture_output=True, text=True, timeout=60, check=False
    )
    assert ended.returncode == 0, ended.stdout


@pytest.mark.parametrize("name", VALUES)
def test_no_two_objects_have_one_name_and_each_says_where_it_is(name: str) -> None:
    found = rendered(name)
    names = [(obj["kind"], obj["metadata"].get("namespace"), obj["metadata"]["name"]) for obj in found]
    assert len(names) == len(set(names))
    for obj in found:
        assert ("namespace" in obj["metadata"]) == (obj["kind"] not in _CLUSTER_KINDS), obj["metadata"][
            "name"
        ]
        if obj["kind"] != "Pod":
            assert obj["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "Helm"


def test_names_fit_for_the_longest_release() -> None:
    operator = {"scope": "Namespaced", "namespaces": ["builds"], "watchNodes": True}
    ended = template({"operator": operator}, release="r" * 53)
    for obj in objects(ended.stdout):
        limit = 253 if obj["kind"] in {*_CLUSTER_KINDS, "Role", "RoleBinding"} else 63
        assert len(obj["metadata"]["name"]) <= limit
    for kind in ("Scheduler", "BotFleet"):
        assert find(objects(ended.stdout), kind, "r" * 40)


def test_names_and_kinds_of_a_cluster_tell_releases_of_two_namespaces_apart() -> None:
    for obj in rendered("defaults"):
        if obj["kind"] in ("ClusterRole", "ClusterRoleBinding"):
            assert obj["metadata"]["name"].startswith(f"{NAMESPACE}-")


@pytest.mark.parametrize("name", VALUES)
def test_the_first_farm_is_valid(name: str) -> None:
    for obj in rendered(name):
        if obj["kind"] == "Scheduler":
            Scheduler.parse(obj)
        elif obj["kind"] == "PropertySet":
            PropertySet.parse(obj)
        elif obj["kind"] == "BotFleet":
            BotFleet.parse(obj)


def test_the_first_scheduler_uses_the_trial_postgresql_and_the_first_property_set() -> None:
    found = rendered("defaults")
    spec = find(found, "Scheduler", "demo-buildgrid")["spec"]
    assert spec == {
        "database": {
            "urlSecretRef": {"name": "demo-buildgrid-postgresql-url", "key": "url"},
            "passwordSecretRef": {"name": "demo-buildgrid-postgresql-generated", "key": "password"},
        },
        "propertySetRef": {"name": "demo-buildgrid"},
        "upgradePolicy": "Automatic",
    }
    url = base64.b64decode(find(found, "Secret", "demo-buildgrid-postgresql-url")["data"]["url"]).decode()
    assert url == "postgresql://buildgrid@demo-buildgrid-postgresql.farm.svc:5432/buildgrid"
    service = find(found, "Service", "demo-buildgrid-postgresql")
    postgresql = find(found, "StatefulSet", "demo-buildgrid-postgresql")
    assert service["spec"]["selector"].items() <= postgresql["spec"]["template"]["metadata"]["labels"].items()
    assert "--secret=demo-buildgrid-postgresql-generated" in arguments_of(
        find(found, "Job", "demo-buildgrid-password")
    )


def test_what_is_written_in_the_spec_is_taken_as_it_is() -> None:
    found = rendered("everything")
    spec = find(found, "Scheduler", "main")["spec"]
    assert {name: spec[name] for name in ("instances", "replicas", "service")} == {
        "instances": ["main"],
        "replicas": 2,
        "service": {"port": 80},
    }
    assert spec["propertySetRef"] == {"name": "linux"}
    assert find(found, "PropertySet", "linux")["spec"] == {"static": {"labels": [{"label": "all"}]}}
    own = find(rendered("its own database"), "Scheduler", "demo-buildgrid")["spec"]["database"]
    assert own == {"urlSecretRef": {"name": "database", "key": "url"}}


@pytest.mark.parametrize("spec", [{"image": "ghcr.io/example/scheduler:1"}, {"upgradePolicy": "Manual"}])
def test_a_scheduler_with_an_image_of_its_own_is_not_upgraded_with_the_release(spec: Json) -> None:
    found = objects(template({"scheduler": {"spec": spec}}).stdout)
    made = find(found, "Scheduler", "demo-buildgrid")["spec"]
    assert {name: made[name] for name in ("image", "upgradePolicy") if name in made} == spec


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("defaults", "demo-buildgrid-postgresql-generated"),
        ("everything", "demo-buildgrid-postgresql"),
        ("an existing Secret, no volume", "mine"),
    ],
)
def test_scheduler_and_postgresql_have_the_same_password(name: str, secret: str) -> None:
    found = rendered(name)
    (scheduler,) = (obj for obj in found if obj["kind"] == "Scheduler")
    assert scheduler["spec"]["database"]["passwordSecretRef"] == {"name": secret, "key": "password"}
    (postgresql,) = (obj for obj in found if obj["kind"] == "StatefulSet")
    volumes = {volume["name"]: volume for volume in postgresql["spec"]["template"]["spec"]["volumes"]}
    assert volumes["password"]["secret"]["secretName"] == secret
    made = [obj for obj in found if obj["kind"] == "Job" and obj["metadata"]["name"].endswith("-password")]
    assert bool(made) == (name == "defaults")


@pytest.mark.parametrize("name", VALUES)
def test_there_is_a_fleet_where_its_bots_are_let_in_or_somebody_asks_for_it(name: str) -> None:
    has = any(obj["kind"] == "BotFleet" for obj in rendered(name))
    assert has == (name not in {"production example", "its own database", "nothing but the operator"})


def test_there_is_no_fleet_by_itself_where_its_bots_need_a_rule() -> None:
    for spec in ({"tls": {"secretName": "tls"}}, {"auth": {"kubernetes": {"audience": "builds"}}}):
        found = objects(template({"scheduler": {"spec": spec}}).stdout)
        assert not [obj for obj in found if obj["kind"] == "BotFleet"]


def test_the_first_fleet_works_for_the_first_scheduler_with_the_bots_of_the_release() -> None:
    found = rendered("defaults")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))["appVersion"]
    obj = find(found, "BotFleet", "demo-buildgrid")
    assert obj["spec"] == {
        "schedulerRef": {"name": "demo-buildgrid"},
        "image": f"ghcr.io/buildgrid-kubernetes/bot:{version}",
        "imagePullPolicy": "IfNotPresent",
        "scaling": {"maxBots": 4},
        "resources": {"requests": {"cpu": "500m", "memory": "512Mi"}},
    }
    inputs = fleet_inputs(
        changed(obj, {"metadata.uid": "5d2c0f6e"}), find(found, "Scheduler", "demo-buildgrid")
    )
    assert notices(inputs) == ()
    assert violations(bot_pod(inputs, 1)) == []


def test_a_fleets_spec_is_taken_as_it_is_with_the_rest_of_the_defaults() -> None:
    spec = find(rendered("everything"), "BotFleet", "linux")["spec"]
    assert spec["schedulerRef"] == {"name": "main"}
    assert spec["imagePullPolicy"] == "Always"
    assert (spec["instance"], spec["slotsPerBot"], spec["scaling"]) == (
        "main",
        2,
        {"minBots": 1, "maxBots": 4},
    )
    other = find(rendered("only bots"), "BotFleet", "demo-buildgrid")["spec"]
    assert other["schedulerRef"] == {"name": "main", "namespace": "builds"}
    assert other["image"] == "registry.example.org/bot:1"
    assert "imagePullPolicy" not in other


def test_test_and_users_go_to_the_service_that_the_operator_makes() -> None:
    found = rendered("everything")
    endpoint = "grpc://main-scheduler.farm.svc:80"
    (test,) = find(found, "Pod", "demo-buildgrid-test")["spec"]["containers"]
    assert test["args"][:4] == ["execute", f"--endpoint={endpoint}", "--instance=main", "--wait=7"]
    assert "--property=Pool=big ones" in test["args"]
    told = notes(VALUES["everything"])
    assert f"--remote_executor={endpoint} --remote_instance_name=main" in told


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "defaults",
            [
                "condition=Ready scheduler.buildgrid.build/demo-buildgrid",
                "helm test demo -n farm",
                "kubectl -n farm get bgf demo-buildgrid --watch",
                "kubectl -n farm describe bgf demo-buildgrid",
                "its password",
            ],
        ),
        ("everything", ["kubectl -n farm get bgf linux --watch"]),
        ("its own database", ["helm test demo", "set botFleet.enabled=true"]),
        (
            "auth and TLS",
            ["It wants TLS or tokens", "identities: [{serviceAccount: farm/demo-buildgrid-bots}]"],
        ),
        ("two namespaces", ["Schedulers and BotFleets in builds, farm."]),
        (
            "nothing but the operator",
            [
                "kubectl apply -f examples/kubernetes/scheduler-minimal.yaml",
                "kubectl apply -f examples/kubernetes/bot-fleet-minimal.yaml",
            ],
        ),
    ],
)
def test_the_notes_say_what_to_do_next(name: str, words: list[str]) -> None:
    told = notes(VALUES[name])
    assert "<no value>" not in told
    assert [word for word in words if word not in told] == []
    assert ("The PostgreSQL is for trials" in told) == (
        name in ("defaults", "everything", "auth and TLS", "two namespaces")
    )


def test_the_rule_that_the_notes_give_lets_the_bots_in() -> None:
    found = rendered("auth and TLS")
    fleet = changed(find(found, "BotFleet", "demo-buildgrid"), {"metadata.uid": "5d2c0f6e"})
    owner = find(found, "Scheduler", "demo-buildgrid")
    assert notices(fleet_inputs(fleet, owner))
    told = re.search(r"{identities: .*", notes(VALUES["auth and TLS"]))
    assert told is not None
    rule = yaml.safe_load(told[0])
    owner = changed(owner, {"spec.auth.policy": [*owner["spec"]["auth"]["policy"], rule]})
    assert notices(fleet_inputs(fleet, owner)) == ()


@pytest.mark.parametrize(
    "name", ["auth and TLS", "production example", "nothing but the operator", "only bots"]
)
def test_no_test_is_offered_that_would_not_be_let_in(name: str) -> None:
    assert not [obj for obj in rendered(name) if obj["kind"] == "Pod"]


def test_the_operator_is_told_its_scope() -> None:
    def scope(name: str) -> list[str]:
        arguments = arguments_of(find(rendered(name), "Deployment", "demo-buildgrid-operator"))
        return [argument for argument in arguments if argument.startswith(("--all-n", "--namespace"))]

    assert scope("defaults") == ["--all-namespaces"]
    assert scope("namespaced") == ["--namespace=farm"]
    assert scope("two namespaces") == ["--namespace=builds", "--namespace=farm"]


def test_the_operator_may_use_the_lease_that_it_is_told_of() -> None:
    found = rendered("defaults")
    arguments = arguments_of(find(found, "Deployment", "demo-buildgrid-operator"))
    rules = find(found, "Role", "demo-buildgrid-operator-leader-election")["rules"]
    (name,) = (names for rule in rules for names in rule.get("resourceNames", ()))
    assert f"--leader-election-name={name}" in arguments
    assert f"--leader-election-name={name}" in arguments_of(find(found, "Job", "demo-buildgrid-uninstall"))


def test_unsafe_pod_templates_are_for_who_asks() -> None:
    flag = "--allow-unsafe-pod-templates"
    assert flag not in arguments_of(find(rendered("defaults"), "Deployment", "demo-buildgrid-operator"))
    assert flag in arguments_of(find(rendered("everything"), "Deployment", "demo-buildgrid-operator"))


@pytest.mark.parametrize("name", VALUES)
def test_hooks_are_gone_when_they_have_succeeded(name: str) -> None:
    for obj in rendered(name):
        if is_hook(obj):
            policy = obj["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
            assert policy == "before-hook-creation,hook-succeeded"
        if obj["kind"] == "Job":
            assert is_hook(obj)
            assert obj["spec"]["ttlSecondsAfterFinished"] > 0


def test_the_uninstall_job_has_more_time_than_it_waits() -> None:
    job = find(rendered("everything"), "Job", "demo-buildgrid-uninstall")
    assert job["spec"]["activeDeadlineSeconds"] > 600
    assert "--timeout=600s" in arguments_of(job)
    assert "--when-busy=proceed" in arguments_of(job)


def test_what_is_switched_off_is_not_there() -> None:
    kinds = [obj["kind"] for obj in rendered("nothing but the operator")]
    assert sorted(kinds) == sorted(
        [
            "ServiceAccount",
            "ClusterRole",
            "ClusterRoleBinding",
            "ClusterRole",  # for nodes
            "ClusterRoleBinding",
            *["Role", "RoleBinding"] * 3,  # for the Lease, its own tokens, its own namespace
            "Service",
            "Deployment",
        ]
    )


def test_the_service_monitor_finds_the_operators_service() -> None:
    found = rendered("everything")
    monitor = find(found, "ServiceMonitor", "demo-buildgrid-operator")
    service = find(found, "Service", "demo-buildgrid-operator")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    (endpoint,) = monitor["spec"]["endpoints"]
    (port,) = service["spec"]["ports"]
    assert endpoint["port"] == port["name"]


def test_keda_reaches_the_port_at_which_the_operator_is_told_to_listen() -> None:
    found = rendered("everything")
    service = find(found, "Service", "demo-buildgrid-operator-scaler")["spec"]
    pod = find(found, "Deployment", "demo-buildgrid-operator")["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert service["selector"].items() <= pod["metadata"]["labels"].items()
    (port,) = service["ports"]
    (target,) = (each for each in container["ports"] if each["name"] == port["targetPort"])
    assert f"--external-scaler-listen=:{target['containerPort']}" in container["args"]
    asked = rendered("defaults")
    assert not [obj for obj in asked if obj["metadata"]["name"].endswith("-scaler")]


@pytest.mark.parametrize("name", VALUES)
def test_ports_that_are_probed_or_served_exist(name: str) -> None:
    for pod, found in pods(rendered(name)):
        for container in found["spec"]["containers"]:
            ports = {port["name"] for port in container.get("ports", ())}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if "httpGet" in container.get(probe, {}):
                    assert container[probe]["httpGet"]["port"] in ports, pod


def test_the_chart_of_crds_has_all_of_them_and_keeps_them() -> None:
    ended = template({}, chart=CRDS_CHART)
    assert ended.returncode == 0, ended.stderr
    made = {obj["metadata"]["name"]: obj for obj in objects(ended.stdout)}
    for file in (ROOT / "crds").glob("*.yaml"):
        crd: Json = yaml.safe_load(file.read_text(encoding="utf-8"))
        rendered_crd = made.pop(crd["metadata"]["name"])
        assert rendered_crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
        assert rendered_crd == crd
    assert not made
