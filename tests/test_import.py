"""``import aiomilter`` costs what a filter needs, and nothing more."""

import subprocess
import sys

HEAVY = ("aiodns", "aiosmtpd", "cryptography", "dns", "email", "hypothesis", "idna", "pytest", "uvloop")
PROGRAM = "import sys, aiomilter; print(*sorted({name.partition('.')[0] for name in sys.modules}))"


def test_importing_aiomilter_loads_no_dns_smtp_or_crypto_library() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    assert "aiomilter" in found
    assert set(found).isdisjoint(HEAVY)
