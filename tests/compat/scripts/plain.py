"""Serves until it is asked to stop, and tells so: python plain.py SOCKET."""

import os
import sys
import time

import Milter


class Plain(Milter.Base):
    def __init__(self):
        self.id = 0

    def connect(self, hostname, family, hostaddr):
        print("connect", flush=True)
        return Milter.CONTINUE

    def envfrom(self, f, *params):
        print("envfrom", f, flush=True)
        if f == "<wait@example.org>":
            # The MTA's side makes it when it is to go on.
            while not os.path.exists(sys.argv[1] + ".go"):
                time.sleep(0.01)
            print("goes on", flush=True)
            return Milter.REJECT
        return Milter.CONTINUE

    def eom(self):
        self.addheader("X-Plain", "yes")
        return Milter.ACCEPT

    def abort(self):
        print("abort", flush=True)

    def close(self):
        print("close", flush=True)
        return Milter.CONTINUE


def main():
    Milter.factory = Plain
    Milter.set_flags(Milter.ADDHDRS)
    print("starting", flush=True)
    result = Milter.runmilter("plain", sys.argv[1], 240)
    print("returned", result, flush=True)


if __name__ == "__main__":
    print(
        __name__,
        len(sys.argv),
        os.path.basename(sys.path[0]),
        os.path.basename(sys.argv[0]),
        os.path.basename(__file__),
    )
    main()
    print("ended", flush=True)
