import pytest
from buildgrid_operator.api.quantities import LARGEST, Quantity, parse_quantity, show_quantity
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1500", 1500),
        ("512Mi", 512 * 1024**2),
        ("10Gi", 10 * 1024**3),
        ("1.5Gi", 3 * 1024**3 // 2),
        ("10G", 10**10),
        ("1k", 1000),
        ("0.001Ki", 2),
    ],
)
def test_sizes_are_read_as_kubernetes_writes_them(text: str, size: int) -> None:
    assert parse_quantity(text) == size


@pytest.mark.parametrize("text", ["", "Gi", "10 Gi", "10GB", "10gi", "-1Gi", "1e3", "500m", "1.0001Gi", "1K"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="write for example 512Mi"):
        parse_quantity(text)


@given(st.integers(0, parse_quantity(LARGEST)))
def test_every_size_is_read_as_it_is_written(size: int) -> None:
    assert parse_quantity(show_quantity(size)) == size


def test_bounds_include_their_ends() -> None:
    bounded = Quantity("1Mi", "1Gi")
    texts = ("1023Ki", "1Mi", "1Gi", "1.001Gi")
    assert [bounded.accepts(text) for text in texts] == [False, True, True, False]
