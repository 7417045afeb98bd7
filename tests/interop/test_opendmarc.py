"""Whatever OpenDMARC takes for a field of its own is found as a forged one."""

from pathlib import Path

import pytest

from aiomilter.auth.results import forged
from tests.auth.fields import NOT_OURS, OURS, TAKEN_FOR_OURS
from tests.auth.spellings import Speller
from tests.interop.rigs import opendmarc
from tests.programs import need

pytestmark = pytest.mark.interop

PASSING = "dkim=pass header.d=bank.example"
# The program reads lines of a bounded length in its test mode.
LONGEST = 1000


def found(field: str) -> bool:
    return forged([("Authentication-Results", field)], OURS) == [1]


def beginnings(fields: dict[str, str]) -> list[str]:
    """What stands before the first result of each, followed by one that OpenDMARC believes if it is its own."""
    return [f"{field.removesuffix('; spf=pass')}; {PASSING}" for field in fields.values() if len(field) < LONGEST]


@pytest.fixture(autouse=True)
def _program() -> None:
    need(opendmarc.missing())


def test_the_judge_takes_its_own_field_and_no_other(tmp_path: Path) -> None:
    assert opendmarc.taken([f"{OURS}; {PASSING}", f"other.example; {PASSING}"], OURS, tmp_path) == [True, False]


def test_what_opendmarc_takes_for_its_own_is_found(tmp_path: Path) -> None:
    """It takes a third of the table, all of them blanks, comments, quotes and escapes."""
    fields = beginnings(TAKEN_FOR_OURS)

    verdicts = opendmarc.taken(fields, OURS, tmp_path)

    assert sum(verdicts) > 15
    assert [field for field, taken in zip(fields, verdicts, strict=True) if taken and not found(field)] == []


def test_what_is_left_alone_opendmarc_does_not_take_for_its_own(tmp_path: Path) -> None:
    fields = [field for field in beginnings(NOT_OURS) if not found(field)]

    assert len(fields) > 15
    assert not any(opendmarc.taken(fields, OURS, tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["scrambled", "ours"])
def test_generated_fields_that_opendmarc_takes_for_its_own_are_found(kind: str, tmp_path: Path) -> None:
    if kind == "scrambled":
        fields = [f"{Speller(seed).scrambled()} {PASSING}" for seed in range(4000)]
    else:
        fields = [f"{Speller(seed).claim()}; {PASSING}" for seed in range(2000)]

    verdicts = opendmarc.taken(fields, OURS, tmp_path)

    assert sum(verdicts) > len(fields) // 20
    assert [
        (seed, field)
        for seed, (field, taken) in enumerate(zip(fields, verdicts, strict=True))
        if taken and not found(field)
    ] == []
