"""Odd messages through every side of ours that plays an MTA, held against what the real ones were seen to do.

``tests/interop/test_odd_messages.py`` asks the real ones again.
"""

from pathlib import Path

import pytest

from aiomilter.mta import Style, cut, deliver
from aiomilter.wire.events import Mail, Rcpt
from tests.interop.odd_messages import DIFFERENCES, MESSAGES, VERSIONS, Odd, Refused, Taken
from tests.interop.odd_sides import Facts, by_check, by_session, by_smtp

STYLES: list[Style] = ["postfix", "sendmail"]
both_styles = pytest.mark.parametrize("style", STYLES)


def expected(message: Odd, style: Style) -> Taken | Refused:
    """What the MTA does, or what we do instead."""
    difference = DIFFERENCES.get((message.name, style))
    return difference.ours if difference else message.fact(style)


def wrong(found: Facts, style: Style) -> dict[str, tuple[Taken | Refused, Taken | Refused]]:
    """The messages of which something else became: what was found, and what is right."""
    pairs = {message.name: (found[message.name], expected(message, style)) for message in MESSAGES}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


@both_styles
@pytest.mark.parametrize("message", MESSAGES, ids=[message.name for message in MESSAGES])
def test_a_message_is_cut_and_delivered_as_the_mta_does(message: Odd, style: Style) -> None:
    content = cut(message.octets, style)
    found: Taken | Refused
    if content.refusal is not None:
        found = Refused(str(content.refusal))
    else:
        shown = b"".join(line.raw for line in content.fields) + b"\r\n" + content.body
        delivered = deliver(style, Mail("<alice@client.test>"), [Rcpt("<bob@example.test>")], content)
        found = Taken(shown, delivered.octets)

    assert found == expected(message, style)


@pytest.mark.slow
@both_styles
async def test_a_session_in_memory_shows_and_delivers_what_the_mta_does(style: Style) -> None:
    assert wrong(await by_session(style), style) == {}


@pytest.mark.slow
@both_styles
async def test_check_shows_and_delivers_what_the_mta_does(style: Style, tmp_path: Path) -> None:
    assert wrong(await by_check(style, tmp_path), style) == {}


@pytest.mark.slow
async def test_run_smtp_shows_and_delivers_what_postfix_does(tmp_path: Path) -> None:
    assert wrong(await by_smtp(tmp_path), "postfix") == {}


def test_every_message_has_a_name_of_its_own() -> None:
    assert len({message.name for message in MESSAGES}) == len(MESSAGES) >= 60


@pytest.mark.parametrize(("key", "difference"), DIFFERENCES.items(), ids=map(" ".join, DIFFERENCES))
def test_a_difference_is_one_and_names_the_mta_with_its_version(key: tuple[str, Style], difference: object) -> None:
    name, style = key
    (message,) = [message for message in MESSAGES if message.name == name]
    ours, reason = DIFFERENCES[key]

    assert ours != message.fact(style)
    assert reason.startswith(f"{style.capitalize()} {'.'.join(map(str, VERSIONS[style]))} ")
    assert difference is DIFFERENCES[key]
