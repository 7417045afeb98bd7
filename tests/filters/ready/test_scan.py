"""``scan``: what is done about what scanners find, and about scanners that have no answer."""

from collections.abc import AsyncIterable
from typing import Any

import pytest

from aiomilter import DISCARD, filters
from aiomilter.compose import compose
from aiomilter.scan import (
    AddedHeader,
    Clamd,
    ClamdResult,
    Envelope,
    HeaderChanges,
    RemovedHeader,
    Result,
    Rspamd,
    RspamdResult,
    Spamd,
    SpamdResult,
)
from aiomilter.testing import session

MESSAGE = b"From: a@x.example\r\nSubject: x\r\nX-Spam-Flag: NO\r\n\r\nHello\r\n"
ALL: dict[str, Any] = {"clamd": "inet:1@127.0.0.1", "spamd": "inet:1@127.0.0.1", "rspamd": "http://127.0.0.1:1"}


class Asked:
    """What the scanners were asked, and what they answer."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answers: dict[type, Result]) -> None:
        self.octets: list[bytes] = []
        self.envelopes: list[Envelope] = []
        for kind in (Clamd, Spamd, Rspamd):
            monkeypatch.setattr(kind, "scan", self._scan(answers[kind]))

    def _scan(self, answer: Result) -> Any:
        async def scan(scanner: Any, octets: AsyncIterable[bytes], *, envelope: Envelope) -> Result:
            self.octets.append(b"".join([each async for each in octets]))
            self.envelopes.append(envelope)
            return answer

        return scan


CLEAN: dict[type, Result] = {Clamd: ClamdResult(), Spamd: SpamdResult(), Rspamd: RspamdResult(action="no action")}
AWAY: dict[type, Result] = {
    Clamd: ClamdResult(problem="nobody listens"),
    Rspamd: RspamdResult(problem="nobody listens"),
    Spamd: SpamdResult(problem="too large", too_large=True),
}


@pytest.mark.parametrize(
    ("answers", "settings", "fate"),
    [
        ({}, {}, "clean"),
        ({Clamd: ClamdResult(infected=True, name="Eicar")}, {}, "550 5.7.1 malware found: Eicar"),
        ({Clamd: ClamdResult(infected=True, name="Eicar")}, {"on_malware": "quarantine"}, "held"),
        ({Clamd: ClamdResult(infected=True, name="Eicar")}, {"on_malware": "discard"}, "discarded"),
        ({Spamd: SpamdResult(spam=True)}, {}, "marked"),
        ({Spamd: SpamdResult(spam=True)}, {"on_spam": "reject"}, "550 5.7.1 this message looks like spam"),
        ({Rspamd: RspamdResult(action="reject")}, {}, "marked"),
        ({Rspamd: RspamdResult(action="greylist")}, {}, "clean"),
        ({Rspamd: RspamdResult(action="soft reject")}, {}, "451 4.7.1 try again later"),
        ({Clamd: AWAY[Clamd]}, {}, "451 4.7.1 a scanner has no answer now"),
        ({Rspamd: AWAY[Rspamd]}, {"on_unavailable": "note"}, "clean"),
        ({Rspamd: AWAY[Rspamd]}, {"on_unavailable": "header"}, "marked"),
        ({Spamd: AWAY[Spamd]}, {}, "clean"),
        ({Spamd: AWAY[Spamd]}, {"on_too_large": "reject"}, "550 5.7.1 this message is too large"),
        ({Clamd: ClamdResult(infected=True, name="E"), Rspamd: AWAY[Rspamd]}, {}, "550 5.7.1 malware found: E"),
    ],
)
async def test_what_is_found_has_the_consequence_that_is_set(
    answers: dict[type, Result], settings: dict[str, Any], fate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Asked(monkeypatch, CLEAN | answers)
    async with session(compose(filters.Scan(**{**ALL, **settings}))) as s:
        found = await s.send(MESSAGE, "a@x.example", "u@corp.example")
    assert len(asked.octets) == 3
    assert {each.sender for each in asked.envelopes} == {"a@x.example"}
    if fate == "discarded":
        assert found.answer is DISCARD
    elif fate[0].isdigit():
        assert str(found.answer).startswith(fate)
    else:
        assert found.delivered is not None
        assert (found.delivered.quarantine is not None) == (fate == "held")
        assert (b"X-Spam-Flag: YES" in found.octets) == (fate == "marked")
        assert b"X-Spam-Flag: NO" not in found.octets


async def test_rspamd_has_its_header_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    changes = HeaderChanges(
        add=(AddedHeader("X-First", "1", 0), AddedHeader("X-Last", "2")), remove=(RemovedHeader("from"),)
    )
    Asked(monkeypatch, CLEAN | {Rspamd: RspamdResult(action="no action", headers=changes, subject="new")})
    async with session(compose(filters.Scan(**ALL))) as s:
        found = await s.send(MESSAGE, "a@x.example", "u@corp.example")
    assert found.octets == b"X-First: 1\r\nSubject: new\r\nX-Last: 2\r\n\r\nHello\r\n"


async def test_a_scanner_that_is_away_is_a_tempfail() -> None:
    async with session(compose(filters.Scan(clamd="unix:/nowhere/clamd.ctl"))) as s:
        found = await s.send(MESSAGE, "a@x.example", "u@corp.example")
    assert str(found.answer).startswith("451 4.7.1 a scanner has no answer")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "expected at least one of clamd, spamd, rspamd"),
        ({"clamd": "nowhere"}, "clamd: "),
        ({"clamd": "inet:1@127.0.0.1", "max_size": 0}, "max_size: expected more than 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        filters.Scan(**settings)
