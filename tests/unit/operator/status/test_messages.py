"""Words made fit for conditions and events."""

import pytest
from buildgrid_operator.status.messages import LIMIT, counted, listed, printable, redacted


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://bgd:hunter2@db:5432/bgd refused", "postgresql://***@db:5432/bgd refused"),
        ("https://token@host/x", "https://***@host/x"),
        ("https://host/a@b", "https://host/a@b"),
        ("password=hunter2 host=db", "password=*** host=db"),
        ("PGPASSWORD: 'hun ter2', x", "PGPASSWORD: ***, x"),
        ('access_token="abc"', "access_token=***"),
        ("Authorization: Bearer abcdefghijkl", "Authorization: Bearer ***"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln for it", "got *** for it"),
        ("the Secret database-password does not exist", "the Secret database-password does not exist"),
        ("spec.auth.tokenSecretRef: must be set", "spec.auth.tokenSecretRef: must be set"),
    ],
)
def test_secrets_are_not_shown_and_other_words_are(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_it_is_one_line() -> None:
    assert printable("a\n\tb\x00\x1b[31mc  d\u2028e") == "a b [31mc d e"


@pytest.mark.parametrize("letter", ["a", "ä", "漢", "🛠"])
def test_it_has_at_most_1024_bytes_and_whole_letters(letter: str) -> None:
    text = printable(letter * 2000)
    assert LIMIT - 3 <= len(text.encode()) <= LIMIT
    assert text.endswith("...")
    assert set(text.removesuffix("...")) == {letter}


def test_what_fits_is_not_cut() -> None:
    assert printable("a" * LIMIT) == "a" * LIMIT


def test_what_is_no_text_at_all_is_shown_somehow() -> None:
    assert printable("a\udce4b").isprintable()


def test_long_lists_are_cut_by_items() -> None:
    assert listed(["a", "b"]) == "a, b"
    assert listed(list("abcdefg")) == "a, b, c, d, e and 2 more"


def test_one_is_singular() -> None:
    assert (counted(1, "job"), counted(0, "job"), counted(2, "job")) == ("1 job", "0 jobs", "2 jobs")
