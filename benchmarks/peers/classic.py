"""The measured filters as programs for pymilter: ``python classic.py SOCKET FILTER``, one of ``FILTERS``, until SIGTERM.

Run by an interpreter that has pymilter, or by ``aiomilter compat``.
"""

import email
import io
import sys
import time

import Milter  # type: ignore[import-not-found]


class Noop(Milter.Base):  # type: ignore[misc]
    """Every callback answered, none does anything."""

    def connect(self, host, family, address):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def hello(self, name):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def envfrom(self, sender, *params):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def envrcpt(self, recipient, *params):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def data(self):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def header(self, name, value):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def eoh(self):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def body(self, chunk):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def eom(self):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE


class Typical(Noop):
    """The content collected without answers, one field added."""

    @Milter.noreply
    def data(self):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    @Milter.noreply
    def body(self, chunk):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def eom(self):  # type: ignore[no-untyped-def]
        self.addheader("X-Seen", "yes")
        return Milter.CONTINUE


class Waiting(Typical):
    """MAIL takes 50 ms."""

    def envfrom(self, sender, *params):  # type: ignore[no-untyped-def]
        time.sleep(0.05)
        return Milter.CONTINUE


class Sender(Milter.Base):  # type: ignore[misc]
    """Only the sender and the end of a message."""

    def envfrom(self, sender, *params):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE

    def eom(self):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE


class End(Milter.Base):  # type: ignore[misc]
    """Only the end of a message."""

    def eom(self):  # type: ignore[no-untyped-def]
        return Milter.CONTINUE


class Email(Milter.Base):  # type: ignore[misc]
    """The whole message read with ``email``, and a field with its size added."""

    def envfrom(self, sender, *params):  # type: ignore[no-untyped-def]
        self.kept = io.BytesIO()
        return Milter.CONTINUE

    @Milter.noreply
    def header(self, name, value):  # type: ignore[no-untyped-def]
        self.kept.write(f"{name}: {value}\n".encode("utf-8", "surrogateescape"))
        return Milter.CONTINUE

    @Milter.noreply
    def eoh(self):  # type: ignore[no-untyped-def]
        self.kept.write(b"\n")
        return Milter.CONTINUE

    @Milter.noreply
    def body(self, chunk):  # type: ignore[no-untyped-def]
        self.kept.write(chunk)
        return Milter.CONTINUE

    def eom(self):  # type: ignore[no-untyped-def]
        self.kept.seek(0)
        message = email.message_from_binary_file(self.kept)
        self.addheader("X-Size", str(len(message.as_bytes())))
        return Milter.CONTINUE


FILTERS = {"typical": Typical, "noop": Noop, "waiting": Waiting, "sender": Sender, "end": End, "email": Email}

if __name__ == "__main__":
    Milter.factory = FILTERS[sys.argv[2]]
    Milter.set_flags(Milter.ADDHDRS)
    Milter.runmilter("measured", sys.argv[1], 60)
