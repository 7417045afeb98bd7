"""Sessions as MTAs lead them, made at random, played to a filter on libmilter and to ours: equal throughout."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aiomilter.wire.constants import ALL_ACTIONS, ALL_PROTOCOL, NR_FLAGS
from tests.interop.libmilter.conftest import Tally
from tests.interop.libmilter.conversations import Conversation
from tests.interop.libmilter.improvements import differences
from tests.interop.libmilter.playing import play_to_libmilter, play_to_us
from tests.interop.libmilter.script import do
from tests.peer import (
    ABORT,
    DATA,
    EOH,
    EOM,
    QUIT,
    QUIT_NC,
    body,
    connect,
    header,
    helo,
    macros,
    mail,
    offer,
    rcpt,
    unknown,
)

T = TypeVar("T")

# No NUL, which ends a string, and nothing that is no octet.
ANY_TEXT: Final = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from("\udc80\udce9\udcff"), max_size=30
)
LINE: Final = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=40)
WORD: Final = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,10}", fullmatch=True)
MAILBOX: Final = st.builds("<{}@{}.example>".format, WORD, WORD)
PATH: Final = MAILBOX | st.sampled_from(
    ["<>", "", "bare@example.org", '<"odd user"@example.org>', "<caf\udce9@example.org>"]
)
PARAMS: Final = st.lists(st.builds("{}={}".format, WORD, WORD), max_size=3)
VALUE: Final = st.lists(LINE, min_size=1, max_size=3).map("\n\t".join) | st.just("caf\udce9 \u00e9")
# What the filter may ask for and get as it did, with nothing that aiomilter does otherwise on purpose.
EDIT: Final = st.one_of(
    st.tuples(st.just("addheader"), WORD, VALUE),
    st.tuples(st.just("insheader"), st.integers(0, 9), WORD, VALUE),
    st.tuples(st.just("chgheader"), WORD, st.integers(1, 3), VALUE),
    st.tuples(st.just("delheader"), WORD, st.integers(1, 3)),
    st.tuples(st.just("chgfrom"), MAILBOX | st.just("<>")),
    st.tuples(st.just("chgfrom"), MAILBOX, st.just("RET=HDRS")),
    st.tuples(st.just("addrcpt"), MAILBOX),
    st.tuples(st.just("addrcpt"), MAILBOX, st.just("NOTIFY=NEVER")),
    st.tuples(st.just("delrcpt"), MAILBOX),
    st.tuples(st.just("quarantine"), LINE),
    st.tuples(st.just("progress")),
)
EDITS: Final = st.lists(EDIT, max_size=5)
REPLY: Final = st.sampled_from(["4", "5"]).flatmap(
    lambda kind: st.tuples(
        st.just("reply"),
        st.just(f"{kind}50"),
        st.just(f"{kind}.7.1"),
        st.lists(LINE, min_size=1, max_size=3).map(tuple),
    ).map(lambda reply: (*reply[:3], *reply[3]))
)
REFUSAL: Final = st.sampled_from([("reject",), ("tempfail",)]) | REPLY
VERDICT: Final = REFUSAL | st.sampled_from([("accept",), ("discard",)])
STEPS: Final = ("connect", "helo", "mail", "rcpt", "data", "header", "eoh", "body", "eom", "unknown")
SILENCEABLE: Final = tuple(step for step in STEPS if step != "eom")


class Writing:
    """An MTA that is made up as it goes on, together with the filter's answers."""

    def __init__(self, data: st.DataObject) -> None:
        self._data = data
        self._calls: Counter[str] = Counter()
        self.postfix = data.draw(st.booleans(), "Postfix")
        self.silent = frozenset(data.draw(st.sets(st.sampled_from(SILENCEABLE), max_size=4), "silent"))
        self.packets = [
            offer(ALL_ACTIONS, data.draw(st.sampled_from([ALL_PROTOCOL, ALL_PROTOCOL & ~NR_FLAGS]), "offer"))
        ]
        self.script = [
            f"macros\t{step}\ti\t{{mail_addr}}\t{{rcpt_addr}}\tj\n" for step in ("mail", "rcpt", "eoh", "eom")
        ]
        if self.silent:
            self.script.append("\t".join(["silent", *sorted(self.silent)]) + "\n")
        if data.draw(st.booleans(), "leading"):
            self.script.append("leading\n")

    def draw(self, strategy: st.SearchStrategy[T]) -> T:
        return self._data.draw(strategy)

    def rarely(self, often: int = 10) -> bool:
        return self.draw(st.integers(1, often)) == often

    def step(self, name: str, packet: bytes, verdicts: st.SearchStrategy[tuple[str, ...]] = VERDICT) -> str:
        """Send a packet and make up an answer; return which, "" for none."""
        if self.postfix or name in ("connect", "mail", "rcpt", "eom"):
            self.packets.append(self.lent(name))
        self.packets.append(packet)
        self._calls[name] += 1
        if name in self.silent or not self.rarely():
            return ""
        verdict = self.draw(verdicts)
        self.script.append(do(name, *verdict, when=self._calls[name]))
        return verdict[0]

    def lent(self, name: str) -> bytes:
        code = dict(zip(STEPS, "CHMRTLNBEU", strict=True))[name]
        number = self._calls["mail"] + (name == "mail")
        values = {
            "connect": {"j": "mx.example.org"},
            "mail": {"i": f"Q{number}", "mail_addr": f"sender{number}"},
            "rcpt": {"i": f"Q{number}", "rcpt_addr": f"recipient{self._calls['rcpt']}"},
            "helo": {},
            "unknown": {},
        }
        return macros(code, **values.get(name, {"i": f"Q{number}"}))

    def session(self) -> None:
        """Play an SMTP connection."""
        address = self.draw(st.sampled_from(["192.0.2.1", "198.51.100.255"]))
        if self.step("connect", connect(self.draw(ANY_TEXT), address), REFUSAL | st.just(("accept",))):
            return
        for _ in range(self.draw(st.sampled_from([1, 1, 1, 0, 2]))):
            if self.step("helo", helo(self.draw(ANY_TEXT)), REFUSAL | st.just(("accept",))):
                return
        while self.rarely(4):
            self.step("unknown", unknown(self.draw(LINE)), REFUSAL)
        for _ in range(self.draw(st.integers(1, 4))):
            self.packets += [ABORT] * (not self.message() or self.postfix)

    def message(self) -> bool:
        """Play a message; return whether the filter, or its end, has ended it."""
        if self.step("mail", mail(self.draw(PATH), *self.draw(PARAMS))):
            return True
        taken = False
        for _ in range(self.draw(st.integers(1, 3))):
            # DISCARD of a recipient is an improvement, listed.
            answer = self.step("rcpt", rcpt(self.draw(PATH), *self.draw(PARAMS)), REFUSAL | st.just(("accept",)))
            if answer == "accept":
                return True
            taken = taken or not answer
        if not taken or self.rarely():
            return False
        if self.step("data", DATA):
            return True
        for _ in range(self.draw(st.integers(0, 4))):
            if self.step("header", header(self.draw(WORD), self.draw(VALUE | ANY_TEXT))):
                return True
        if self.step("eoh", EOH):
            return True
        for _ in range(self.draw(st.integers(0, 3))):
            answer = self.step(
                "body", body(self.draw(st.binary(min_size=1, max_size=200))), VERDICT | st.just(("skip",))
            )
            if answer:
                if answer == "skip":
                    break
                return True
        if self.rarely(20):
            return False
        for edit in self.draw(EDITS):
            self.script.append(do("eom", *edit, when=self._calls["eom"] + 1))
        answer = self.step("eom", EOM)
        if not answer and self.rarely(5):
            # libmilter takes it here only.
            self.packets.append(QUIT_NC)
            self.packets.append(self.lent("connect"))
            self.packets.append(connect())
            self._calls["connect"] += 1
        return True


@pytest.mark.interop
@pytest.mark.slow
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_session_is_taken_as_libmilter_takes_it(program: Path, tally: Tally, data: st.DataObject) -> None:
    """P-031, P-062 to P-068, P-080 to P-085: several messages, any verdicts, nothing of one in the next."""
    writing = Writing(data)
    writing.session()
    if not writing.rarely():
        writing.packets.append(QUIT)
    conversation = Conversation(tuple(writing.packets), "".join(writing.script))
    theirs = play_to_libmilter(program, conversation.script, conversation.packets)
    ours = asyncio.run(play_to_us(conversation.script, conversation.packets))
    tally.add(theirs, ours, 0)
    assert not (found := differences(theirs, ours)), "\n".join(map(str, found))
