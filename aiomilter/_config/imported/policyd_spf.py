"""policyd-spf.conf(5) of pyspf-milter and policyd-spf 3.0, as Debian's manual page and sample name its settings."""

from collections.abc import Collection, Mapping
from typing import Final

from aiomilter._config.imported import opendkim
from aiomilter._config.imported.gateway import SERVICE, Gateway, Given, Rule, left_out
from aiomilter._config.imported.reading import hosts, is_yes, socket, words

__all__ = ["finish", "known"]

_ACCESS: Final = left_out("clients are left out of checks by [networks] internal alone")
_POSTFIX: Final = left_out(
    "restrictions of Postfix cannot be given back by a milter; when and unless of filters know SPF"
)
# What is refused, by the value in lower case; what is not named here is not judged.
_REFUSED: Final[Mapping[str, tuple[str, ...]]] = {
    "fail": ("fail",),
    "softfail": ("fail", "softfail"),
    "spf_not_pass": ("fail", "softfail", "neutral"),
    "false": (),
    "no_check": (),
}


def _refuse(prefix: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> str | None:
        if given.value.lower() == "null":
            return "HELO is judged for null senders by SPF itself (RFC 7208, 2.4): spf_fail covers it"
        results = _REFUSED.get(given.value.lower())
        if results is None:
            return f"{given.value} is none of {', '.join(_REFUSED)}"
        for result in results:
            gateway.filter("authenticate")[f"{prefix}_{result}"] = "reject"
        return "its result is found and written anyway" if given.value.lower() == "no_check" else None

    return rule


def _result(name: str, action: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> None:
        if is_yes(given.value):
            gateway.filter("authenticate")[name] = action

    return rule


def _not_pass_domains(gateway: Gateway, given: Given) -> None:
    domains = gateway.filter("authenticate").setdefault("domains", {})
    for domain in words(given.value):
        domains[domain] = {f"spf_{result}": "reject" for result in ("softfail", "neutral")}


def _internal(gateway: Gateway, given: Given) -> str | None:
    # Networks of IPv4 addresses written as IPv6 ones are those of IPv4.
    kept = [each for each in words(given.value) if not each.lower().startswith("::ffff:")]
    return hosts(gateway, "internal", given._replace(value=",".join(kept)))


def _kind_of_field(gateway: Gateway, given: Given) -> None:
    gateway.filter("authenticate")["received_spf"] = given.value.upper() != "AR"


def _test_only(gateway: Gateway, given: Given) -> None:
    if given.value.strip() == "0" or given.value.lower() in ("false", "no"):
        gateway.filter("authenticate")["shadow"] = True
        gateway.do(
            "authenticate refuses nothing while it is a shadow; take the line out when its log says what you expect."
        )


_SETTINGS: Final[Mapping[str, Rule]] = {
    "debugLevel": left_out("[log] level"),
    "TestOnly": _test_only,
    "HELO_reject": _refuse("helo_spf"),
    "HELO_pass_restriction": _POSTFIX,
    "Mail_From_reject": _refuse("spf"),
    "Mail_From_pass_restriction": _POSTFIX,
    "No_Mail": left_out("DMARC says what a domain that sends no mail wants"),
    "Reject_Not_Pass_Domains": _not_pass_domains,
    "PermError_reject": _result("spf_permerror", "reject"),
    "TempError_Defer": _result("spf_temperror", "tempfail"),
    "Prospective": left_out("'aiomilter auth MESSAGE --ip ADDRESS' tries one address"),
    "skip_addresses": _internal,
    "Whitelist": _ACCESS,
    "HELO_Whitelist": _ACCESS,
    "Domain_Whitelist": left_out("forwarders are known by their ARC seals: trusted_sealers of authenticate"),
    "Domain_Whitelist_PTR": left_out("names that clients have in DNS are no proof"),
    "SPF_Enhanced_Status_Codes": left_out("codes are those of RFC 7372"),
    "Header_Type": _kind_of_field,
    "Hide_Receiver": left_out("no field names a recipient"),
    "Authserv_Id": opendkim.known()["AuthservID"],
    "Lookup_Time": left_out("20 s, always (RFC 7208, 4.6.4)"),
    "Whitelist_Lookup_Time": left_out("20 s, always (RFC 7208, 4.6.4)"),
    "Void_Limit": left_out("2, always (RFC 7208, 4.6.4)"),
    "Mock": left_out("a milter needs none"),
    "QueueID": left_out("the log always has it"),
    "Reason_Message": left_out("the reply has the explanation that the domain publishes"),
    "Socket": socket,
    "PidFile": SERVICE,
    "UserID": SERVICE,
    "UMask": opendkim.known()["UMask"],
    "InternalHosts": opendkim.known()["InternalHosts"],
    "MacroList": opendkim.known()["MacroList"],
    # In Debian's file, not in the manual page.
    "MacroListVerify": opendkim.known()["MacroList"],
}


def known() -> Mapping[str, Rule]:
    """Return the rule of each setting."""
    return _SETTINGS


def finish(gateway: Gateway, given: Collection[str]) -> None:
    """Say what holds without any setting: a hard fail is refused, in HELO, too, and softer results there."""
    settings = gateway.filter("authenticate")
    settings.setdefault("dmarc", "report")
    for name, default in {"HELO_reject": "SPF_Not_Pass", "Mail_From_reject": "Fail"}.items():
        if name not in given:
            _SETTINGS[name](gateway, Given("", 0, name, default))
