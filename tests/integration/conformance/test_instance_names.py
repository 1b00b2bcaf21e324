"""Names of instances, as far as the REAPI text has a say in them."""

import pytest
from buildgrid_client.digests import digest_key, digest_of
from buildgrid_protos.build.bazel.remote.execution.v2.remote_execution_pb2 import (
    ActionResult,
    FindMissingBlobsRequest,
)
from buildgrid_scheduler.config.model import Config
from buildgrid_scheduler.services.resource_names import parse_blob_name, parse_upload_name
from pydantic import ValidationError

from tests.farm.clients import QUEUED, Client, stage_of
from tests.integration.conformance.tenant import STRANGER, Tenant

KEYWORDS = ("blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs")
KEY = digest_key(digest_of(b"x"))


@pytest.mark.parametrize("keyword", KEYWORDS)
@pytest.mark.parametrize("form", ["{}", "a/{}", "{}/b", "a/{}/b"])
def test_a_keyword_of_resource_names_is_no_segment_of_an_instance(keyword: str, form: str) -> None:
    name = form.format(keyword)
    with pytest.raises(ValidationError, match=keyword):
        Config.model_validate({"instances": [name]})
    Config.model_validate({"instances": [name.replace(keyword, f"{keyword}2")]})


@pytest.mark.parametrize("instance", ["", "main", "a/b/c"])
def test_the_empty_name_and_names_of_several_segments_are_names(instance: str) -> None:
    prefix = f"{instance}/" if instance else ""
    assert Config.model_validate({"instances": [instance]}).instances == (instance,)
    assert parse_blob_name(f"{prefix}blobs/{KEY}").instance == instance
    assert parse_upload_name(f"{prefix}uploads/uuid/blobs/{KEY}").blob.instance == instance


@pytest.mark.xdist_group("conformance")
async def test_instances_share_blobs_and_nothing_else(tenant: Tenant) -> None:
    other = Client(tenant.channel, STRANGER)
    digest = await tenant.client.add_action(f"in {tenant.instance}")
    request = FindMissingBlobsRequest(instance_name=other.instance, blob_digests=[digest])
    assert not (await other.cas.FindMissingBlobs(request)).missing_blob_digests
    execution = await tenant.client.queue(digest)
    assert execution.name.startswith(f"{tenant.instance}/")
    await tenant.client.store(digest, ActionResult(stdout_raw=b"ours"))
    assert await other.cached(digest) is None
    elsewhere = await other.queue(digest)
    assert stage_of(elsewhere.told[0]) == QUEUED
    assert await other.unfinished() == [elsewhere.told[-1]]
