"""Authentication-Results fields by grammar: of ours in every spelling that some reader takes, and well-formed ones of others.

A seed makes the same fields again: ``Speller(7).ours("mx.example.net")``.
"""

import base64
import random
from collections.abc import Sequence
from typing import Final, TypeVar

from tests.auth.fields import OURS

T = TypeVar("T")

# Hosts that are not ours, however alike.
OTHERS: Final = (
    "other.example",
    "example.net",
    "badmx.example.net",
    "mx.example.net.evil.example",
    "mx-example.net",
    "mx.example.nett",
    "sub.mx.example.net",
    "mx.example.net-1",
    "mx.exampl\u00e9.net",
    "\u043cx.example.net",
    "xn--mx-xka.example.net",
)
BLANKS: Final = (" ", "\t", "  ", "\r\n ", "\r\n\t", "\n ", " \r\n  ")
# What readers drop, or take for a blank: in OpenDMARC any of isspace(), in others whatever is no word.
NOISE: Final = (*BLANKS, "\v", "\f", "\r", "\x01", "\x7f", "\0", "\u00a0", "\u2003", "\u3000", "\u2028")
INVISIBLE: Final = ("\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff", "\u034f", "\ufe0f", "\u115f", "\u202e")
OCTETS: Final = ("\udc80", "\udca0", "\udcad", "\udcff")
DOTS: Final = ("\u3002", "\uff0e", "\uff61")
# Letters that some fold to these in ASCII.
PAIRS: Final = {
    "k": "\u212a",
    "s": "\u017f",
    "i": "\u0130\u0131",
    "m": "\u217f\u24dc",
    "x": "\u2179\U0001d431",
    "1": "\u00b9",
}


PIECES: Final = (
    *(" ", "\t", "\r\n ", "\v", "\f", "\r", "\x01", "(x)", "(a (b) c)", "(", ")", "(\\)", "(x;y)", f"({OURS})"),
    *("\\", "\\(", "\\(x ", '\\"', '"', '""', '"(x"', '"(x', '"(x" ', '"("', '("', ". ", "1", "/1", ";", "=", "'"),
)


class Speller:
    """Draws fields; the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def ours(self, name: str = OURS) -> str:
        """Return a field that some reader takes for one of ``name``."""
        return self.claim(name) + self.results(name)

    def claim(self, name: str = OURS) -> str:
        """Return what stands before the first result in such a field."""
        spelt = self._random.choice((self._valid, self._lenient, self._lenient, self._hostile))(name)
        if self._chance(0.05):
            # For readers that do not know nesting, or escapes, the comment ends before our name.
            before = self._pick(("a (b) ", "a \\) ", "a (b) \\) "))
            return f"({before}{name.title()}{self._pick(BLANKS)}; x) other.example"
        return self._before() + spelt + self._behind()

    def scrambled(self, name: str = OURS) -> str:
        """Return the beginning of a field that may be of ours or of nobody: let a reader say."""
        signs = [self._pick((sign, sign.upper(), "\\" * self._chance(0.1) + sign)) for sign in name]
        for _ in range(self._random.randrange(6)):
            dots = [place for place, sign in enumerate(signs) if sign.endswith(".")]
            places = (
                0,
                len(signs),
                self._random.randrange(len(signs) + 1),
                self._pick(dots) + self._random.randrange(2),
            )
            signs.insert(self._pick(places), self._pick(PIECES))
        return "".join(signs) + self._pick((";", "; ", " ;", " 1;", "(x) 1 (y);", ""))

    def other(self, ours: str = OURS) -> str:
        """Return a well-formed field of another host that mentions ours wherever it may."""
        host = self._pick(OTHERS)
        written = f'"{host}"' if self._chance(0.2) else host
        version = self._cfws(ours, 1.0) + "1" if self._chance(0.2) else ""
        before = self._pick(("", "", "", "; ", "i=1; ", f"i{self._cfws(ours)}= 12{self._cfws(ours)};"))
        field = before + self._cfws(ours) + written + version + self._cfws(ours)
        return field + (self.results(ours) if self._chance(0.8) else ";" + self._cfws(ours) + "none")

    def our_receiver(self, name: str = OURS) -> str:
        """Return a Received-SPF field that some reader takes for one of ``name`` (RFC 7208 section 9.1)."""
        spelt = self._random.choice((self._valid, self._lenient, self._lenient, self._hostile))(name)
        key = self._pick(("receiver", "Receiver", "RECEIVER")) + self._cfws() + "=" + self._cfws()
        pairs = ["client-ip=192.0.2.1", f"{key}{spelt}", f'helo="{self._pick(OTHERS)}"', "identity=helo"]
        self._random.shuffle(pairs)
        return f"Pass{self._cfws()} " + self._pick((";", "; ", " ;\r\n\t")).join(pairs)

    def other_receiver(self, ours: str = OURS) -> str:
        """Return a well-formed Received-SPF field of another host that mentions ours wherever it may."""
        host = self._pick(OTHERS)
        receiver = f'"{host}"' if self._chance(0.5) or not host.isascii() else host
        values = (ours, f'"{ours}"', f'"a@{ours}"', f'"receiver={ours} x"', f'"x; receiver={ours}; y"')
        pairs = [f"{key}={self._pick(values)}" for key in ("envelope-from", "helo", "x-receiver") if self._chance(0.6)]
        pairs.insert(self._random.randrange(len(pairs) + 1), f"receiver{self._cfws(ours)}={self._cfws(ours)}{receiver}")
        return f"Pass {self._comment(ours)}" + "".join(f" {pair}{self._cfws(ours)};" for pair in pairs)

    def results(self, mentioned: str) -> str:
        """Return results with a name in every place that is no host's (RFC 8601 section 2.2, resinfo)."""
        parts = []
        for _ in range(self._random.randrange(1, 4)):
            part = (
                f"{self._pick(('spf', 'dkim', 'dmarc', 'x-y'))}{self._pick(('', '/1'))}={self._pick(('pass', 'fail'))}"
            )
            part += self._cfws(mentioned)
            if self._chance(0.4):
                part += f' reason="as {mentioned} said; {mentioned} x"'
            values = (mentioned, f"a@{mentioned}", f'"{mentioned}"', f'"; {mentioned} x; y"', f"x.{mentioned}", "x")
            for _ in range(self._random.randrange(3)):
                part += f" {self._pick(('smtp.mailfrom', 'header.d', 'policy . x'))}={self._pick(values)}"
            parts.append(part + self._cfws(mentioned))
        return "".join(f";{self._pick(('', *BLANKS))}{part}" for part in parts)

    def _valid(self, name: str) -> str:
        """As RFC 8601 section 2.2 has it: in any letter case, quoted or not, with comments round it."""
        spelt = "".join(self._pick((sign, sign.upper())) for sign in name)
        if self._chance(0.3):
            spelt = '"' + "".join("\\" * self._chance(0.1) + sign for sign in spelt) + '"'
        return self._cfws() + spelt + self._cfws()

    def _lenient(self, name: str) -> str:
        """Blanks, comments, quotes, escapes where RFC 8601 has none."""
        spelt = ""
        for sign in name:
            choice = self._random.random()
            sign = self._pick((sign, sign.upper()))
            if choice < 0.06:
                sign = self._cfws("x", 1.0) + sign
            elif choice < 0.12:
                sign = f'"{sign}"'
            elif choice < 0.18:
                sign = "\\" + sign
            elif choice < 0.2:
                sign = self._pick(('""', ")")) + sign
            elif sign == ".":
                sign = self._cfws() + self._pick((sign, sign, sign, "..")) + self._cfws()
            spelt += sign
        return self._cfws() + spelt + self._cfws()

    def _hostile(self, name: str) -> str:
        """What looks, decodes or compares like the name."""
        kind = self._random.randrange(8)
        if kind == 0:
            return "".join(f"%{ord(sign):02X}" if self._chance(0.4) else sign for sign in name)
        if kind == 1:
            return f"=?utf-8?B?{base64.b64encode(name.encode()).decode()}?="
        if kind == 2:
            return "=?us-ascii?q?" + "".join(f"={ord(sign):02x}" if self._chance(0.4) else sign for sign in name) + "?="
        if kind == 3:
            return "".join(chr(0xDC80 + ord(sign)) for sign in name)
        if kind == 4:
            return "".join(chr(ord(sign) + 0xFEE0) if self._chance(0.5) else sign for sign in name)
        pool = (NOISE, INVISIBLE, OCTETS)[kind - 5]
        spelt = ""
        for sign in name:
            if self._chance(0.2):
                spelt += self._pick(pool)
            forms = DOTS if sign == "." else PAIRS.get(sign, "")
            spelt += self._pick(forms) if forms and self._chance(0.3) else sign
        return spelt

    def _before(self) -> str:
        """What may stand before the name and is no name."""
        return self._pick(
            ("", "", "", ";", " ; ;", "i=1;", "i = 12 ; ", "other.example; ", '"";', "(x;y)", ")", "\x00")
        )

    def _behind(self) -> str:
        return self._pick(
            ("", "", "", ".", "..", " 1", "/1", "/7a", " 1 (x)", "(x;y)", " x", ",", ":25", "\x00y", " (")
        )

    def _cfws(self, mentioned: str = "x", chance: float = 0.5) -> str:
        """Blanks and comments (RFC 5322 section 3.2.2)."""
        if not self._chance(chance):
            return ""
        return self._pick((*BLANKS, *(f"{blank}{self._comment(mentioned)}" for blank in BLANKS))) + self._pick(BLANKS)

    def _comment(self, mentioned: str, depth: int = 0) -> str:
        words = []
        for _ in range(self._random.randrange(4 - depth)):
            word = self._pick(("seen", "by", mentioned, f"at {mentioned} it", "x;y", "\\(", "\\x", "\u00fc", "'", "\t"))
            if depth < 3 and self._chance(0.2):
                word = self._comment(mentioned, depth + 1)
            words.append(word)
        return f"(as {' '.join(words)} it)"

    def _chance(self, chance: float) -> bool:
        return self._random.random() < chance

    def _pick(self, choices: Sequence[T]) -> T:
        return self._random.choice(choices)
