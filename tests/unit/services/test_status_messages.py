"""Status messages, as far as headers have room for them."""

from urllib.parse import quote

import pytest
from buildgrid_scheduler.services.errors import MAX_MESSAGE_BYTES, shortened
from hypothesis import given
from hypothesis import strategies as st

_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


@given(st.text(max_size=2000), st.integers(1, 3))
def test_a_message_fits_as_it_is_encoded_and_keeps_its_ends(text: str, times: int) -> None:
    message = text * times
    short = shortened(message)
    assert len(quote(short, safe=_PRINTABLE)) <= MAX_MESSAGE_BYTES
    assert short == message or (message.startswith(short[:50]) and message.endswith(short[-50:]))


def test_a_message_that_fits_stays_as_it_is() -> None:
    assert shortened("x" * MAX_MESSAGE_BYTES) == "x" * MAX_MESSAGE_BYTES


@pytest.mark.parametrize("character", ["x", "%", "é", "\U0001f400"])
def test_what_is_cut_is_the_middle_and_no_more_than_need_be(character: str) -> None:
    short = shortened(f"field: {character * 5000}; the remedy")
    assert short.startswith(f"field: {character}") and short.endswith(f"{character}; the remedy")
    assert len(quote(short, safe=_PRINTABLE)) > MAX_MESSAGE_BYTES - 60
