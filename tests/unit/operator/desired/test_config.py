"""The configuration is one that the scheduler takes, says what the spec says, and no more."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from buildgrid_operator.api import InvalidSpec, PropertySet, SchedulerSpec
from buildgrid_operator.api.durations import Duration
from buildgrid_operator.api.model import ApiModel
from buildgrid_operator.api.property_set import PropertySetSpec
from buildgrid_operator.api.schema import item_models
from buildgrid_operator.desired import build
from buildgrid_operator.desired.config import property_set_in, refusing_jobs, scheduler_config, storage_config
from buildgrid_operator.desired.walk import NULL_FOR_ZERO, paths_of
from buildgrid_scheduler.config.fields import accepts_none, place_of
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.config.problems import Location
from buildgrid_scheduler.config.source import ConfigSource
from buildgrid_scheduler.config.storage import RemoteStorageConfig
from hypothesis import given
from hypothesis import strategies as st
from pydantic.fields import FieldInfo

from tests.cluster.api.objects import GOOD
from tests.unit.operator.desired.cases import CASES, FULL, PRODUCTION, changed, inputs, scheduler
from tests.unit.operator.desired.found import loaded


@pytest.mark.parametrize("name", CASES)
def test_the_scheduler_reads_it(name: str, tmp_path: Path) -> None:
    config = loaded(build(CASES[name]).config_text, tmp_path)
    assert config.listen == "[::]:50051" and config.monitoring.listen == "[::]:9090"
    assert not config.database.migrate
    assert config.instances == CASES[name].spec.instances


@pytest.mark.parametrize("name", CASES)
def test_its_hash_is_what_a_replica_reports(name: str, tmp_path: Path) -> None:
    bundle = build(CASES[name])
    loaded(bundle.config_text, tmp_path)
    assert bundle.config_hash == ConfigSource(tmp_path / "scheduler.yaml").digest()
    assert bundle.config_hash == hashlib.sha256(bundle.config_text.encode()).hexdigest()


@dataclass(frozen=True)
class Marked:
    """A field of the API, and where it leads in the configuration."""

    path: Location
    field: FieldInfo


def marked(model: type[ApiModel], at: Location = ()) -> Iterator[Marked]:
    """All fields of a model that lead somewhere."""
    for field in model.model_fields.values():
        paths = [(*at, *path.split(".")) for path in paths_of(field)]
        yield from (Marked(path, field) for path in paths)
        items = (0,) if str(field.annotation).startswith("tuple") else ()
        for inner in item_models(field.annotation):
            yield from marked(inner, (*paths[0], *items) if paths else at)


@pytest.mark.parametrize("model", [SchedulerSpec, PropertySetSpec])
def test_each_field_leads_to_one_of_the_configuration(model: type[ApiModel]) -> None:
    found = list(marked(model))
    assert len(found) > 5
    for each in found:
        *way, last = each.path
        sections = place_of(Config, tuple(way)).models
        assert any(last in section.model_fields for section in sections), each.path


def test_zero_is_null_exactly_where_the_configuration_has_no_zero() -> None:
    durations = {
        each.path[-1]: place_of(Config, each.path)
        for each in marked(SchedulerSpec)
        for mark in each.field.metadata
        if isinstance(mark, Duration) and mark.or_zero
    }
    assert len(durations) > 3
    nullable = {
        name
        for name, place in durations.items()
        if any(accepts_none(annotation) for annotation in place.annotations)
    }
    assert nullable == NULL_FOR_ZERO


def test_all_fields_arrive(tmp_path: Path) -> None:
    config = loaded(build(inputs(FULL)).config_text, tmp_path)
    limits, storage = config.scheduler, config.storage
    assert config.instances == ("", "main", "team/a")
    assert config.database.password_file == Path("/run/buildgrid/secrets/database/password")
    assert config.database.read_url_file == Path("/run/buildgrid/secrets/database/read-url")
    assert config.database.notify_url_file == Path("/run/buildgrid/secrets/database/notify-url")
    assert storage.type == "object-store" and storage.refresh_after is None and storage.tier is not None
    assert storage.secret_files == {"access_key_id": Path("/run/buildgrid/secrets/minio/id")}
    assert storage.tier.max_bytes == 100 * 1024**3 and storage.tier.confirmed_for == timedelta(0)
    assert limits.max_execution_timeout == timedelta(hours=4, minutes=30)
    assert limits.execution_timer_interval == limits.avoid_class_for == timedelta(0)
    assert limits.pruning is None and limits.abandoned_operation_timeout is None
    assert limits.queue_timeout is not None and limits.queue_timeout.job_max_age == timedelta(days=1)
    assert limits.bot_session_keepalive_timeout == timedelta(seconds=90)
    assert config.logging.level == "warning" and config.logging.format == "text"
    assert config.logging.loggers == {"buildgrid_scheduler.storage": "debug"}
    assert config.tls is not None
    assert config.tls.key_file == Path("/run/buildgrid/secrets/server-tls/tls.key")
    assert config.tls.client_ca_file == Path("/run/buildgrid/secrets/client-ca/ca.crt")
    assert config.assets is not None
    assert config.assets.client_key_file == Path("/run/buildgrid/secrets/client/tls.key")
    assert config.metering is not None and config.metering.throttle_action == "reject"
    assert config.grpc.max_message_size == 64 * 1024**2
    assert [issuer.name for issuer in config.auth.jwt] == ["kubernetes", "corp", "ci"]
    assert config.auth.jwt[2].secret_file == Path("/run/buildgrid/secrets/ci/hmac")
    assert config.auth.mtls is not None and config.auth.policy[1].rights == {"execute"}


def test_what_is_not_set_is_not_written_so_that_an_older_scheduler_knows_all_that_is() -> None:
    obj = scheduler(storage={"remote": {"endpoint": "grpc://cas:50051"}}, logging={"format": "Text"})
    text = scheduler_config(inputs(changed(obj, {"spec.shutdown.grace": "5s"}))).text
    assert text.splitlines()[1:] == [
        "listen: '[::]:50051'",
        "data: /var/lib/buildgrid",
        "database:",
        "  url_file: /run/buildgrid/secrets/database/url",
        "  migrate: false",
        "monitoring:",
        "  listen: '[::]:9090'",
        "storage:",
        "  endpoint: grpc://cas:50051",
        "  type: remote",
    ]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@given(TEXTS, st.sampled_from(["", "${HOME}", "$${x}"]))
def test_any_text_arrives_as_it_was_written(
    tmp_path_factory: pytest.TempPathFactory, text: str, more: str
) -> None:
    value = text + more
    labels = [{"label": "one", "properties": [{"key": "k", "value": value}]}]
    spec = PropertySet.parse({"metadata": {"name": "x"}, "spec": {"static": {"labels": labels}}}).spec
    found = inputs(scheduler(propertySetRef={"name": "x"}), property_set=spec)
    config = loaded(build(found).config_text, tmp_path_factory.mktemp("config"))
    assert config.property_set.kind == "static"
    assert config.property_set.labels[0].properties[0].value == value


# Property sets


def property_set(name: str) -> PropertySetSpec:
    return PropertySet.parse(GOOD[name]).spec


def test_without_a_reference_the_usual_keys_count(tmp_path: Path) -> None:
    text = build(inputs(scheduler())).config_text
    assert property_set_in(text) is None
    assert loaded(text, tmp_path).property_set.kind == "dynamic"


SETS = ["the usual keys", "dynamic keys", "no labels, nothing unique", "static labels"]


@pytest.mark.parametrize("name", SETS)
def test_a_property_set_is_written_as_the_scheduler_understands_it(name: str, tmp_path: Path) -> None:
    spec = property_set(name)
    text = build(inputs(scheduler(propertySetRef={"name": "x"}), property_set=spec)).config_text
    found = loaded(text, tmp_path).property_set
    if found.kind == "dynamic":
        assert spec.dynamic is not None
        assert found.match_property_keys | found.wildcard_property_keys == spec.dynamic.known_keys
        assert found.unique_property_keys == spec.dynamic.effective_unique_keys
        assert found.label_key == spec.dynamic.effective_label_key
    else:
        assert spec.static is not None
        assert [label.label for label in found.labels] == [label.label for label in spec.static.labels]


def test_a_property_set_that_is_not_there_is_named() -> None:
    with pytest.raises(InvalidSpec, match=r"spec\.propertySetRef\.name: there is no PropertySet gone"):
        build(inputs(scheduler(propertySetRef={"name": "gone"}), property_set=None))


@pytest.mark.parametrize("name", SETS[1:])
def test_what_was_written_can_be_held_in_force(name: str) -> None:
    obj = scheduler(propertySetRef={"name": "x"})
    before = build(inputs(obj, property_set=property_set(name)))
    held = property_set_in(before.config_text)
    for now in (None, property_set("the usual keys")):
        assert build(inputs(obj, property_set=now, held_property_set=held)).config_text == before.config_text


def test_the_usual_keys_can_be_held_in_force_as_well() -> None:
    before = build(inputs(scheduler()))
    obj = scheduler(propertySetRef={"name": "x"})
    held = property_set_in(before.config_text) or {}
    found = build(inputs(obj, property_set=property_set("static labels"), held_property_set=held))
    assert found.config_text == before.config_text


# The managed storage


def test_the_managed_storage_has_the_cas_alone_and_no_database(tmp_path: Path) -> None:
    config = loaded(storage_config(inputs(scheduler(instances=["main", "other"]))).text, tmp_path)
    assert not config.needs_database and config.services.cas
    assert config.storage.type == "disk" and config.storage.max_bytes == 45 * 1024**3
    assert config.instances == ("", "main", "other")


def test_replicas_use_the_managed_storage(tmp_path: Path) -> None:
    storage = loaded(build(inputs(scheduler())).config_text, tmp_path).storage
    assert isinstance(storage, RemoteStorageConfig) and storage.instance_name == ""
    assert storage.endpoint == "grpc://main-storage.farm.svc.cluster.local:50051"


def test_the_bound_of_the_managed_storage_is_what_the_spec_says(tmp_path: Path) -> None:
    config = loaded(storage_config(inputs(PRODUCTION)).text, tmp_path)
    assert config.storage.type == "disk" and config.storage.max_bytes == 1536 * 1024**3


@pytest.mark.parametrize("name", CASES)
def test_to_refuse_new_jobs_changes_nothing_else(name: str, tmp_path: Path) -> None:
    text = build(CASES[name]).config_text
    refusing = refusing_jobs(text)
    before, after = loaded(text, tmp_path), loaded(refusing, tmp_path)
    assert before.scheduler.accept_new_jobs and not after.scheduler.accept_new_jobs
    kept = {"accept_new_jobs": True}
    assert after.model_copy(update={"scheduler": after.scheduler.model_copy(update=kept)}) == before
    assert refusing.splitlines()[0] == text.splitlines()[0]
    assert refusing_jobs(refusing) == refusing


@pytest.mark.parametrize("text", ["", "- a list", "scheduler: 3", "a: [", "nothing: we know"])
def test_what_is_no_configuration_can_refuse_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="in the ConfigMap"):
        refusing_jobs(text)
