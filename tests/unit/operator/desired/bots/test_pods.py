"""Bot pods: whose they are, what they are told, where they run, and that nobody ends them lightly."""

from dataclasses import replace
from typing import Any

import pytest
from buildgrid_bot.options import option_parser
from buildgrid_operator.api import BotFleet, InvalidSpec
from buildgrid_operator.desired.bots import FleetInputs, bot_pod, names, offered, sandbox_level

from tests.unit.operator.desired.bots.cases import (
    CASES,
    CLUSTER_UID,
    FULL,
    IMAGE,
    OWN_CA,
    TOKENS,
    UID,
    Json,
    fleet,
    fleet_inputs,
)
from tests.unit.operator.desired.bots.found import bot, pod, told, variables
from tests.unit.operator.desired.cases import CORP, EVERYBODY, SETTINGS, changed, scheduler
from tests.unit.operator.desired.restricted import violations

LOGS = {"endpoint": "grpc://logs:50051"}


@pytest.mark.parametrize("name", CASES)
def test_pods_pass_restricted_pod_security_with_a_read_only_root(name: str) -> None:
    found = bot_pod(CASES[name], 1)
    assert violations(found) == []
    for listed in ("containers", "initContainers"):
        for each in found["spec"].get(listed, ()):
            assert each["securityContext"]["readOnlyRootFilesystem"]


@pytest.mark.parametrize("name", CASES)
def test_pods_have_no_token_of_the_api_server_and_no_secrets_in_variables(name: str) -> None:
    found = bot_pod(CASES[name], 1)
    assert found["spec"]["automountServiceAccountToken"] is False
    assert found["spec"]["enableServiceLinks"] is False
    assert "secretKeyRef" not in str(found) and "subPath" not in str(found)


def test_the_metadata_tell_which_bot_of_which_fleet_it_is_made_from_which_template() -> None:
    metadata = pod()["metadata"]
    assert (metadata["name"], metadata["namespace"]) == (f"linux-{UID[:5]}-7", "farm")
    assert names.number_of(metadata) == 7
    assert names.fleet_uid_of(metadata) == UID
    assert len(names.template_hash_of(metadata)) == 32
    (owner,) = metadata["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("BotFleet", "linux", UID)
    assert owner["controller"] and not owner["blockOwnerDeletion"]
    assert metadata["labels"].items() >= names.selector(CASES["minimal"].metadata).items()
    assert metadata["labels"].items() >= names.selector_of_all().items()


def test_it_is_no_child_of_the_scheduler() -> None:
    labels = pod()["metadata"]["labels"]
    assert "buildgrid.build/scheduler" not in labels and "buildgrid.build/owner-uid" not in labels


@pytest.mark.parametrize("text", ["", "-1", "seven", "1.5", "\u0663", None])
def test_a_number_that_the_operator_has_not_written_is_none(text: str | None) -> None:
    labels = {} if text is None else {"buildgrid.build/bot-number": text}
    assert names.number_of({"labels": labels}) is None


def test_pods_of_others_have_neither_number_nor_fleet_nor_template() -> None:
    assert names.number_of({}) is None
    assert (names.fleet_uid_of({}), names.template_hash_of({"annotations": None})) == ("", "")


@pytest.mark.parametrize("name", CASES)
def test_autoscalers_of_nodes_and_meshes_leave_it_alone(name: str) -> None:
    metadata = bot_pod(CASES[name], 1)["metadata"]
    assert metadata["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert metadata["annotations"]["karpenter.sh/do-not-disrupt"] == "true"
    assert metadata["labels"]["sidecar.istio.io/inject"] == "false"
    assert metadata["labels"]["buildgrid.build/protected"] == "true"


def test_a_sidecar_comes_where_it_is_asked_for() -> None:
    asked = {"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}}
    metadata = pod(podTemplate=asked)["metadata"]
    assert metadata["labels"]["sidecar.istio.io/inject"] == "true"
    assert "sidecar.istio.io/inject" not in metadata["annotations"]


def test_a_bot_is_told_its_scheduler_and_its_name() -> None:
    found = told()
    assert found["ENDPOINT"] == "grpc://main-bots.farm.svc.cluster.local:50051"
    assert found["CAS_ENDPOINT"] == "grpc://main-storage.farm.svc.cluster.local:50051"
    assert found["INSTANCE"] == ""
    assert found["BOT_ID"] == {"fieldRef": {"fieldPath": "metadata.name"}}
    assert found["SLOTS"] == "1" and found["LOG_FORMAT"] == "json"
    assert not {"TOKEN_FILE", "TLS_CA", "TLS_SERVER_NAME", "LOGSTREAM_ENDPOINT"} & found.keys()


def test_the_instance_is_the_schedulers_first_unless_the_fleet_names_another() -> None:
    owner = scheduler(instances=["team/a", "team/b"])
    assert told(owner)["INSTANCE"] == "team/a"
    assert told(owner, instance="team/b")["INSTANCE"] == "team/b"


def test_a_fleet_of_another_namespace_finds_its_scheduler_by_its_whole_name() -> None:
    found = bot_pod(CASES["another-namespace"], 1)
    assert found["metadata"]["namespace"] == "ci"
    assert variables(found)["ENDPOINT"] == "grpc://main-bots.farm.svc.cluster.local:50051"


def test_properties_have_the_system_and_the_architecture_in_any_case() -> None:
    assert told()["PROPERTIES"] == "OSFamily=linux\nISA=x86-64"
    own = [{"key": "ISA", "value": "aarch64"}, {"key": "Pool", "value": "a=b c"}]
    assert told(properties=own)["PROPERTIES"] == "ISA=aarch64\nPool=a=b c\nOSFamily=linux"
    spec = BotFleet.parse(fleet(properties=own)).spec
    assert offered(spec) == (("ISA", "aarch64"), ("Pool", "a=b c"), ("OSFamily", "linux"))


def test_worker_properties_tell_whose_bot_it_is() -> None:
    found = told(workerProperties=[{"key": "rack", "value": "7"}], capacityClass="spot")
    assert found["WORKER_PROPERTIES"].splitlines() == [
        f"fleet-uid={UID}",
        f"cluster-uid={CLUSTER_UID}",
        "sandbox-level=None",
        "rack=7",
    ]
    assert found["CAPACITY_CLASS"] == "spot"


def test_what_looks_like_a_reference_to_a_variable_is_taken_literally() -> None:
    # As the kubelet expands it: $$ is a dollar, and $(NAME) a variable's value.
    found = told(properties=[{"key": "Pool", "value": "$(BUILDGRID_BOT_SLOTS)$"}])
    assert found["PROPERTIES"].startswith("Pool=$$(BUILDGRID_BOT_SLOTS)$$\n")


@pytest.mark.parametrize("name", CASES)
def test_our_bot_understands_what_it_is_told(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = variables(bot_pod(CASES[name], 1))
    for variable, value in given.items():
        text = value.replace("$$", "$") if isinstance(value, str) else "1000"
        monkeypatch.setenv(f"BUILDGRID_BOT_{variable}", text)
    read = option_parser().parse_args(["run"])
    known = {name.upper() for name in vars(read)} | {"PROPERTIES", "WORKER_PROPERTIES"}
    assert given.keys() <= known
    assert read.endpoint == given["ENDPOINT"] and str(read.slots) == given["SLOTS"]
    assert "\n".join(read.property) == given["PROPERTIES"].replace("$$", "$")
    assert "\n".join(read.worker_property) == given["WORKER_PROPERTIES"]


@pytest.mark.parametrize(
    ("isa", "expected"),
    [
        ([], "amd64"),
        (["x86-64"], "amd64"),
        (["x86_64"], "amd64"),
        (["x86-64", "x86-64-v3"], "amd64"),
        (["aarch64"], "arm64"),
        (["ARM64"], "arm64"),
        (["riscv64"], None),
        (["x86-64", "aarch64"], None),
    ],
)
def test_nodes_follow_the_architecture(isa: list[str], expected: str | None) -> None:
    nodes = pod(properties=[{"key": "ISA", "value": value} for value in isa])["spec"]["nodeSelector"]
    assert nodes.get("kubernetes.io/arch") == expected
    assert nodes["kubernetes.io/os"] == "linux"


def test_the_cache_is_bounded_by_the_spec_where_the_pod_has_no_limit() -> None:
    found = told(cacheSize="1Gi", resources={"requests": {"ephemeral-storage": "9Gi"}})
    assert found["CACHE_BYTES"] == str(1 << 30) and "DISK_BYTES" not in found


@pytest.mark.parametrize("where", ["resources", "podTemplate"])
def test_with_a_limit_the_bot_is_told_the_limit(where: str) -> None:
    limits = {"limits": {"ephemeral-storage": "20Gi"}}
    template = {"spec": {"containers": [{"name": "bot", "resources": limits}]}}
    found = told(**{where: limits if where == "resources" else template})
    expected = {"containerName": "bot", "resource": "limits.ephemeral-storage"}
    assert found["DISK_BYTES"] == {"resourceFieldRef": expected} and "CACHE_BYTES" not in found


def test_inputs_and_work_are_on_one_volume() -> None:
    found = pod()
    mounts = {each["mountPath"]: each["name"] for each in bot(found)["volumeMounts"]}
    assert told()["CACHE_DIR"].startswith("/var/cache/buildgrid/")
    assert mounts == {"/var/cache/buildgrid": "cache", "/tmp": "tmp"}
    assert {each["name"]: each["emptyDir"] for each in found["spec"]["volumes"]} == {"cache": {}, "tmp": {}}


@pytest.mark.parametrize(
    ("jobs", "own", "seconds"),
    [
        ({}, {}, 2 * 3600 + 60 + 120),
        ({"maxExecutionTimeout": "10h", "executionTimeoutGrace": "0s"}, {}, 36_000 + 120),
        ({"maxExecutionTimeout": "10h"}, {"terminationGracePeriod": "30s"}, 30),
    ],
)
def test_a_pod_that_somebody_ends_may_finish_the_longest_action(jobs: Json, own: Json, seconds: int) -> None:
    assert pod(scheduler(jobs=jobs), **own)["spec"]["terminationGracePeriodSeconds"] == seconds


def test_a_pod_that_ended_is_not_started_again() -> None:
    assert pod()["spec"]["restartPolicy"] == "Never"


def test_bots_show_a_token_for_the_schedulers_audience_and_nothing_else() -> None:
    found = pod(scheduler(auth=TOKENS))
    (volume,) = [each for each in found["spec"]["volumes"] if "projected" in each]
    (source,) = volume["projected"]["sources"]
    (mount,) = [each for each in bot(found)["volumeMounts"] if each["name"] == volume["name"]]
    assert source["serviceAccountToken"]["audience"] == "builds"
    assert variables(found)["TOKEN_FILE"] == f"{mount['mountPath']}/{source['serviceAccountToken']['path']}"
    assert found["spec"]["serviceAccountName"] == "linux-bots"


def test_a_scheduler_that_takes_no_tokens_of_the_cluster_is_shown_none() -> None:
    found = pod(scheduler(auth={"jwt": [CORP], "policy": EVERYBODY}))
    assert "TOKEN_FILE" not in variables(found)
    assert all("projected" not in each for each in found["spec"]["volumes"])


def test_with_tls_blobs_go_through_the_replicas_and_the_schedulers_authority_is_believed() -> None:
    found = pod(scheduler(tls=OWN_CA))
    given = variables(found)
    assert given["ENDPOINT"] == given["CAS_ENDPOINT"] == "grpcs://main-bots.farm.svc.cluster.local:50051"
    assert given["TLS_SERVER_NAME"] == "main-scheduler.farm.svc.cluster.local"
    (volume,) = [each for each in found["spec"]["volumes"] if "configMap" in each]
    (mount,) = [each for each in bot(found)["volumeMounts"] if each["name"] == volume["name"]]
    assert volume["configMap"]["name"] == "internal-ca"
    assert given["TLS_CA"] == f"{mount['mountPath']}/root.pem"


def test_the_name_in_the_certificate_is_the_one_that_the_scheduler_says() -> None:
    found = told(scheduler(tls={"secretName": "server-tls", "serverName": "build.example.org"}))
    assert found["TLS_SERVER_NAME"] == "build.example.org" and "TLS_CA" not in found


@pytest.mark.parametrize(
    ("streams", "more", "expected"),
    [
        (LOGS, {}, "grpc://logs:50051"),
        ({**LOGS, "tokenSecretRef": {"name": "logs", "key": "token"}}, {}, None),
        ({"endpoint": "grpcs://logs:50051"}, {}, None),
        (LOGS, {"auth": TOKENS}, None),
    ],
)
def test_log_streams_are_written_where_bots_get_in_without_showing_anything(
    streams: Json, more: Json, expected: str | None
) -> None:
    assert told(scheduler(logStreams=streams, **more)).get("LOGSTREAM_ENDPOINT") == expected


def test_the_bots_own_image_starts_what_it_starts_by_itself() -> None:
    container = bot(pod())
    assert container["image"] == IMAGE
    assert not {"command", "args"} & container.keys()
    assert "initContainers" not in pod()["spec"]


def test_any_image_becomes_the_environment_of_actions() -> None:
    found = pod(actionImage="gcc:12", resources={"limits": {"cpu": 4}})
    (install,) = found["spec"]["initContainers"]
    container = bot(found)
    assert (install["image"], container["image"]) == (IMAGE, "gcc:12")
    assert install["args"] == ["install", "--to", "/buildgrid-bot"]
    started = [*container["command"], *container["args"]]
    assert started == ["/buildgrid-bot/bin/tini", "--", "/buildgrid-bot/bin/buildgrid-bot", "run"]
    assert install["resources"] == container["resources"] == {"limits": {"cpu": 4}}
    written, read = (
        next(each for each in those["volumeMounts"] if each["name"] == "bot")
        for those in (install, container)
    )
    assert written["mountPath"] == read["mountPath"] == "/buildgrid-bot"
    assert read["readOnly"] and not written.get("readOnly")


def test_images_that_name_no_registry_come_from_the_operators() -> None:
    settings = replace(SETTINGS, image_registry="mirror.local")
    found = bot_pod(fleet_inputs(fleet(actionImage="gcc:12"), settings=settings), 1)
    assert bot(found)["image"] == "mirror.local/gcc:12"


@pytest.mark.parametrize(
    ("sandbox", "level", "where"),
    [
        ({}, "None", {}),
        ({"type": "UserNamespace"}, "UserNamespace", {"hostUsers": False}),
        (
            {"type": "RuntimeClass", "runtimeClassName": "gvisor"},
            "RuntimeClass/gvisor",
            {"runtimeClassName": "gvisor"},
        ),
    ],
)
def test_the_sandbox_is_the_pods_and_is_told(sandbox: Json, level: str, where: Json) -> None:
    found = pod(sandbox=sandbox)["spec"]
    assert {name: found[name] for name in ("hostUsers", "runtimeClassName") if name in found} == where
    assert f"sandbox-level={level}" in told(sandbox=sandbox)["WORKER_PROPERTIES"].splitlines()
    assert sandbox_level(BotFleet.parse(fleet(sandbox=sandbox)).spec.sandbox) == level


def test_a_seccomp_profile_of_the_nodes_takes_the_place_of_the_runtimes() -> None:
    assert pod()["spec"]["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = pod(sandbox={"seccompProfile": "profiles/bots.json"})["spec"]["securityContext"]
    assert own["seccompProfile"] == {"type": "Localhost", "localhostProfile": "profiles/bots.json"}
    assert violations(pod(sandbox={"seccompProfile": "profiles/bots.json"})) == []


def test_secrets_for_pulling_images_are_those_of_the_operator_and_of_the_spec() -> None:
    settings = replace(SETTINGS, image_pull_secrets=("air-gap", "registry"))
    found = bot_pod(fleet_inputs(fleet(imagePullSecrets=[{"name": "registry"}]), settings=settings), 1)
    assert found["spec"]["imagePullSecrets"] == [{"name": "air-gap"}, {"name": "registry"}]


def test_a_pod_template_is_put_over_the_pod() -> None:
    found = bot_pod(CASES["full"], 1)
    assert found["metadata"]["labels"]["team"] == "builds"
    assert found["spec"]["nodeSelector"] == {
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "arm64",
        "pool": "builds",
    }
    assert variables(found)["LOG_LEVEL"] == "debug"
    assert found["spec"]["tolerations"][0]["key"] == "builds"


@pytest.mark.parametrize(
    ("template", "field", "words"),
    [
        ({"spec": {"hostNetwork": True}}, "spec.podTemplate.spec.hostNetwork", "is not allowed"),
        ({"spec": {"serviceAccountName": "x"}}, "spec.podTemplate.spec.serviceAccountName", "another"),
        ({"spec": {"restartPolicy": "Always"}}, "spec.podTemplate.spec.restartPolicy", "Never"),
        ({"spec": {"restartPolicy": None}}, "spec.podTemplate.spec.restartPolicy", "Never"),
        (
            {"spec": {"containers": [{"name": "bot", "$patch": "delete"}]}},
            "spec.podTemplate.spec.containers",
            "the container bot must remain",
        ),
        (
            {"metadata": {"labels": {"buildgrid.build/protected": "false"}}},
            "spec.podTemplate.metadata.labels",
            "buildgrid.build/protected is the operator's",
        ),
        (
            {"metadata": {"labels": {"buildgrid.build/scheduler": "main"}}},
            "spec.podTemplate.metadata.labels",
            "buildgrid.build/scheduler is the operator's",
        ),
        (
            {"metadata": {"annotations": {"karpenter.sh/do-not-disrupt": "false"}}},
            "spec.podTemplate.metadata.annotations",
            "karpenter.sh/do-not-disrupt is the operator's",
        ),
        (
            {
                "spec": {
                    "containers": [{"name": "bot", "env": [{"name": "BUILDGRID_BOT_SLOTS", "value": "9"}]}]
                }
            },
            "spec.podTemplate.spec.containers",
            "BUILDGRID_BOT_SLOTS is the operator's; remove it: set spec.slotsPerBot",
        ),
        (
            {"spec": {"containers": [{"name": "bot", "env": [{"$patch": "replace"}]}]}},
            "spec.podTemplate.spec.containers",
            "BUILDGRID_BOT_BOT_ID",
        ),
    ],
)
def test_what_fleets_rely_on_cannot_be_taken_from_a_pod(template: Json, field: str, words: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        pod(podTemplate=template)
    assert any(each.field == field and words in each.message for each in caught.value.problems)


def test_whoever_runs_the_operator_may_allow_more() -> None:
    settings = replace(SETTINGS, allow_privileged_pods=True)
    obj = fleet(podTemplate={"spec": {"hostNetwork": True}})
    assert bot_pod(fleet_inputs(obj, settings=settings), 1)["spec"]["hostNetwork"]


def test_pods_of_a_fleet_differ_in_nothing_but_their_number() -> None:
    inputs: FleetInputs = CASES["full"]
    changes: dict[str, Any] = {"metadata.name": "toolchain-8", "metadata.labels": {}}
    one, other = changed(bot_pod(inputs, 8), changes), changed(bot_pod(inputs, 9), changes)
    assert one == other and FULL["metadata"]["name"] == "toolchain"


@pytest.mark.parametrize("grace", ["1m", "1h", "6h", "30h", "168h"])
def test_the_token_that_a_bot_has_when_its_pod_is_ended_lasts_as_long_as_the_pod_may(grace: str) -> None:
    """What kubelet renews last is a token of which a fifth is left, or one that is a day old."""
    found = bot_pod(fleet_inputs(fleet(terminationGracePeriod=grace), scheduler(auth=TOKENS)), 1)
    (token,) = [
        source["serviceAccountToken"]
        for volume in found["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", ())
    ]
    life = token["expirationSeconds"]
    assert max(life / 5, life - 86400) > found["spec"]["terminationGracePeriodSeconds"]
