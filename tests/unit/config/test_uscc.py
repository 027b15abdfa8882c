import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config import uscc

FIRST = st.text(st.sampled_from(uscc.ALPHABET), min_size=17, max_size=17)


@pytest.mark.parametrize("code", ["91350100M000100Y43", "91370200MA3C00000K"])
def test_known_codes_pass(code: str) -> None:
    assert uscc.validate(code) == code


@given(FIRST)
def test_a_code_with_its_check_digit_passes(first: str) -> None:
    code = first + uscc.check_digit(first)
    assert uscc.validate(code) == code


@given(FIRST, st.integers(0, 17), st.sampled_from(uscc.ALPHABET))
def test_any_single_changed_character_fails(first: str, position: int, character: str) -> None:
    code = first + uscc.check_digit(first)
    changed = code[:position] + character + code[position + 1 :]
    if changed == code:
        return
    with pytest.raises(ValueError, match="check digit"):
        uscc.validate(changed)


def test_says_which_digit_was_expected() -> None:
    with pytest.raises(ValueError, match="expected 'K' as the last character, found '0'"):
        uscc.validate("91370200MA3C000000")


@pytest.mark.parametrize("code", ["", "91370200MA3C00000", "91370200ma3c00000k", "9137O200MA3C00000K"])
def test_wrong_length_and_characters_are_refused(code: str) -> None:
    with pytest.raises(ValueError, match="unified social credit code"):
        uscc.validate(code)
