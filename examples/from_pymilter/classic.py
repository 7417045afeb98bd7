"""Refuse senders whose domain a reputation service lists: written for pymilter, unchanged.

aiomilter compat examples/from_pymilter/classic.py inet:8890@127.0.0.1
"""

import os
import socket
import sys

import Milter
from Milter.utils import parse_addr

SERVICE = ("127.0.0.1", int(os.environ.get("REPUTATION_PORT", "7777")))


def is_listed(domain):
    with socket.create_connection(SERVICE, timeout=10) as service:
        service.sendall(domain.encode("utf-8", "surrogateescape") + b"\n")
        return service.makefile("rb").readline() == b"listed\n"


class Reputation(Milter.Base):
    def envfrom(self, sender, *params):
        self.recipients = 0
        address = parse_addr(sender)
        if len(address) == 2 and is_listed(address[1].lower()):
            self.setreply("550", "5.7.1", "Your domain is listed")
            return Milter.REJECT
        return Milter.CONTINUE

    @Milter.noreply
    def envrcpt(self, recipient, *params):
        self.recipients += 1
        return Milter.CONTINUE

    def eom(self):
        self.addheader("X-Recipients", str(self.recipients))
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Reputation
    Milter.runmilter("reputation", sys.argv[1], timeout=240)
