"""Behaviour of the systems that the ready filters take the place of, as data: each case is played to its gateway."""

import re
from email import message_from_bytes
from email.policy import SMTP
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest
import yaml

from aiomilter import DISCARD, Reply, filters, mta, policy
from aiomilter.policy.stores import GuardedStore
from aiomilter.policy.stores.keys import Keys
from aiomilter.wire.modifications import AddRecipient, ChangeSender, DeleteRecipient
from tests.auth.dkim.made import key
from tests.filters.ready.gateway import KEY, START, Gateway, gateway, written

SUITE: Final = yaml.load((Path(__file__).parent / "cases.yml").read_text("utf-8"), yaml.CSafeLoader)
DEFAULTS: Final[dict[str, Any]] = SUITE["defaults"]
CASES: Final[list[dict[str, Any]]] = SUITE["cases"]
PLAYED: Final = [case for case in CASES if all(each["use"] in filters.NAMES for each in case["filters"])]


def configuration(case: dict[str, Any], directory: Path) -> Path:
    """Write the file of a case."""
    tables = [dict(each) for each in case["filters"]]
    for table in tables:
        if table["use"] in ("sign", "seal"):
            (directory / "s1.pem").touch(0o600)
            (directory / "s1.pem").write_bytes(key().private.pem())
            table["keys"] = {domain: {"selector": "s1", "key": "s1.pem"} for domain in table["keys"]}
    path = directory / "gateway.toml"
    networks = case.get("networks", DEFAULTS["networks"])
    own = case.get("own_domains", DEFAULTS["own_domains"])
    path.write_text(written(tables, hostname=DEFAULTS["hostname"], own_domains=own, networks=networks))
    return path


def octets(given: dict[str, Any]) -> bytes:
    head = "".join(f"{name}: {value}\r\n" for name, value in given["headers"])
    return f"{head}\r\n{given['body']}".encode().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def wrong(want: dict[str, Any], given: dict[str, Any], found: mta.MessageResult) -> list[str]:
    """Return what is not as the case wants it."""
    mistakes = []
    expected = want["answer"]
    answer, stage = found.answer, found.stage.name.lower()
    code = str(answer.code)
    fate = "discard" if answer is DISCARD else {"2": "accept", "4": "tempfail", "5": "reject"}[code[0]]
    if found.delivered is not None and found.delivered.quarantine is not None:
        fate = "quarantine"
    if fate == "accept" and found.delivered is not None and not found.delivered.recipients:
        fate = "discard"
    if fate != expected:
        mistakes.append(f"answer {fate} ({answer}) at {stage}, expected {expected}")
    if expected in ("reject", "tempfail") and "at" in want and stage not in listed(want["at"]):
        mistakes.append(f"told at {stage}")
    if "code" in want and code not in listed(want["code"]):
        mistakes.append(f"code {code}")
    if "enhanced" in want and not (isinstance(answer, Reply) and answer.enhanced == want["enhanced"]):
        mistakes.append(f"{answer!r}, expected {want['enhanced']}")
    for address, one in want.get("recipients", {}).items():
        refused = found.refused.get(address)
        got = "accept" if refused is None else {"4": "tempfail", "5": "reject"}[str(refused.code)[0]]
        if got != one:
            mistakes.append(f"{address}: {got}")
    return mistakes + (wrong_edits(want, given, found) if found.delivered is not None else [])


def listed(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def wrong_edits(want: dict[str, Any], given: dict[str, Any], found: mta.MessageResult) -> list[str]:
    assert found.delivered is not None
    mistakes = []
    after = message_from_bytes(found.delivered.octets, policy=SMTP.clone(refold_source="none"))
    fields = [(name.lower(), re.sub(r"\s+", " ", str(value))) for name, value in after.raw_items()]
    before = [(name.lower(), value) for name, value in given["headers"]]

    def has(name: str, text: str) -> bool:
        return any(each == name.lower() and text.lower() in value.lower() for each, value in fields)

    mistakes += [f"no {name} with {text}" for name, text in want.get("insert", ()) if not has(name, text)]
    mistakes += [f"lost {name} with {text}" for name, text in want.get("kept", ()) if not has(name, text)]
    for name, text in want.get("remove", ()):
        gone = [value for each, value in before if each == name.lower() and text in value]
        mistakes += [f"kept {name}: {value}" for value in gone if (name.lower(), value) in fields]
    for name, value in want.get("change", ()):
        if (name.lower(), value) not in fields:
            mistakes.append(f"{name} is {[text for each, text in fields if each == name.lower()]}")
    edits = found.modifications
    sender = next((each.address.strip("<>") for each in edits if isinstance(each, ChangeSender)), None)
    if sender != want.get("sender"):
        mistakes.append(f"sender {sender}")
    added = {each.address.strip("<>") for each in edits if isinstance(each, AddRecipient)}
    removed = {each.address.strip("<>") for each in edits if isinstance(each, DeleteRecipient)}
    mistakes += [f"added {added}"] if added != set(want.get("add_recipients", ())) else []
    mistakes += [f"removed {removed}"] if removed != set(want.get("remove_recipients", ())) else []
    body = found.delivered.octets.partition(b"\r\n\r\n")[2]
    if want.get("body_kept") and body != octets(given).partition(b"\r\n\r\n")[2]:
        mistakes.append("another body")
    text = body.decode("utf-8", "replace")
    mistakes += [f"no {each} in the body" for each in want.get("body_has", ()) if each not in text]
    mistakes += [f"{each} in the body" for each in want.get("body_lacks", ()) if each in text]
    return mistakes


async def seed(running: Gateway, state: dict[str, Any]) -> None:
    """Have the store remember what a case begins with."""
    bans = policy.Traps(GuardedStore(running.store, Keys((KEY,))), (), kind="ban")
    for network in state.get("ban", ()):
        for _ in range(3):
            await bans.note(network.partition("/")[0])
    counts = policy.Reputation(GuardedStore(running.store, Keys((KEY,))))
    for each in state.get("reputation", ()):
        kind = "domain" if each["spf"] == "pass" else f"domain_{each['spf']}"
        await counts.record(kind, each["domain"], True, weight=each["good"])
        await counts.record(kind, each["domain"], False, weight=each["bad"])


async def play(running: Gateway, case: dict[str, Any]) -> list[str]:
    await seed(running, case.get("state", {}))
    given, mistakes = dict(DEFAULTS["given"]), []
    for number, step in enumerate(case["steps"]):
        given |= {"same_connection": False} | step["given"]
        running.now = START + given.get("after", 0)
        transactions = 2 if given["same_connection"] else 1
        async with running.session(given["client"], given["hostname"], given["helo"] or "", given["auth"] or "") as s:
            for _ in range(transactions):
                found = await s.send(octets(given), given["sender"], given["recipients"])
        mistakes += [f"step {number + 1}: {each}" for each in wrong(step["want"], given, found)]
    return mistakes


@pytest.mark.parametrize("case", PLAYED, ids=[case["name"] for case in PLAYED])
async def test_a_gateway_does_what_the_seed_does_or_better(
    case: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiomilter.filters.srs.time", SimpleNamespace(time=lambda: START))
    async with gateway(configuration(case, tmp_path), case.get("zone", "")) as running:
        assert await play(running, case) == []
