"""Forged fields are deleted behind real MTAs, in whatever spelling of name and value these let through."""

import pytest

from aiomilter import Context, EndOfMessageContext, Header, Milter
from aiomilter.auth import results, spf
from tests.interop.client import accepted
from tests.interop.scene import Scene
from tests.interop.test_edits import with_fields

pytestmark = pytest.mark.interop

OURS = "mx.example.test"
FIELDS = [
    "Authentication-Results: mx.example.test; spf=pass",
    "Authentication-Results: other.example; spf=pass smtp.mailfrom=a@mx.example.test",
    "Authentication-Results : mx.example.test; dkim=pass",
    "authentication-results\t:mx . (x) example.test; dkim=pass",
    'AUTHENTICATION-RESULTS \t :"mx"\r\n\t.example\\.test; dkim=pass',
    "Authentication-Results: \uff4dx.exam\u00adple.test; dkim=pass",
    "Authentication-Results: mx.example.test\udcff; dkim=pass",
    "ARC-Authentication-Results: i=1; mx.example.test; dkim=pass",
    "Authentication-Results: second.example; none",
    "Received-SPF : Pass receiver = mx.(x)example.test",
    "Received-SPF: Pass receiver=other.example; helo=mx.example.test",
]


class Deleting(Milter):
    """Deletes what claims to be ours."""

    def __init__(self) -> None:
        self.fields: list[tuple[str, str]] = []

    async def header(self, ctx: Context, header: Header) -> None:
        self.fields.append((header.name, header.value))

    async def eom(self, ctx: EndOfMessageContext) -> None:
        for occurrence in results.forged(self.fields, OURS):
            ctx.delete_header("Authentication-Results", occurrence)
        for occurrence in spf.forged_received_spf(self.fields, OURS):
            ctx.delete_header("Received-SPF", occurrence)


async def test_only_the_forged_fields_are_gone(scene: Scene) -> None:
    async with scene.filters(Deleting), scene.connect() as client:
        replies = await client.send(with_fields(*FIELDS))
    assert accepted(replies["."]), replies
    (delivery,) = await scene.deliveries()

    left = {name.lower(): delivery.values(name) for name, _ in delivery.fields}
    assert [value.strip() for value in left["authentication-results"]] == [
        "other.example; spf=pass smtp.mailfrom=a@mx.example.test",
        "second.example; none",
    ]
    assert [value.strip() for value in left["arc-authentication-results"]] == ["i=1; mx.example.test; dkim=pass"]
    assert [value.strip() for value in left["received-spf"]] == [
        "Pass receiver=other.example; helo=mx.example.test",
    ]
