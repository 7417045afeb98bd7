"""A private Postfix that is set up as Debian does it: smtpd and cleanup run in a chroot."""

import os
import shutil
import time

from tests.interop.rigs.mta import wait_for_ports
from tests.interop.rigs.postfix import MAIN_CF, MASTER_CF, Postfix, _output

__all__ = ["Chrooted"]


class Chrooted(Postfix):
    """One port, ``mx``; ``settings`` says which filters are asked."""

    def __init__(self) -> None:
        super().__init__()
        self.ask({"mx": ()})

    def _start(self, sink_port: int) -> None:
        self.version = ()
        self.queue.mkdir(mode=0o755)
        (self.directory / "data").mkdir()
        shutil.chown(self.directory / "data", "postfix")
        (self.etc / "main.cf").write_text(MAIN_CF.format(directory=self.directory, sink_port=sink_port) + self.settings)
        master = MASTER_CF.replace("n - n - 0 cleanup", "n - y - 0 cleanup").replace(
            "cleanup -o non_smtpd_milters={submitted}", "cleanup"
        )
        port = self.ports["mx"]
        (self.etc / "master.cf").write_text(f"{master}127.0.0.1:{port} inet n - y - - smtpd\n{self.services}")
        for name in ("main.cf", "master.cf"):
            os.utime(self.etc / name, (time.time() - 10,) * 2)
        _output("postfix", "-c", str(self.etc), "start")
        wait_for_ports([port], None, self.name, self.tail)
