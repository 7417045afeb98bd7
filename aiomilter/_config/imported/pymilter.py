"""Configuration files of programs for pymilter: milter.cfg of bms, spfmilter.cfg, dkim-milter.cfg and pysrs.cfg.

Their settings, as the sample files of the milter package (commit fbe9650) and of pymilter (20751ea) name them.
"""

import re
from collections.abc import Collection, Mapping
from typing import Any, Final

from aiomilter._config.imported import opendkim
from aiomilter._config.imported.gateway import LOG, SERVICE, Gateway, Given, Rule, left_out
from aiomilter._config.imported.reading import hosts, is_yes, socket, words

__all__ = ["finish", "known", "rule_of"]

_CALL_BACK: Final = left_out("strangers' servers are not asked about senders, and no notices are sent to them")
_SPAM: Final = left_out('rspamd or spamd learns and decides: use = "scan"')
_GUESS: Final = left_out("a domain without a record has no result: nothing is guessed")
_PEERS: Final = left_out("a shared store takes the place of peers: [state] store")
_WHOLE_USER: Final = left_out("mail of these users is never dropped for all; copy adds and removes recipients by rule")


def _put(use: str, name: str, value: Any) -> Rule:
    def rule(gateway: Gateway, given: Given) -> None:
        gateway.filter(use)[name] = value

    return rule


def _when_on(rule: Rule) -> Rule:
    return lambda gateway, given: rule(gateway, given) if is_yes(given.value) else None


def _list(use: str, name: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> None:
        gateway.filter(use)[name] = words(given.value)

    return rule


def _networks(name: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> str | None:
        # 127.* and 192.168.*.* are networks, too.
        found = [_network(each) for each in words(given.value)]
        return hosts(gateway, name, given._replace(value=",".join(found)))

    return rule


def _network(text: str) -> str:
    match = re.fullmatch(r"(\d+(?:\.\d+){0,2})((?:\.\*)+)", text)
    if match is None:
        return text
    octets = match[1].split(".")
    return ".".join([*octets, *["0"] * (4 - len(octets))]) + f"/{8 * len(octets)}"


def _own_domains(gateway: Gateway, given: Given) -> None:
    gateway.top["own_domains"] = [each for each in words(given.value) if each != "localhost.localdomain"]
    gateway.filter("access").update(inside_sender="own", own_sender="authenticated")


def _demerits(gateway: Gateway, given: Given) -> str | None:
    if not given.value.isdecimal():
        return "no number"
    gateway.filter("access")["ban"] = {"after": int(given.value), "for": "30d"}
    return None


def _recipients(gateway: Gateway, given: Given) -> str | None:
    table: dict[str, list[str]] = gateway.filter("access").setdefault("recipients", {})
    lists = [each for each in words(given.value) if each.startswith("file:")]
    for each in words(given.value):
        local, at, domain = each.rpartition("@")
        if at:
            table.setdefault(domain, []).append(local)
    return f"put the addresses of {', '.join(lists)} into recipients of access" if lists else None


def _words(field: str, **more: Any) -> Rule:
    def rule(gateway: Gateway, given: Given) -> None:
        found = [each.strip() for each in given.value.split(",") if each.strip()]
        rules = gateway.filter("access").setdefault("rules", [])
        rules.append({"header": field, "words": found, "action": "reject", **more})
        gateway.do("Words of access count whole and in any case; those of bms did so as parts of words, too.")

    return rule


def _not_pass(gateway: Gateway, given: Given) -> None:
    domains = gateway.filter("authenticate").setdefault("domains", {})
    for domain in words(given.value):
        domains.setdefault(domain, {}).update(spf_neutral="reject")


def _softer(gateway: Gateway, given: Given) -> None:
    domains = gateway.filter("authenticate").setdefault("domains", {})
    for domain in words(given.value):
        domains.setdefault(domain, {}).update(spf_fail="note")


def _access_map(gateway: Gateway, given: Given) -> str:
    return "'aiomilter config import' reads the map's source if it is named, too: access:FILE"


def _exception(gateway: Gateway, given: Given) -> str | None:
    answer = {"tempfail": "tempfail", "reject": "reject", "continue": "accept"}.get(given.value.lower())
    if answer is None:
        return f"{given.value} is no answer for failures"
    gateway.table("failure")["on_error"] = answer
    return None


def _signing(name: str) -> Rule:
    def rule(gateway: Gateway, given: Given) -> None:
        gateway.signing[name] = [given.value] if name == "domains" else given.value

    return rule


def _srs_domain(gateway: Gateway, given: Given) -> None:
    gateway.filter("srs")["domain"] = (words(given.value) or [""])[0]


def _srs_secret(gateway: Gateway, given: Given) -> str:
    gateway.filter("srs")["secrets"] = [{"file": "srs.secret"}]
    gateway.do("Write the secret of SRS into srs.secret, which only the service's user may read.")
    return "a secret is not copied; 'secrets' of srs names the file that has it"


def _number(use: str, name: str, unit: str = "") -> Rule:
    def rule(gateway: Gateway, given: Given) -> str | None:
        if not given.value.isdecimal():
            return "no number"
        gateway.filter(use)[name] = f"{int(given.value)}{unit}" if unit else int(given.value)
        return None

    return rule


def _outgoing(gateway: Gateway, given: Given) -> str | None:
    return None if is_yes(given.value) else "srs rewrites what leaves; without that leave the filter out"


def _known(gateway: Gateway, given: Given) -> str:
    gateway.filter("known_senders")["learn_when"] = ["authenticated", "internal"]
    return "recipients of all users are learnt"


def _limited(what: str) -> Rule:
    return left_out(f'use = "attachments": {what}')


_SETTINGS: Final[Mapping[str, Rule]] = {
    "milter.datadir": left_out("[state] store names where state is kept"),
    "milter.socket": socket,
    "milter.socketname": socket,
    "milter.name": SERVICE,
    "milter.umask": opendkim.known()["UMask"],
    "milter.tempdir": left_out("no copies of messages are kept"),
    "milter.timeout": left_out("[deadlines] answer_timeout"),
    "milter.log_headers": LOG,
    "milter.internal_connect": _networks("internal"),
    "milter.internal_domains": _own_domains,
    "milter.trusted_relay": _networks("trusted_relays"),
    "milter.private_relay": _list("access", "inside_only_recipients"),
    "milter.internal_mta": _list("access", "null_sender_from"),
    "milter.hello_blacklist": _list("access", "helo_own"),
    "milter.check_user": _recipients,
    "milter.case_sensitive_localpart": left_out("local parts are compared as they are"),
    "milter.max_demerits": _demerits,
    "milter.untrapped_exception": _exception,
    "milter.best_guess": _GUESS,
    "milter.delegate": left_out("a domain without a record has no result"),
    "defang.scan_rfc822": _limited("nested messages are looked into"),
    "defang.scan_zip": _limited("zip files are looked into"),
    "defang.scan_html": left_out("parts are refused or removed, not rewritten"),
    "defang.block_chinese": _when_on(left_out("rules of access can look for words")),
    "defang.block_forward": left_out("rules of access can look for words, whoever the recipients are"),
    "defang.porn_words": _words("Subject"),
    "defang.spam_words": _words("Subject"),
    "defang.from_words": _words("From"),
    "defang.banned_exts": _limited("extensions = [...]"),
    "srs.config": left_out("name that file, too"),
    "srs.secret": _srs_secret,
    "srs.maxage": _number("srs", "max_age", "d"),
    "srs.hashlength": _number("srs", "hash_length"),
    "srs.database": left_out("addresses are signed, not kept"),
    "srs.ses": left_out("SES is not offered; sign_domains signs by SRS"),
    "srs.sign": _list("srs", "sign_domains"),
    "srs.srs": _list("srs", "reverse_domains"),
    "srs.nosrs": _list("srs", "local_domains"),
    "srs.fwdomain": _srs_domain,
    "srs.reject_spoofed": _when_on(_put("srs", "unsigned_bounce", "reject")),
    "srs.banned_users": _list("srs", "bounce_senders"),
    "srsmilter.datadir": left_out("[state] store names where state is kept"),
    "srsmilter.socketname": socket,
    "srsmilter.miltername": SERVICE,
    "srsmilter.reject_spoofed": _when_on(_put("srs", "unsigned_bounce", "reject")),
    "srsmilter.trusted_relay": _networks("trusted_relays"),
    "srsmilter.internal_connect": _networks("internal"),
    "srsmilter.miltersrs": _outgoing,
    "spf.delegate": left_out("a domain without a record has no result"),
    "spf.reject_neutral": _not_pass,
    "spf.best_guess": _GUESS,
    "spf.reject_noptr": _GUESS,
    "spf.accept_softfail": left_out("softfail is noted, not refused"),
    "spf.accept_fail": _softer,
    "spf.access_file": _access_map,
    "spf.access_file_nulls": left_out("the map's source is read, not the map"),
    "spf.access_file_colon": left_out("the map's source is read, not the map"),
    "spf.supply_sender": left_out("no Sender field is written"),
    "spf.trusted_forwarder": left_out("forwarders are known by their ARC seals: trusted_sealers of authenticate"),
    "scrub.hide_path": left_out("Received fields stay: without them loops cannot be seen"),
    "scrub.reject_virus_from": left_out('use = "scan": on_malware = "reject"'),
    "scrub.internal_policy": _CALL_BACK,
    "wiretap.blind": left_out('use = "copy": copies are always blind, and logged'),
    "wiretap.users": left_out('use = "copy": a rule with sender, to'),
    "wiretap.dest": left_out('use = "copy": a rule with sender, to'),
    "wiretap.discard_users": _WHOLE_USER,
    "wiretap.discard": _WHOLE_USER,
    "wiretap.mail_archive": left_out('use = "copy": a rule that adds the address of an archive'),
    "dspam.whitelist_senders": _known,
    "dspam.whitelist_mx": left_out("a shared store takes its place: [state] store"),
    "gossip.server": _PEERS,
    "gossip.ttl": _PEERS,
    "gossip.peers": _PEERS,
    "greylist.dbfile": left_out("[state] store; 'aiomilter state import' takes over what pymilter's export_csv wrote"),
    "greylist.time": _number("greylist", "delay", "m"),
    "greylist.expire": _number("greylist", "window", "h"),
    "greylist.retain": _number("greylist", "keep", "d"),
    "dkim.privkey": _signing("key"),
    "dkim.selector": _signing("selector"),
    "dkim.domain": _signing("domains"),
}
_SECTIONS: Final[Mapping[str, Rule]] = {
    "smart_alias": left_out('use = "copy": a rule with sender, recipient and instead'),
    "dspam": _SPAM,
    **dict.fromkeys(("loggers", "handlers", "formatters"), LOG),
}
"""What holds for all other keys of a section; their names are the user's own."""


def known() -> Mapping[str, Rule]:
    """Return the rule of each setting, ``section.key``."""
    return _SETTINGS


def rule_of(name: str) -> Rule | None:
    """Return the rule of a setting whose section has names of the user's own."""
    section = name.partition(".")[0]
    return _SECTIONS.get(section) or (LOG if section.startswith(("logger_", "handler_", "formatter_")) else None)


def finish(gateway: Gateway, given: Collection[str]) -> None:
    """Make a key of what several settings say together."""
    if gateway.signing:
        opendkim.finish(gateway, given)
    if {"internal", "trusted_relays"} & gateway.tables.get("networks", {}).keys():
        gateway.filter("authenticate")
