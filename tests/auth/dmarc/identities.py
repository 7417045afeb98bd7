"""What SPF and DKIM may have said, for tests of DMARC."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from aiomilter.auth.spf import Identity, Result, SpfResult

IP: Final = IPv4Address("192.0.2.1")


@dataclass(frozen=True)
class Signed:
    """One DKIM signature that was checked."""

    result: str
    domain: str
    selector: str = "s1"
    whole: bool = True

    @property
    def aligned_identifier(self) -> str | None:
        return self.domain if self.result == "pass" and self.whole else None


def spf_result(result: Result, domain: str, identity: Identity = "mailfrom") -> SpfResult:
    return SpfResult(result, domain, identity, IP, f"bounce@{domain}", f"mx.{domain}")
