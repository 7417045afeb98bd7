"""OpenDMARC as a reader of Authentication-Results: it says whose field it takes for its own."""

import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.programs import program

PROGRAM = program("opendmarc")

CONFIGURATION = """\
AuthservID {name}
RejectFailures true
SPFSelfValidate false
Syslog false
IgnoreHosts /dev/null
TestDNSData zone
"""
# A message that no result of its own saves is refused.
ZONE = "_dmarc.bank.example v=DMARC1; p=reject\n"
MESSAGE = """\
From: boss@bank.example
To: bob@example.org
Subject: transfer
Date: Mon, 30 Nov 2026 00:00:00 +0000
Message-ID: <1@bank.example>

Please pay.
"""


def missing() -> str | None:
    return None if PROGRAM else "opendmarc is not installed"


def taken(fields: Sequence[str], name: str, folder: Path) -> list[bool]:
    """Return which fields are taken for those of ``name``: one process judges them all, and asks no network.

    Args:
        fields: Values that end in ``dkim=pass header.d=bank.example``, as text with surrogate escapes.
        name: The authserv-id that is trusted.
        folder: An empty directory.
    """
    (folder / "opendmarc.conf").write_text(CONFIGURATION.format(name=name))
    (folder / "zone").write_text(ZONE)
    for number, field in enumerate(fields):
        message = f"Authentication-Results: {field}\n{MESSAGE}"
        (folder / str(number)).write_bytes(message.encode("utf-8", "surrogateescape"))
    files = ",".join(map(str, range(len(fields))))
    command = [str(PROGRAM), "-c", "opendmarc.conf", "-v", "-t", files]
    run = subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=True)
    said = (run.stdout + run.stderr).decode("utf-8", "replace")
    verdicts = dict(re.findall(r"(\d+): mlfi_eom\(\) returned SMFIS_(\w+)", said))
    assert set(verdicts.values()) <= {"ACCEPT", "REJECT"}, said[-2000:]
    return [verdicts[str(number)] == "ACCEPT" for number in range(len(fields))]
