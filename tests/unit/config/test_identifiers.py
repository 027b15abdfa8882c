import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.identifiers import Pattern, PatternError, check_identifier, check_prefix

VALUES = {"prefix": "88.118.8", "gateway": "qd-chem-01", "device": "boiler-1", "point": "level", "tag": "LI-1"}


@pytest.mark.parametrize(
    ("pattern", "identifier"),
    [
        ("{prefix}/{device}.{point}", "88.118.8/boiler-1.level"),
        ("{prefix}/{gateway}/{tag}", "88.118.8/qd-chem-01/LI-1"),
        ("fixed", "fixed"),
        ("{point}{point}", "levellevel"),
    ],
)
def test_expansion(pattern: str, identifier: str) -> None:
    assert Pattern(pattern).expand(VALUES) == identifier


def test_a_value_with_braces_is_text() -> None:
    assert Pattern("{prefix}/{tag}").expand({**VALUES, "tag": "{device}"}) == "88.118.8/{device}"


@pytest.mark.parametrize(
    "pattern", ["{prefix", "prefix}", "{prefix}/{devise}", "{}", "{prefix!r}", "{0}", "{{prefix}}"]
)
def test_bad_patterns(pattern: str) -> None:
    with pytest.raises(PatternError):
        Pattern(pattern)


@pytest.mark.parametrize("missing", [None, ""])
def test_a_missing_value_is_named(missing: str | None) -> None:
    with pytest.raises(PatternError, match="there is no tag"):
        Pattern("{prefix}/{tag}").expand({**VALUES, "tag": missing})


@given(st.text(max_size=30))
def test_any_text_is_a_pattern_or_a_pattern_error(text: str) -> None:
    try:
        pattern = Pattern(text)
    except PatternError:
        return
    assert isinstance(pattern.expand(VALUES), str)


@pytest.mark.parametrize("prefix", ["88.118.8", "86.709.612", "88.529", "88.101.0042"])
def test_chinese_prefixes(prefix: str) -> None:
    assert check_prefix(prefix) is None


@pytest.mark.parametrize("prefix", ["20.500.12357", "88", "88.1.2.3", "88.118.x", "88.118.", "８８.118.8"])
def test_other_prefixes_are_doubted(prefix: str) -> None:
    finding = check_prefix(prefix)
    assert finding
    assert finding.severity == "warning"


@pytest.mark.parametrize("prefix", ["", "88.118.8/"])
def test_impossible_prefixes(prefix: str) -> None:
    finding = check_prefix(prefix)
    assert finding
    assert finding.severity == "error"


@pytest.mark.parametrize(
    "identifier",
    [
        "88.709.911/123",
        "88.111.1/teleinfo.cn",
        "86.709.612/a/b:c",
        "88.118.8/锅炉.压力",
        "88.118.8/" + "x" * 246,
        "88.1/a/",
    ],
)
def test_good_identifiers(identifier: str) -> None:
    assert check_identifier(identifier) is None


@pytest.mark.parametrize(
    ("identifier", "severity", "says"),
    [
        ("88.118.8/" + "x" * 247, "warning", "256 characters"),
        ("88.118.8/" + "压" * 700, "error", "2109 bytes"),
        ("88.118.8/", "error", "nothing after"),
        ("VAA123456", "warning", 'no "/"'),
        ("88.118.8/a ", "error", "space"),
        ("88.118.8/a\tb", "error", "control character"),
        ("20.500/a", "warning", "not a Chinese prefix"),
    ],
)
def test_doubtful_identifiers(identifier: str, severity: str, says: str) -> None:
    finding = check_identifier(identifier)
    assert finding
    assert finding.severity == severity
    assert says in finding.message
