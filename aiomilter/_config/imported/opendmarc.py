"""opendmarc.conf(5) of OpenDMARC 1.4: each of its settings, as Debian's manual page names them."""

from collections.abc import Collection, Mapping
from typing import Final

from aiomilter._config.imported import opendkim
from aiomilter._config.imported.gateway import LOG, SERVICE, Gateway, Given, Rule, left_out
from aiomilter._config.imported.reading import hosts, is_yes, listed, socket

__all__ = ["finish", "known"]

_REPORTS: Final = left_out("no failure reports are sent (RFC 9991 leaves them to the receiver)")
_HISTORY: Final = left_out("results are in the log and in DmarcRecord; aiomilter help dmarc")
_ALWAYS: Final = left_out("SPF is checked here; what an arriving field says is not believed")


def _sealers(gateway: Gateway, given: Given) -> str | None:
    found, problem = listed(given.value if given.name == "DomainWhitelist" else f"file:{given.value}")
    sealers: list[str] = gateway.filter("authenticate").setdefault("trusted_sealers", [])
    sealers += [each for each in found if each not in sealers]
    return problem or None


def _ignored_hosts(gateway: Gateway, given: Given) -> str | None:
    return hosts(gateway, "internal", given._replace(value=f"file:{given.value}"))


def _reject(gateway: Gateway, given: Given) -> None:
    gateway.filter("authenticate")["dmarc"] = "enforce" if is_yes(given.value) else "report"


def _hold(gateway: Gateway, given: Given) -> None:
    gateway.filter("authenticate")["dmarc_quarantine"] = "quarantine" if is_yes(given.value) else "header"


def _ambiguous(gateway: Gateway, given: Given) -> None:
    if not is_yes(given.value):
        gateway.do("Mail with several addresses in From is refused: ambiguous_from of authenticate says otherwise.")


def _trusted(gateway: Gateway, given: Given) -> str | None:
    return "[networks] trusted_relays names the relays whose fields are believed, by their addresses"


_SETTINGS: Final[Mapping[str, Rule]] = {
    "AuthservID": opendkim.known()["AuthservID"],
    "AuthservIDWithJobID": opendkim.known()["AuthservIDWithJobID"],
    "AutoRestart": SERVICE,
    "AutoRestartCount": SERVICE,
    "AutoRestartRate": SERVICE,
    "Background": SERVICE,
    "BaseDirectory": left_out("paths are relative to the file"),
    "ChangeRootDirectory": SERVICE,
    "CopyFailuresTo": left_out("copy adds recipients by rule"),
    "DomainWhitelist": _sealers,
    "DomainWhitelistFile": _sealers,
    "DomainWhitelistSize": left_out("lists grow by themselves"),
    "DNSTimeout": opendkim.known()["DNSTimeout"],
    "EnableCoredumps": SERVICE,
    "FailureReports": _REPORTS,
    "FailureReportsBcc": _REPORTS,
    "FailureReportsOnNone": _REPORTS,
    "FailureReportsSentBy": _REPORTS,
    "HistoryFile": _HISTORY,
    "HoldQuarantinedMessages": _hold,
    "IgnoreAuthenticatedClients": left_out("clients that have logged in are never judged"),
    "IgnoreHosts": _ignored_hosts,
    "IgnoreMailFrom": left_out("no author is left out of checks"),
    "IgnoreMailTo": _HISTORY,
    "MilterDebug": left_out('log.level = "debug"'),
    "PidFile": SERVICE,
    "PublicSuffixList": left_out("RFC 9989 finds the organizational domain in DNS"),
    "RecordAllMessages": _HISTORY,
    "RejectFailures": _reject,
    "RejectMultiValueFrom": _ambiguous,
    "RejectString": left_out("the reply names the domain whose policy it is"),
    "ReportCommand": _REPORTS,
    "RequiredHeaders": left_out("ambiguous_from of authenticate answers several From fields, or none"),
    "Socket": socket,
    "SoftwareHeader": left_out("no field names the software"),
    "SPFIgnoreResults": _ALWAYS,
    "SPFSelfValidate": _ALWAYS,
    "Syslog": LOG,
    "SyslogFacility": LOG,
    "TrustedAuthservIDs": _trusted,
    "UMask": opendkim.known()["UMask"],
    "UserID": SERVICE,
}


def known() -> Mapping[str, Rule]:
    """Return the rule of each setting."""
    return _SETTINGS


def finish(gateway: Gateway, given: Collection[str]) -> None:
    """Say what holds without any setting: OpenDMARC then refuses nothing."""
    gateway.filter("authenticate").setdefault("dmarc", "report")
