"""What settings list is made ready at the start, however many connections there are."""

import pytest

from aiomilter import filters
from aiomilter.filters import domains
from aiomilter.filters.ready import ReadyFilter
from aiomilter.filters.spf_rules import DomainRules
from aiomilter.secret import Secret
from aiomilter.testing.resolver import ZoneResolver


@pytest.mark.parametrize(
    "settings",
    [
        filters.Access(recipients={"corp.example": ["u"]}, helo_own=["mx.corp.example"], login_sender={"a": ["b@c"]}),
        filters.Authenticate(
            domains={"x.example": DomainRules(spf_neutral="reject")}, exempt_recipients=["a@c.example"]
        ),
        filters.Srs(domain="corp.example", secrets=[Secret("s" * 32)], local_domains=["c"], sign_domains=["d"]),
        filters.VerifyFrom(domains=["corp.example"], subdomains=False),
        filters.VerifyFrom(domains=["u@corp.example"], match="address"),
    ],
    ids=lambda settings: settings.name,
)
async def test_lists_are_made_ready_once(settings: ReadyFilter, monkeypatch: pytest.MonkeyPatch) -> None:
    site = filters.Site(hostname="mx.corp.example", own_domains=["corp.example"], resolver=ZoneResolver(""))
    read: list[str] = []

    def ascii_name(text: str) -> str:
        read.append(text)
        return text

    monkeypatch.setattr(domains, "ascii_name", ascii_name)
    async with settings.bind(site)() as make:
        assert read
        read.clear()
        make()
        assert read == []
