from collections.abc import Callable
from pathlib import Path

import pytest

from aiomilter import ACCEPT, CONTINUE, Milter, Reply
from aiomilter.auth.spf import check_host
from aiomilter.mta import Session
from aiomilter.testing import session
from aiomilter.testing.resolver import ZoneResolver
from tests.examples.test_examples import load

example = load("spf_milter")

ZONE = """
example.com       TXT  "v=spf1 ip4:192.0.2.1 -all exp=why.example.com"
why.example.com   TXT  "%{i} may not send for %{d}, says %{r}"
soft.example      TXT  "v=spf1 ~all"
sub.soft.example  TXT  "v=spf1 ~all"
bad.example       TXT  "v=spf1 nonsense"
slow.example      TXT  TIMEOUT
client.example    TXT  "v=spf1 ip4:192.0.2.1 -all"
"""


def factory(toml: str = "") -> Callable[[], Milter]:
    config, resolver = example.Config.from_toml(toml), ZoneResolver(ZONE)
    return lambda: example.SpfMilter(config, resolver)


MACROS = {"j": "mx.example.net"}


@pytest.mark.parametrize(
    ("toml", "sender", "answer"),
    [
        (
            "",
            "alice@example.com",
            Reply(550, "5.7.23", "203.0.113.1 may not send for example.com, says mx.example.net"),
        ),
        ("policy.fail = 'accept'", "alice@example.com", CONTINUE),
        ("", "alice@soft.example", CONTINUE),
        ("", "alice@bad.example", CONTINUE),
        ("", "alice@slow.example", CONTINUE),
        ("", "alice@missing.example", CONTINUE),
        ("trusted = ['203.0.113.0/24']", "alice@example.com", ACCEPT),
    ],
)
async def test_the_policy_says_what_a_result_comes_to(toml: str, sender: str, answer: object) -> None:
    async with session(factory(toml), client="203.0.113.1", macros=MACROS) as s:
        found = await s.mail(f"<{sender}>")

    assert found == answer


@pytest.mark.parametrize(
    ("sender", "code"),
    [("a@soft.example", 550), ("a@sub.soft.example", 550), ("a@bad.example", 550), ("a@slow.example", 451)],
)
async def test_a_domain_may_have_a_policy_of_its_own(sender: str, code: int) -> None:
    toml = """
        [policy]
        permerror = "reject"
        temperror = "tempfail"
        [domains."Soft.Example"]
        softfail = "reject"
    """
    async with session(factory(toml), client="203.0.113.1") as s:
        answer = await s.mail(f"<{sender}>")

    assert isinstance(answer, Reply)
    assert answer.code == code


async def test_the_null_sender_is_checked_by_its_helo_name() -> None:
    async with session(factory(), client="203.0.113.1", helo="client.example") as s:
        refused = await s.mail("<>")

    assert isinstance(refused, Reply)


async def test_authenticated_users_and_local_mail_pass() -> None:
    async with session(factory(), client="203.0.113.1", macros={"{auth_authen}": "alice"}) as s:
        assert await s.mail("<alice@example.com>") == ACCEPT
    async with session(factory(), client="") as s:
        assert await s.mail("<alice@example.com>") == ACCEPT


MESSAGE = (
    b"Received-SPF: Pass receiver=mx.example.net; client-ip=203.0.113.1\r\n"
    b"Authentication-Results: other.example; spf=pass\r\n"
    b"Subject: hello\r\n"
    b"Authentication-Results: MX.example.net; spf=pass\r\n"
    b"Received-SPF: Pass receiver=other.example\r\n"
    b"Authentication-Results: mx.example.net;\r\n\tdkim=pass\r\n"
    b'Authentication-Results: "mx" . (x) example.net; dkim=pass\r\n'
    b"Received-SPF: Pass Receiver = mx.(x)example.net\r\n"
    b"\r\nbody\r\n"
)


@pytest.mark.parametrize("mta", ["postfix", "sendmail"])
async def test_the_result_is_noted_and_forged_fields_are_removed(mta: str) -> None:
    delivered = []
    async with session(factory(), macros=MACROS, mta=mta) as s:  # type: ignore[arg-type]  # a str here
        for _ in range(2):
            delivered.append(await deliver(s))

    assert delivered[0] == delivered[1]
    headers = delivered[0].partition(b"\r\n\r\n")[0]
    assert b"mx.example.net; spf=pass" not in headers.lower()
    assert b"dkim=pass" not in headers
    assert headers.count(b"other.example") == 2
    assert b"Received-SPF: Pass (mx.example.net: domain of alice@example.com designates 192.0.2.1" in headers
    assert b"Authentication-Results: mx.example.net;\r\n\tspf=pass smtp.mailfrom=alice@example.com" in headers


async def test_an_internationalized_sender_is_noted_as_it_is_in_smtputf8_mail() -> None:
    sender = "użytkownik@dömäne.example"
    async with session(factory(), macros=MACROS) as s:
        headers = []
        for params in (["SMTPUTF8"], []):
            await s.mail(f"<{sender}>", *params)
            await s.rcpt("<bob@example.net>")
            result = await s.message(b"Subject: x\r\n\r\nbody\r\n")
            headers.append(result.octets.decode())

    assert f"smtp.mailfrom={sender}\r\n" in headers[0]
    assert f'envelope-from="{sender}"' in headers[0]
    assert headers[1].isascii()
    assert "smtp.mailfrom=u?ytkownik@xn--dmne-moa0i.example\r\n" in headers[1]


async def deliver(s: Session) -> bytes:
    await s.mail("<alice@example.com>")
    await s.rcpt("<bob@example.net>")
    result = await s.message(MESSAGE)
    assert result.delivered is not None
    return result.delivered.octets


@pytest.mark.parametrize(
    "toml", ["polcy.fail = 'reject'", "policy.fail = 'drop'", "policy.failed = 'reject'", "trusted = ['x']"]
)
def test_settings_with_a_mistake_do_not_start(toml: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        example.Config.from_toml(toml)


async def test_the_closest_domain_decides() -> None:
    config = example.Config.from_toml(
        "domains.'example.com'.none = 'reject'\ndomains.'a.example.com'.none = 'tempfail'"
    )
    actions = []
    for domain in ("b.a.example.com", "a.example.com", "b.example.com", "example.com", "notexample.com"):
        found = await check_host("192.0.2.1", f"a@{domain}", "c.example", resolver=ZoneResolver())
        actions.append(config.action(found))

    assert actions == ["tempfail", "tempfail", "reject", "reject", "accept"]


async def test_the_settings_are_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "spf.toml"
    path.write_text("authserv_id = 'mx.example.net'\nnameservers = ['127.0.0.1:5353']\n")
    monkeypatch.setenv("SPF_MILTER_CONFIG", str(path))

    async with example.milter() as make:
        assert make().config.authserv_id == "mx.example.net"

    path.unlink()
    with pytest.raises(FileNotFoundError):
        async with example.milter():
            pass
