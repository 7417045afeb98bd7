"""The rules of protocol.md section 10 as data, and the tests that cite them.

A test cites a rule by its number, ``P-nnn``, in its docstring; the source is read, not run.  The rules are for the native
API: the pymilter modules follow pymilter instead where the two differ.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["RULES", "TEXT", "citations", "cited"]

TESTS: Final = Path(__file__).parent.parent
_NUMBER: Final = re.compile(r"\bP-([0-9]{3})\b")

RULES: Final[Mapping[str, Mapping[int, str]]] = {
    "Framing": {
        1: "Length is u32 big-endian and counts the code octet plus payload.",
        2: "Length 0 is a protocol error; the connection is closed, nothing is answered.",
        3: (
            "Incoming packets over the negotiated maximum (default payload 65535) close the connection without "
            "buffering them."
        ),
        4: "Packets split at any octet, including inside the length field, are reassembled.",
        5: (
            "Several packets in one read are processed in order and answered in that order; answers may leave "
            "together, but none waits for a suspended handler behind it."
        ),
        6: (
            "Outgoing payload never exceeds the negotiated maximum; an oversized request raises an error and "
            "sends nothing."
        ),
        7: "End of stream inside a packet is treated as end of stream; no handler sees the partial packet.",
    },
    "Negotiation, server": {
        10: "The first packet must be OPTNEG; anything else closes the connection.",
        11: "OPTNEG with fewer than 12 payload octets, or version < 2, closes the connection.",
        12: "Extra octets after 12 in the offer are ignored.",
        13: "Answered version is min(6, offered).",
        14: "Offered actions 0 count as 0x0f, offered protocol 0 as 0x3f.",
        15: (
            "Answered actions are a subset of the offer; missing required actions close the connection with a "
            "clear log message."
        ),
        16: (
            "Answered protocol bits are a subset of the offer; bits 21..31 are never set unless MDS was offered "
            "and is supported."
        ),
        17: (
            "NO bits are set for DATA, HEADER, EOH, BODY, UNKNOWN without handler, if offered. CONNECT, HELO, "
            "MAIL, RCPT without handler get their NR bit (the NO bit only if no later step has a handler), so "
            "that later handlers know client, sender and recipients; where the NR bit is not offered aiomilter "
            "answers CONTINUE itself."
        ),
        18: "NR bits are set only for handlers declared no-reply, and only if offered.",
        19: "A declared no-reply handler whose NR bit was not offered gets CONTINUE sent automatically.",
        20: "SKIP, RCPT_REJ and HDR_LEADSPC are requested only if wanted and offered.",
        21: (
            "Symlists are sent only if SETSYMLIST is offered, with stage numbers 0..6, EOM = 5, EOH = 6, space-"
            "separated, NUL-terminated."
        ),
        22: "An EOM list is always accompanied by an EOH list.",
        23: "A second OPTNEG is a protocol error.",
        24: "A failing negotiate handler closes the connection without an answer and runs the close handler.",
    },
    "Commands, server": {
        30: "MACRO, ABORT, QUIT, QUIT_NC are never answered.",
        31: "Every other command gets exactly one verdict, or none if its NR bit is in force.",
        32: "MACRO for L, B, U and for unknown octets is accepted.",
        33: "A MACRO packet with no pairs is accepted and means an empty set.",
        34: "A MACRO packet with an odd number of strings is accepted; the lone name has no value.",
        35: "MACRO for a step that never comes is accepted.",
        36: "CONNECT family U without further octets is accepted; address is none.",
        37: "CONNECT family 6 is accepted with and without `IPv6:` in any letter case.",
        38: (
            "CONNECT with an address that does not parse is accepted; the text is available, the parsed address "
            "is none."
        ),
        39: "CONNECT port is network order; 0 is accepted.",
        40: "An empty or bracketed host name is passed on unchanged.",
        41: "MAIL and RCPT addresses are accepted with and without angle brackets, and empty.",
        42: "ESMTP arguments are passed on in order and unchanged; a missing NUL on the last one is tolerated.",
        43: "HEADER value keeps LF line breaks and, with HDR_LEADSPC, leading spaces; empty values are accepted.",
        44: "8-bit octets in any string do not raise.",
        45: "BODY chunks are delivered unchanged; a CRLF split over chunks causes no change.",
        46: "BODYEOB with payload delivers body, then end of message, and exactly one verdict.",
        47: "UNKNOWN does not change the message state.",
        48: "An unknown command octet closes the connection after abort and close handlers.",
        49: "HELO may repeat, may be missing, and inside a message implies abort.",
        50: "A new MAIL inside a message implies abort; so does a MACRO packet for MAIL if MAIL is negotiated away.",
    },
    "Message lifecycle": {
        60: "ABORT outside a message is a no-op and is not answered.",
        61: "Repeated ABORT calls the abort handler at most once per message.",
        62: "ABORT keeps connection, HELO name and connection macros.",
        63: "After an own message-ending verdict no abort handler is called for that message.",
        64: (
            "A completed end-of-message handler and the abort handler are mutually exclusive; a cancelled one is "
            "not completed."
        ),
        65: "QUIT inside a message calls abort, then close; so does end of stream.",
        66: "The close handler runs exactly once per SMTP connection, also if CONNECT never came.",
        67: "Several messages per connection start from clean per-message state.",
        68: "REJECT, TEMPFAIL and REPLYCODE to RCPT leave the message open.",
        69: (
            "QUIT_NC ends the SMTP connection, keeps the options, and a new CONNECT without OPTNEG works, from "
            "every state."
        ),
        70: "HELO followed by ABORT (Postfix order) keeps the new HELO name.",
        71: (
            "RCPT, DATA and content packets that still arrive after an own message-ending verdict never reach "
            "handlers and get the same verdict again where a reply is due (a client may repeat DATA after a "
            "rejected one); BODYEOB is always answered."
        ),
    },
    "Macros": {
        80: "MACRO replaces the set of its step, without merging.",
        81: "Lookup goes from the latest step to the earliest.",
        82: (
            "`x` and `{x}` are equal for one-character names; longer names match with or without braces in the "
            "API, but travel with braces."
        ),
        83: "RCPT clears DATA..EOM sets, MAIL clears RCPT..EOM, HELO clears MAIL..EOM, CONNECT clears HELO..EOM.",
        84: (
            "Message macros do not leak into the next message; the set that came with a MAIL inside a message "
            "belongs to the new one."
        ),
        85: "MACRO sets that precede their command are visible in that command's handler.",
    },
    "Verdicts": {
        90: "CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP, PROGRESS are sent without payload.",
        91: "DISCARD to CONNECT, HELO or UNKNOWN and ACCEPT to UNKNOWN are refused locally.",
        92: "SKIP is sent only to BODY and only if negotiated.",
        93: (
            "PROGRESS is sent only between BODYEOB and its verdict; before BODYEOB only to an MTA known to be Postfix."
        ),
        94: "Codes `4`, `f`, `l` are never sent.",
        95: (
            "A verdict from a no-reply step is not sent then; it is logged and given at the next replying step "
            "(TEMPFAIL if the step was RCPT), and the message state is kept."
        ),
        96: "An exception in a handler yields one legal reply (default TEMPFAIL) and keeps the connection in step.",
        97: "An invalid handler result never leaves a command unanswered.",
    },
    "REPLYCODE": {
        100: "Code is 4xx or 5xx, three digits; anything else is refused.",
        101: "Enhanced code is D.N.N with 1 to 3 digits each and D equal to the first digit of the code.",
        102: (
            "Text with CR, LF or NUL is refused; every other octet that is not printable ASCII or tab goes out as"
            " `?` (Sendmail strips the high bit: octets 8a, 8d, a5 would become LF, CR, `%`)."
        ),
        103: "Every `%` is doubled on the wire.",
        104: "Text that starts with a digit never goes out without an enhanced code.",
        105: (
            "Multi-line: same code and enhanced code on each line, `-` on all but the last, CRLF between lines, "
            "none at the end."
        ),
        106: "At most 32 lines; text is cut at 480 octets per line.",
        107: "Exactly one NUL at the end.",
        108: "Reply text of one command never leaks into a later verdict.",
    },
    "Modifications": {
        110: "Sent only between BODYEOB and its verdict; otherwise refused locally.",
        111: "Refused locally if the action flag was not negotiated.",
        112: "Header names are non-empty, printable ASCII, without colon or blank.",
        113: (
            "Header values: NUL is refused; CRLF before a space or tab is converted to LF; a lone CR goes out as "
            "a space; an LF or CRLF that no space or tab follows is refused."
        ),
        114: (
            "Without HDR_LEADSPC the value goes out without an extra leading space (the MTA adds it); with "
            "HDR_LEADSPC the value on the wire carries its own leading space."
        ),
        115: "INSHEADER index is 0-based, CHGHEADER index 1-based; negative and CHGHEADER 0 are refused.",
        116: "CHGHEADER with empty value deletes; adding an empty value uses ADDHEADER or INSHEADER.",
        117: "Helpers that change several occurrences work from the highest index down.",
        118: "CHGFROM and ADDRCPT_PAR carry at most two strings; arguments are joined with spaces into one.",
        119: "Empty addresses are refused; the null sender is sent as `<>`.",
        120: "REPLBODY is split at 65535, all chunks consecutive, nothing (PROGRESS included) in between.",
        121: "Replacing with an empty body sends one empty REPLBODY.",
        122: "QUARANTINE needs a non-empty reason and is followed by a verdict.",
        123: "Strings with embedded NUL are refused everywhere.",
    },
    "Runtime": {
        130: "Connection idle timeout defaults to 7210 s and is configurable.",
        131: (
            "`unix:`, `local:`, bare path, `inet:PORT@HOST`, `inet6:PORT@HOST` and bracketed addresses are "
            "accepted as endpoints."
        ),
        132: (
            "A stale UNIX-domain socket is removed before binding only if it is a socket; the socket is removed "
            "at shutdown."
        ),
        133: "Socket permissions are configurable.",
        134: (
            "Shutdown stops accepting, lets open SMTP sessions go on until QUIT, QUIT_NC or the end of the grace "
            "period, then closes; abort and close handlers run."
        ),
        135: "One connection's handlers never run concurrently; different connections do.",
        136: "A peer that disappears never leaves a task behind.",
    },
    "Client": {
        140: "Sends no packet for steps the filter negotiated away, except MACRO.",
        141: "Does not wait for replies of NR steps.",
        142: (
            "By default rejects answers with bits that were not offered, version below 2 or above the offer, "
            "payload under 12."
        ),
        143: "Never sends an empty BODY; chunks at 65535.",
        144: "After SKIP sends no more BODY, then BODYEOB.",
        145: "Collects modifications in order and returns them with the final verdict.",
        146: "PROGRESS restarts the timeout.",
        147: "Reports replies illegal at their stage, extra payload and unsolicited packets as errors.",
        148: "Can replay every complete packet of `captures/` on both sides.",
    },
}
"""The rules by number, in their sections."""

TEXT: Final[Mapping[int, str]] = {number: text for rules in RULES.values() for number, text in rules.items()}
"""The rules by number."""


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            yield node


def cited(source: str) -> dict[str, set[int]]:
    """Return the rules that each test of a module cites, by its name; without those that cite none.

    Of "P-001 to P-005" the two ends are cited: what nobody names, nobody has looked at.
    """
    found = {}
    for function in _functions(ast.parse(source)):
        text = ast.get_docstring(function) or ""
        if numbers := {int(number) for number in _NUMBER.findall(text)}:
            found[function.name] = numbers
    return found


@cache
def citations(tests: Path = TESTS) -> dict[int, list[str]]:
    """Return the tests that cite each rule, as ``path::name``, in order; rules that nobody cites are missing."""
    found: dict[int, list[str]] = {}
    for path in sorted(tests.rglob("test_*.py")):
        for name, numbers in cited(path.read_text("utf-8")).items():
            for number in numbers:
                found.setdefault(number, []).append(f"{path.relative_to(tests.parent)}::{name}")
    return dict(sorted(found.items()))
