import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.quantities import duration_text, size_text
from gateway.contract.quantities import parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("1s", 1),
        ("1.5s", 1.5),
        ("5m", 300),
        ("5min", 300),
        ("2h", 7200),
        ("180d", 15552000),
        (" 1 s ", 1),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["1", 1, 1.0, "1 sec", "s", "", "-1s", "1s2", "１s", None, True, ["1s"]])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 500ms"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("256KB", 256_000), ("1MiB", 1 << 20), ("20GB", 20 * 10**9), ("0.5KB", 500), ("7B", 7), ("0B", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["20", 20, "20 gb", "20G", "GB", "", None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size such as 256KB"):
        parse_size(text)


@given(st.integers(1, 10**9))
def test_a_duration_in_words_is_read_back(milliseconds: int) -> None:
    assert parse_duration(duration_text(milliseconds / 1000)) == pytest.approx(milliseconds / 1000, rel=1e-5)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (1, "1s"), (90, "90s"), (3600, "1h"), (15552000, "180d"), (1.5, "1.5s")]
)
def test_durations_in_words(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(7, "7B"), (256_000, "256KB"), (20 * 10**9, "20GB"), (1_234_567, "1.23MB")])
def test_sizes_in_words(size: int, text: str) -> None:
    assert size_text(size) == text
