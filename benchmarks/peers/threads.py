"""The measured filters on python-libmilter: ``python threads.py SOCKET typical|noop|waiting``, until SIGTERM.

A thread a connection, the library's own way for filters that may wait.  SOCKET is a path or ``inet:HOST:PORT``.
"""

import signal
import sys
import time

import libmilter  # type: ignore[import-not-found]


class Noop(libmilter.ThreadMixin, libmilter.MilterProtocol):  # type: ignore[misc]
    """Every callback answered, none does anything."""

    def __init__(self, opts=0, protos=0):  # type: ignore[no-untyped-def]
        libmilter.MilterProtocol.__init__(self, opts, protos)
        libmilter.ThreadMixin.__init__(self)
        self.daemon = True

    def log(self, msg):  # type: ignore[no-untyped-def]
        pass

    def connect(self, hostname, family, ip, port, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def helo(self, heloname):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def mailFrom(self, frAddr, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def rcpt(self, recip, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def data(self, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def header(self, key, val, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def eoh(self, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def body(self, chunk, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE

    def eob(self, cmdDict):  # type: ignore[no-untyped-def]
        return libmilter.CONTINUE


class Typical(Noop):
    """The content collected without answers, one field added; what is returned is sent, also where none is waited for."""

    @libmilter.noReply
    def data(self, cmdDict):  # type: ignore[no-untyped-def]
        return None

    @libmilter.noReply
    def header(self, key, val, cmdDict):  # type: ignore[no-untyped-def]
        return None

    @libmilter.noReply
    def body(self, chunk, cmdDict):  # type: ignore[no-untyped-def]
        return None

    def eob(self, cmdDict):  # type: ignore[no-untyped-def]
        self.addHeader(b"X-Seen", b"yes")
        return libmilter.CONTINUE


class Waiting(Typical):
    """MAIL takes 50 ms."""

    def mailFrom(self, frAddr, cmdDict):  # type: ignore[no-untyped-def]
        time.sleep(0.05)
        return libmilter.CONTINUE


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    kind = {"typical": Typical, "noop": Noop, "waiting": Waiting}[sys.argv[2]]
    libmilter.ThreadFactory(sys.argv[1], kind, libmilter.SMFIF_ADDHDRS, listenq=1024).run()
