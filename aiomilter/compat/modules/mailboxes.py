"""The first address of a header such as From, as :mod:`email` reads it, without a call for each parenthesis and group."""

from email._parseaddr import AddrlistClass  # type: ignore[import-not-found]  # it is in no stub

__all__ = ["first_mailbox"]


def first_mailbox(value: str) -> tuple[str, str]:
    """Return name and address of the first mailbox of a list, ``("", "")`` if there is none.

    Source: RFC 5322 section 3.4; :func:`email.utils.parseaddr`, not strict.
    """
    return _Reader(value).first() if value else ("", "")


class _Reader(AddrlistClass):  # type: ignore[misc]
    """Reads as far as to the end of the first mailbox."""

    field: str
    pos: int

    def getcomment(self) -> str:
        """Return a comment without its parentheses and those inside of it."""
        text, depth, quoted = [], 0, False
        while self.pos < len(self.field):
            character = self.field[self.pos]
            self.pos += 1
            if quoted:
                text.append(character)
                quoted = False
            elif character == "\\":
                quoted = True
            elif character == "(":
                depth += 1
            elif character in ")\r":
                depth -= 1
                if not depth:
                    break
            else:
                text.append(character)
        return "".join(text)

    def first(self) -> tuple[str, str]:
        """Return the first mailbox, that of the first group which has one if the list begins with a group."""
        groups = 0
        while True:
            if groups:
                self.gotonext()
                if self.pos >= len(self.field):
                    break
                if self.field[self.pos] == ";":
                    self._leave_group()
                    groups -= 1
                    if not groups:
                        break
                    continue
            if self._enters_group():
                groups += 1
                continue
            found: list[tuple[str, str]] = self.getaddress()
            if found:
                return found[0]
            if not groups:
                break
        return "", ""

    def _enters_group(self) -> bool:
        begin = self.pos
        self.gotonext()
        self.getphraselist()
        self.gotonext()
        if self.pos < len(self.field) and self.field[self.pos] == ":":
            self.pos += 1
            return True
        self.pos = begin
        return False

    def _leave_group(self) -> None:
        self.pos += 1
        self.gotonext()
        if self.pos < len(self.field) and self.field[self.pos] == ",":
            self.pos += 1
