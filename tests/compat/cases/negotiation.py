"""What negotiate may answer, what may be offered, and what a factory may make."""

from typing import Final

from tests.compat.cases.making import CONTENT, ENVELOPE, HANGS, SESSION, offered, tries
from tests.compat.playing import Case
from tests.peer import (
    MESSAGE,
    OPENING,
    QUIT,
    QUIT_NC,
    connect,
    helo,
    offer,
    unknown,
)

__all__ = ["ANSWERS_TO_OFFERS", "NEGOTIATION", "UNINTERRUPTED"]

UNINTERRUPTED: Final = OPENING + unknown() + MESSAGE + MESSAGE + QUIT

NEGOTIATION: Final = {
    **offered(),
    "no negotiation is left": Case(SESSION, {"negotiate": "opts.clear()\nreturn 0"}, deadly=True),
    "SystemExit in negotiate": Case(SESSION, {"negotiate": "raise SystemExit"}, HANGS, deadly=True),
    "SystemExit in the factory": Case(SESSION, {"factory": "raise SystemExit"}, HANGS, deadly=True),
    "negotiation is seen by the instance": Case(
        SESSION,
        {"connect": "self.tell('>', shown(self._protocol), shown(self._actions), shown(self.protocol_mask()))"},
    ),
    **{
        f"factory: {source}": Case(SESSION, {"factory": source})
        for source in (
            "1/0",
            "raise KeyboardInterrupt",
            "raise BaseException('x')",
            "raise Milter.error('x')",
        )
    },
    **{
        f"an attribute instead of {name}: {value.split()[0]}": Case(SESSION, {"factory": f"self.{name} = {value}"})
        for name in ("data", "header", "close", "abort", "eom", "connect", "body")
        for value in ("{}", "None", "lambda *a, self=self: self.tell('lambda', *map(shown, a)) or 0")
    },
    **{
        f"a raw entry point of its own: {name}": Case(
            SESSION, {"factory": f"self.{name} = lambda *a, self=self: self.tell('raw', *map(shown, a)) or 0"}
        )
        for name in ("header_bytes", "envfrom_bytes", "envrcpt_bytes")
    },
    "QUIT_NC": Case(
        OPENING + MESSAGE + QUIT_NC + connect("second.example") + helo() + MESSAGE + QUIT,
        {"connect": "self.tell('>', shown(self._protocol), shown(self._actions))", "eom": tries("addheader('X', 'y')")},
    ),
    "QUIT_NC with a no-reply callback": Case(
        OPENING + MESSAGE + QUIT_NC + connect("second.example") + helo() + MESSAGE + QUIT
    ),
    "QUIT_NC twice": Case(
        OPENING
        + MESSAGE
        + QUIT_NC
        + connect("second.example")
        + MESSAGE
        + QUIT_NC
        + connect("third.example")
        + MESSAGE
        + QUIT
    ),
    "QUIT_NC, then the factory raises": Case(
        OPENING + MESSAGE + QUIT_NC + connect("second.example") + helo() + MESSAGE + QUIT,
        {"factory": "global TIMES\nTIMES = globals().get('TIMES', 0) + 1\nif TIMES == 2: 1/0"},
    ),
    "second offer": Case(OPENING + offer() + MESSAGE + QUIT),
    "second offer inside a message": Case(OPENING + ENVELOPE + offer() + CONTENT + QUIT),
}

ANSWERS_TO_OFFERS: Final = {
    **{
        f"factory makes {source}": Case(
            UNINTERRUPTED, {"factory": f"global MAKE\nMAKE = lambda: {source}\nraise Remade"}
        )
        for source in ("None", "5", "object()", "Milter.Base()", "Milter.Milter()")
    },
    **{
        f"negotiate: {source}": Case(UNINTERRUPTED, {"negotiate": source})
        for source in (
            *(
                "1/0",
                "return None",
                "return Milter.REJECT",
                "return Milter.ACCEPT",
                "return Milter.TEMPFAIL",
                "return 99",
            ),
            *(
                "return Milter.DISCARD",
                "return Milter.SKIP",
                "return Milter.NOREPLY",
                "return True",
                "return 'x'",
                "return -1",
            ),
            *("return Milter.ALL_OPTS", "return Milter.CONTINUE", "raise KeyboardInterrupt"),
            *(
                "opts[0] = 1\nreturn 0",
                "opts[1] = 0\nreturn 0",
                "opts[:2] = [0, 0]\nreturn 0",
                "opts[1] = 0x3ff\nreturn 0",
            ),
            *(
                "opts[0] = 'x'\nreturn 0",
                "opts[1] = None\nreturn 0",
                "opts[2] = 'x'\nreturn 0",
                "opts[0] = 2**31\nreturn 0",
            ),
            *(
                "opts[0] = -1\nreturn 0",
                "opts[0] = 2**64\nreturn 0",
                "del opts[0]\nreturn 0",
                "opts.append(0)\nreturn 0",
            ),
            *(
                "opts[2:] = [1, 1]\nreturn 0",
                "opts[0] = 0xffff\nreturn 0",
                "opts[1] = 0xff000000\nreturn 0",
            ),
            *("opts[0] = 1.5\nreturn 0", "opts[0] = True\nreturn 0", "opts[1] = Milter.P_RCPT_REJ\nreturn 0"),
            *("opts[1] = Milter.P_NR_HDR | Milter.P_NR_BODY\nreturn 0", "opts[1] = Milter.P_NOBODY\nreturn 0"),
            *(
                "opts[0] = 'x'\nreturn Milter.ALL_OPTS",
                "answer = Milter.Base.negotiate(self, opts)\nopts[1] |= Milter.P_NR_RCPT\nreturn answer",
            ),
            *(
                "self.attempt('setsymlist', 3, 'i')\nreturn Milter.Base.negotiate(self, opts)",
                "self._ctx.setsymlist(3, 'i')\nreturn 0",
            ),
            *(
                "self.attempt('addheader', 'X', 'y')\nself.attempt('getsymval', 'i')\nself.attempt('progress')\nreturn 0",
            ),
            *("self.attempt('setreply', '550', '5.7.1', 'text')\nreturn Milter.REJECT",),
        )
    },
}
"""In a process of their own: what libmilter has once agreed not to be sent it no longer misses, on no connection."""
