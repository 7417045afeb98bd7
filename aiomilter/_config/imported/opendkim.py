"""opendkim.conf(5) of OpenDKIM 2.11: each of its settings, as Debian's manual page names them."""

import re
from collections.abc import Collection, Mapping
from typing import Final

from aiomilter._config.imported.gateway import LOG, SERVICE, Gateway, Given, Rule, left_out
from aiomilter._config.imported.reading import hosts, is_yes, listed, socket

__all__ = ["finish", "known"]

_DNS: Final = left_out("the resolver's own time limits hold; aiomilter help dns")
_BUILT_IN: Final = left_out("always so")
_NEVER: Final = left_out("not offered, since it makes signatures weaker or checks laxer")
_REPORTS: Final = left_out("no failure reports are sent")
_SCRIPT: Final = left_out('Lua scripts become a filter of your own: use = "module:Name"; aiomilter help filters')
_LDAP: Final = left_out("keys are files; another source is a KeyRing of your own: aiomilter help dkim")
_STATISTICS: Final = left_out("metrics count results; aiomilter help metrics")
_DEBUG: Final = left_out("for tests and debugging; 'aiomilter auth -v' shows what was hashed")
_EXPERIMENT: Final = left_out("an experiment that Debian's OpenDKIM does not have either")
_VERDICT: Final = left_out('a signature alone decides nothing: DMARC does, by dmarc = "enforce" of authenticate')
_ACTIONS: Final[Mapping[str, str]] = {"a": "accept", "d": "discard", "r": "reject", "t": "tempfail"}


def _servers_name(gateway: Gateway, given: Given) -> str | None:
    if given.value.upper() != "HOSTNAME":
        gateway.top["authserv_id"] = given.value
    return None


def _domain(gateway: Gateway, given: Given) -> str | None:
    found, problem = listed(given.value)
    gateway.signing["domains"] = found
    return problem or None


def _part(name: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> str | None:
        gateway.signing[name] = given.value
        return None

    return rule


def _internal_hosts(gateway: Gateway, given: Given) -> str | None:
    return hosts(gateway, "internal", given)


def _macros(gateway: Gateway, given: Given) -> str | None:
    """Clients that the MTA marks by a macro: those of one of its services."""
    found, problem = listed(given.value)
    services = [part for each in found if each.startswith("daemon_name|") for part in each.split("|")[1:]]
    if services:
        gateway.do(f"Give Postfix's service for {', '.join(services)} a socket of its own, and name it in 'listen'.")
    return problem or ("clients that have logged in are known without a macro" if not services else None)


def _oversign(gateway: Gateway, given: Given) -> str | None:
    found, problem = listed(given.value)
    if found:
        gateway.filter("sign")["oversign"] = found
    return problem or None


def _expire(gateway: Gateway, given: Given) -> str | None:
    if not given.value.isdecimal():
        return "no number of seconds"
    gateway.filter("sign")["expire"] = f"{int(given.value)} s"
    return None


def _least_bits(gateway: Gateway, given: Given) -> str | None:
    if not given.value.isdecimal():
        return "no number of bits"
    if int(given.value) < 1024:
        return "less than 1024 bits is not offered (RFC 8301)"
    gateway.filter("authenticate")["dkim_min_bits"] = int(given.value)
    return None


def _headers(gateway: Gateway, given: Given) -> str | None:
    if given.value.isdecimal() and int(given.value):
        gateway.table("limits")["max_headers_size"] = int(given.value)
    return None


def _on_error(gateway: Gateway, given: Given) -> str | None:
    action = _ACTIONS.get(given.value[:1].lower())
    if action is None:
        return f"{given.value} is no answer for failures"
    gateway.table("failure")["on_error"] = action
    return None


def _mode(gateway: Gateway, given: Given) -> str | None:
    for letter, use in {"s": "sign", "v": "authenticate"}.items():
        if letter in given.value:
            gateway.filter(use)
    return None


def _mask(gateway: Gateway, given: Given) -> str | None:
    if not re.fullmatch("0?[0-7]{1,3}", given.value):
        return "no octal number"
    # Of several programs' the strictest.
    earlier = int(gateway.table("socket").get("mode", "0666"), 8)
    gateway.table("socket")["mode"] = f"{earlier & ~int(given.value, 8):04o}"
    return None


def _when_on(rule: Rule) -> Rule:
    return lambda gateway, given: rule(gateway, given) if is_yes(given.value) else None


_SETTINGS: Final[Mapping[str, Rule]] = {
    "AllowSHA1Only": _NEVER,
    "AlwaysAddARHeader": _BUILT_IN,
    "AuthservID": _servers_name,
    "AuthservIDWithJobID": _when_on(left_out("the field has the name alone; the log has the queue id")),
    "AutoRestart": SERVICE,
    "AutoRestartCount": SERVICE,
    "AutoRestartRate": SERVICE,
    "Background": SERVICE,
    "BaseDirectory": left_out("paths are relative to the file"),
    "BodyLengthDB": _NEVER,
    "BogusKey": _NEVER,
    "CaptureUnknownErrors": _when_on(left_out("an error is answered on_error; aiomilter help failures")),
    "Canonicalization": left_out("ours signs relaxed/relaxed, which mailing systems break least"),
    "ChangeRootDirectory": SERVICE,
    "ClockDrift": left_out("300 s, always"),
    "Diagnostics": _DEBUG,
    "DiagnosticDirectory": _DEBUG,
    "DisableCryptoInit": _BUILT_IN,
    "DNSConnect": _DNS,
    "DNSTimeout": _DNS,
    "Domain": _domain,
    "DomainKeysCompat": left_out("DomainKeys is historic (RFC 4870)"),
    "DontSignMailTo": left_out("signing does not ask who the recipients are; in a program a condition of your own can"),
    "EnableCoredumps": SERVICE,
    "ExemptDomains": left_out("no domain is left out of checks"),
    "ExternalIgnoreList": left_out("no record is written of it"),
    "FinalPolicyScript": _SCRIPT,
    "FixCRLF": left_out("a bare CR or LF is an octet of the body; Postfix and Sendmail send none"),
    "IdentityHeader": _EXPERIMENT,
    "IdentityHeaderRemove": _EXPERIMENT,
    "IgnoreMalformedMail": left_out("ambiguous_from of authenticate says what becomes of it"),
    "Include": left_out("files within files within files are not read"),
    "InternalHosts": _internal_hosts,
    "KeepAuthResults": _when_on(left_out("forged fields always go")),
    "KeepTemporaryFiles": _DEBUG,
    "KeyFile": _part("key"),
    "KeyTable": _part("key_table"),
    **{
        f"LDAP{name}": _LDAP
        for name in (
            "AuthMechanism",
            "AuthName",
            "AuthRealm",
            "AuthUser",
            "BindPassword",
            "BindUser",
            "DisableCache",
            "KeepaliveIdle",
            "KeepaliveInterval",
            "KeepaliveProbes",
            "Timeout",
            "UseTLS",
        )
    },
    "LogResults": LOG,
    "LogWhy": LOG,
    "MacroList": _macros,
    "MaximumHeaders": _headers,
    "MaximumSignaturesToVerify": left_out("10 of each message, always"),
    "MaximumSignedBytes": _NEVER,
    "MilterDebug": _DEBUG,
    "Minimum": left_out("a signature of a part of the body does not count at all"),
    "MinimumKeyBits": _least_bits,
    "Mode": _mode,
    "MTA": left_out("the MTA's services are told apart by their sockets: run a daemon for each"),
    "MTACommand": _REPORTS,
    "MultipleSignatures": left_out("all keys of a domain sign"),
    "MustBeSigned": left_out("From must be signed; further fields are not asked for"),
    "Nameservers": left_out("those of /etc/resolv.conf are asked; aiomilter help dns"),
    "NoHeaderB": left_out("header.b is always written (RFC 6008)"),
    "OmitHeaders": left_out("trace fields are never signed"),
    "On-BadSignature": _VERDICT,
    "On-Default": _on_error,
    "On-DNSError": left_out('a temporary error of DNS is a result; dmarc = "enforce" answers it'),
    "On-InternalError": _on_error,
    "On-KeyNotFound": _VERDICT,
    "On-NoSignature": _VERDICT,
    "On-Security": left_out("ambiguous_from of authenticate says what becomes of it"),
    "On-SignatureError": left_out("mismatch of sign says what becomes of mail without a key"),
    "OversignHeaders": _oversign,
    "PeerList": left_out("clients are left out of checks by [networks] internal alone"),
    "PidFile": SERVICE,
    "POPDBFile": left_out("POP before SMTP is not offered"),
    "Quarantine": _when_on(_VERDICT),
    "QueryCache": left_out("answers are kept, within bounds, by the resolver"),
    "RedirectFailuresTo": left_out("mail is not sent to others than its recipients; copy adds recipients"),
    "RemoveARAll": _when_on(left_out("fields of our own name go, whatever they hold; others' stay")),
    "RemoveARFrom": left_out("fields of our own name go; others' are not believed, and stay"),
    "RemoveOldSignatures": _when_on(left_out("others' signatures stay")),
    "ReplaceHeaders": left_out("what the MTA changes later cannot be known; sign behind it"),
    "ReplaceRules": left_out("what the MTA changes later cannot be known; sign behind it"),
    "ReportAddress": _REPORTS,
    "ReportBccAddress": _REPORTS,
    "RequestReports": _REPORTS,
    "RequiredHeaders": _when_on(left_out("ambiguous_from of authenticate answers several From fields, or none")),
    "RequireSafeKeys": left_out("a key that others may read is a warning at start"),
    "ResignAll": _EXPERIMENT,
    "ResignMailTo": _EXPERIMENT,
    "ResolverConfiguration": _DNS,
    "ResolverTracing": _DEBUG,
    "ScreenPolicyScript": _SCRIPT,
    "SelectCanonicalizationHeader": left_out("the message does not choose how it is signed"),
    "Selector": _part("selector"),
    "SenderHeaders": left_out("the domain is that of From, since DMARC looks at From"),
    "SenderMacro": left_out("the domain is that of From, since DMARC looks at From"),
    "SendReports": _REPORTS,
    "SetupPolicyScript": _SCRIPT,
    "SignatureAlgorithm": left_out("rsa-sha256 or ed25519-sha256, by the kind of the key"),
    "SignatureTTL": _expire,
    "SignHeaders": left_out("the fields that RFC 6376 recommends are signed; oversign adds to them"),
    "SigningTable": _part("signing_table"),
    "SMTPURI": _REPORTS,
    "Socket": socket,
    "SoftStart": _LDAP,
    "SoftwareHeader": _when_on(left_out("no field names the software")),
    "Statistics": _STATISTICS,
    "StatisticsName": _STATISTICS,
    "StatisticsPolicyScript": _STATISTICS,
    "StatisticsPrefix": _STATISTICS,
    "StrictHeaders": left_out("ambiguous_from of authenticate answers several From fields, or none"),
    "StrictTestMode": _DEBUG,
    "SubDomains": _part("subdomains"),
    "Syslog": LOG,
    "SyslogFacility": LOG,
    "SyslogName": LOG,
    "SyslogSuccess": LOG,
    "TemporaryDirectory": left_out("no temporary files are written"),
    "TestDNSData": _DEBUG,
    "TestPublicKeys": _DEBUG,
    "TrustAnchorFile": left_out("the resolver validates; aiomilter help dns"),
    "TrustSignaturesFrom": left_out("a signature of another domain than From's decides nothing"),
    "UMask": _mask,
    "UnprotectedKey": left_out("DNSSEC is the resolver's; its results are not told apart"),
    "UserID": SERVICE,
    **{
        f"VBR-{name}": left_out("VBR (RFC 5518) is not offered")
        for name in ("Certifiers", "PurgeFields", "TrustedCertifiers", "TrustedCertifiersOnly", "Type")
    },
    "WeakSyntaxChecks": _NEVER,
    # In its sample file, not in the manual page.
    "SingleAuthResult": left_out("one field has all results"),
    "UnboundConfigFile": _DNS,
}


def known() -> Mapping[str, Rule]:
    """Return the rule of each setting."""
    return _SETTINGS


def finish(gateway: Gateway, given: Collection[str]) -> None:
    """Make keys of what several settings say together, and what holds without any."""
    signing = gateway.signing
    if signing:
        gateway.filter("sign")
    if not {"sign", "authenticate"} & gateway.filters.keys():
        gateway.filter("authenticate")
    if table := signing.get("key_table"):
        gateway.filter("sign")["keys"] = "keys.toml"
        tables = {"key_table": table, "signing_table": signing.get("signing_table", "")}
        gateway.files["keys.toml"] = "[opendkim]\n" + "".join(f'{name} = "{text}"\n' for name, text in tables.items())
    elif signing.get("key"):
        # A selector says which record has the public key: without one nothing can be signed.
        subdomains = {"subdomains": True} if is_yes(signing.get("subdomains", "")) else {}
        key = {"selector": signing.get("selector", "default"), "key": signing["key"], **subdomains}
        gateway.filter("sign")["keys"] = dict.fromkeys(signing.get("domains", ()), key)
    elif "sign" in gateway.filters:
        gateway.do("Give sign its keys: neither KeyFile nor KeyTable was set.")
    if "sign" in gateway.filters:
        gateway.filter("sign").setdefault("when", ["authenticated", "internal"])
