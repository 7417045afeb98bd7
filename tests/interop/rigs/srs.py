"""Other programs that rewrite senders: Mail::SRS in a perl process for all addresses, and postsrsd, which Postfix asks."""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.interop.rigs.mta import free_port, wait_for_ports
from tests.programs import program

# Reads a case a line, and prints what comes of it, null where it is refused; its clock is the case's.
_PERL = """\
my $now;
BEGIN { *CORE::GLOBAL::time = sub { $now } }
use strict; use warnings; use JSON::PP; use Mail::SRS;
while (my $line = <STDIN>) {
    my $case = decode_json($line);
    $now = $case->{now};
    my $srs = Mail::SRS->new(Secret => $case->{secrets}, MaxAge => 21, HashLength => 4, Separator => $case->{separator});
    my $address = $case->{address};
    my $made = eval { $case->{do} eq "forward" ? $srs->forward($address, $case->{alias}) : $srs->reverse($address) };
    print JSON::PP->new->allow_nonref->encode($made), "\\n";
}
"""


def missing() -> str | None:
    """What this machine lacks; None if nothing."""
    perl = program("perl")
    if (
        perl is None
        or subprocess.run([perl, "-MMail::SRS", "-MJSON::PP", "-e", "1"], stderr=-3, check=False).returncode
    ):
        return "Mail::SRS is not installed (Debian package libmail-srs-perl)"
    return None


def mail_srs(cases: Iterable[Mapping[str, Any]]) -> list[str | None]:
    """Return what Mail::SRS makes of each: ``do``, ``address``, ``alias``, ``secrets``, ``separator`` and ``now``."""
    lines = "".join(json.dumps(case) + "\n" for case in cases)
    done = subprocess.run(["perl", "-e", _PERL], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


class Postsrsd:
    """postsrsd 1.10: two TCP tables."""

    def __init__(self, domain: str, secrets: Path) -> None:
        self.forward, self.reverse = free_port(), free_port()
        self._arguments = [f"-d{domain}", f"-s{secrets}", f"-f{self.forward}", f"-r{self.reverse}", "-l127.0.0.1"]

    @staticmethod
    def missing() -> str | None:
        """What this machine lacks; None if nothing."""
        return None if program("postsrsd") else "postsrsd is not installed (Debian package postsrsd)"

    def __enter__(self) -> "Postsrsd":
        self._process = subprocess.Popen([program("postsrsd") or "", *self._arguments], stdin=-3, stdout=-1, stderr=-2)
        wait_for_ports([self.forward, self.reverse], self._process, "postsrsd", self._process.poll)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


class SrsCommand:
    """``aiomilter srs serve``, as a postmaster runs it."""

    def __init__(self, domain: str, secrets: Path, *options: str) -> None:
        self.port = free_port()
        listen = f"--listen=inet:{self.port}@127.0.0.1"
        self._command = [sys.executable, "-m", "aiomilter", "srs", "serve", listen, f"--domain={domain}"]
        self._command += [f"--secrets={secrets}", *options]

    def map(self, name: str) -> str:
        """Return a table as Postfix writes it."""
        return f"socketmap:inet:127.0.0.1:{self.port}:{name}"

    def __enter__(self) -> "SrsCommand":
        self.process = subprocess.Popen(self._command, stdin=-3, stdout=-1, stderr=-2)
        wait_for_ports([self.port], self.process, "aiomilter srs serve", self.process.communicate)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate()
