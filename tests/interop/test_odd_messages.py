"""Odd messages through the real Postfix and Sendmail, and through each side of ours that plays one."""

from pathlib import Path

import pytest

from aiomilter.mta import Style
from tests.interop.odd_messages import DIFFERENCES, MESSAGES, VERSIONS
from tests.interop.odd_sides import Facts, by_check, by_mta, by_session, by_smtp
from tests.interop.scene import Scene

pytestmark = pytest.mark.interop


def unlike(ours: Facts, theirs: Facts, style: Style) -> dict[str, object]:
    """The messages of which something else became, but for the listed differences."""
    listed = {name: difference.ours for (name, mta), difference in DIFFERENCES.items() if mta == style}
    right = {**theirs, **listed}
    return {name: (found, right[name]) for name, found in ours.items() if found != right[name]}


async def asked(scene: Scene) -> Facts:
    """Ask an MTA, and see that it does what the table says."""
    theirs = await by_mta(scene)
    facts = {message.name: message.fact(scene.name) for message in MESSAGES}

    assert {name: (found, facts[name]) for name, found in theirs.items() if found != facts[name]} == {}
    assert scene.rig.version == VERSIONS[scene.name]
    return theirs


async def test_all_our_sides_do_to_odd_messages_what_postfix_does(postfix: Scene, tmp_path: Path) -> None:
    theirs = await asked(postfix)
    for name in ("check", "smtp"):
        (tmp_path / name).mkdir()

    assert unlike(await by_session("postfix"), theirs, "postfix") == {}
    assert unlike(await by_check("postfix", tmp_path / "check"), theirs, "postfix") == {}
    assert unlike(await by_smtp(tmp_path / "smtp"), theirs, "postfix") == {}


async def test_all_our_sides_do_to_odd_messages_what_sendmail_does(sendmail: Scene, tmp_path: Path) -> None:
    theirs = await asked(sendmail)

    assert unlike(await by_session("sendmail"), theirs, "sendmail") == {}
    assert unlike(await by_check("sendmail", tmp_path), theirs, "sendmail") == {}
