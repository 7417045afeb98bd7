"""Serves with a timeout, and tells whose callbacks it calls: python waiting.py SOCKET TIMEOUT [async]."""

import sys

import Milter


class Waiting(Milter.Base):
    def connect(self, hostname, family, hostaddr):
        self.name = hostname
        return self.say("connect")

    def envfrom(self, f, *params):
        return self.say("envfrom")

    def envrcpt(self, to, *params):
        return self.say("envrcpt")

    def abort(self):
        return self.say("abort")

    def close(self):
        return self.say("close")

    def say(self, what):
        print(self.name, what, flush=True)
        return Milter.CONTINUE


if __name__ == "__main__":
    Milter.factory = Waiting
    Milter.runmilter("waiting", sys.argv[1], timeout=int(sys.argv[2]))
