"""Every service takes whatever is sent: it answers, with a code that its method has, and goes on.

`FUZZ=10000 pytest -n 0 tests/integration/fuzz` sends 10,000 messages to each service, others each time.
Without FUZZ it is 250, and always the same ones. A failure shows the call that it shrank to.
"""

import time

import pytest
from buildgrid_client.digests import digest_of
from grpc import StatusCode
from hypothesis import given

from tests.integration.fuzz import content
from tests.integration.fuzz.calls import calls
from tests.integration.fuzz.effort import CHECK_EVERY, MESSAGES, effort
from tests.integration.fuzz.methods import SERVICES, Method
from tests.integration.fuzz.requests import RIGHT
from tests.integration.fuzz.target import Call, Target

MOST_MEMORY = 1024**3
"""of the server, in bytes; it begins with 125 MB"""
HUGE = bytes(17 * 1024 * 1024)
"""one MiB more than a message may have"""

pytestmark = [pytest.mark.xdist_group("fuzz"), pytest.mark.timeout(120 + MESSAGES // 10)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_answers_whatever_it_is_sent_and_goes_on(service: str, target: Target) -> None:
    before, examples = target.sent, 0

    @effort()
    @given(call=calls(service))
    def fuzz(call: Call) -> None:
        nonlocal examples
        examples += 1
        target.send(call)
        if examples % CHECK_EVERY == 0:
            target.check_good_clients()

    began = time.monotonic()
    fuzz()
    # What is drawn depends on the modules that hypothesis finds loaded: each method's turn is not left to it.
    for name, method in SERVICES[service].items():
        for request in RIGHT[name]:
            target.send(Call(method, (request.SerializeToString(),)))
    target.check_good_clients()
    sent = target.sent - before
    outcomes = {key: n for key, n in target.outcomes.items() if key[0] in SERVICES[service]}
    print(f"{service}: {sent} messages, {examples / (time.monotonic() - began):.0f} calls/s, {outcomes}")
    assert sent >= MESSAGES * 0.9
    assert target.resident_bytes < MOST_MEMORY
    for name, method in SERVICES[service].items():
        assert outcomes[name, "OK" if method.offered else "UNIMPLEMENTED"], f"no {name} got through"


@pytest.mark.parametrize(
    "method",
    [
        *(next(iter(methods.values())) for methods in SERVICES.values()),
        SERVICES["ByteStream"]["Write"],
        SERVICES["ContentAddressableStorage"]["RegisterChunkMapping"],  # which does not look at what comes
    ],
    ids=str,
)
def test_a_message_beyond_the_limit_is_refused_and_the_next_is_not(method: Method, target: Target) -> None:
    outcome = target.send(Call(method, (HUGE,)))
    assert outcome.code is StatusCode.RESOURCE_EXHAUSTED or method.name == "RegisterChunkMapping"
    target.check_blob(digest_of(content.SMALL).hash, len(content.SMALL))
