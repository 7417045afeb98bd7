"""Set-ups as data: forty broken ones, each with the finding it must have, and ten sound ones.

``{dir}`` is a directory of the set-up's own, ``{queue}`` its queue directory, ``{port}`` where a filter listens by TCP,
``{free}`` a port where nothing does, ``{web}`` one with something that is not a filter; ``{opendkim}``, ``{opendmarc}``,
``{openarc}`` and ``{spamass}`` are ports of other programs that speak the protocol, ``{programs}`` where their files are.
"""

from dataclasses import dataclass, field
from typing import Final

__all__ = ["BROKEN", "CF", "FILTERS", "SEVERAL", "SOUND", "Setup"]

BOTH: Final = "non_smtpd_milters = $smtpd_milters\n"
INET: Final = "inet:127.0.0.1:{port}"
SMTPD: Final = "smtp inet n - {chroot} - - smtpd\n"
PATIENT: Final = "smtpd_hard_error_limit = 101\n"
CLEANUP: Final = "cleanup unix n - {chroot} - 0 cleanup\npickup unix n - {chroot} 60 1 pickup\n"


@dataclass(frozen=True)
class Setup:
    """A set-up.

    Args:
        finds: The word of the finding; "" for a sound set-up.
        main: Lines of main.cf, behind those that every set-up has.
        master: Lines of master.cf, in place of smtpd, cleanup and pickup.
        chroot: The column of master.cf.
        cf: A sendmail.cf; such a set-up has no Postfix.
        files: More files, by their paths.
        sockets: Sockets that a filter listens at, and their permissions.
        modes: Permissions of directories, made before.
        target: The source of the filter that is named.
        toml: A configuration file that is named.
        warns: Whether the finding is a warning.
        no_mend: Whether there is nothing to write.
    """

    finds: str
    main: str = ""
    master: str = SMTPD + CLEANUP
    chroot: str = "n"
    cf: str = ""
    files: dict[str, str] = field(default_factory=dict)
    sockets: dict[str, int] = field(default_factory=dict)
    modes: dict[str, int] = field(default_factory=dict)
    target: str = ""
    toml: str = ""
    warns: bool = False
    no_mend: bool = False


FILTERS: Final = {
    "plain": "from aiomilter import Milter\n\nclass Plain(Milter):\n    async def eom(self, ctx): ...\n",
    "recipients": "from aiomilter import Milter\n\nclass Recipients(Milter):\n    async def envrcpt(self, ctx, rcpt): ...\n",
    "signer": "from aiomilter import Milter\nfrom aiomilter.auth.dkim import Signer\n\nclass Sign(Milter):\n    by: Signer\n",
    "sealer": "from aiomilter import Milter\nfrom aiomilter.auth.arc import Sealer\n\nclass Seal(Milter):\n    by: Sealer\n",
    "results": "from aiomilter import Milter\nfrom aiomilter.auth import Authenticator\n\nclass Check(Milter):\n"
    "    def check(self, resolver):\n        return Authenticator(resolver, authserv_ids=['mx.example.test'])\n",
    "srs": "from aiomilter import Milter\nfrom aiomilter.mail.srs import Rewriter\n\nclass Srs(Milter):\n    srs: Rewriter\n",
    "nrcpts": "from aiomilter import Milter\n\nclass Count(Milter):\n    async def eom(self, ctx):\n"
    "        ctx.macro('{{nrcpts}}')\n",
    "settings": "from typing import Any\nfrom aiomilter import Milter\n\nclass Set(Milter):\n"
    "    def __init__(self, settings: dict[str, Any]) -> None: ...\n",
    "early": "from aiomilter import Milter, Stage\n\nclass Early(Milter):\n    macros = {{Stage.CONNECT: ('i',)}}\n",
}
CF: Final = """\
V10/Berkeley
O PidFile={dir}/sendmail.pid
O Milter.macros.connect=j, _, {{daemon_name}}, {{if_name}}, {{if_addr}}
O Milter.macros.helo={{tls_version}}, {{cipher}}, {{cipher_bits}}, {{cert_subject}}, {{cert_issuer}}
O Milter.macros.envfrom=i, {{auth_type}}, {{auth_authen}}, {{auth_ssf}}, {{auth_author}}, {{mail_mailer}},
	{{mail_host}}, {{mail_addr}}
O Milter.macros.envrcpt={{rcpt_mailer}}, {{rcpt_host}}, {{rcpt_addr}}
O Milter.macros.eom={{msg_id}}
"""
STICKY: Final = "O DontBlameSendmail=TrustStickyBit\n"
GATEWAY: Final = "O InputMailFilters=gateway\nXgateway, S=inet:{port}@127.0.0.1, F=T, T=C:1m;S:30s;R:30s;E:5m\n"

SEVERAL: Final[dict[str, tuple[Setup, list[str]]]] = {
    "two endpoints of a list, and a setting": (
        Setup(
            "",
            "smtpd_milters = inet:{port}@127.0.0.1, {{ tcp:[::1]:{port6}, timeout=5s, command_timeout=2s }}\n" + BOTH,
        ),
        ["endpoint-unreadable", "endpoint-unreadable", "setting-unknown", "timeout-short"],
    ),
    "of a service": (
        Setup(
            "",
            f"smtpd_milters = {INET}\n{BOTH}",
            master=SMTPD
            + CLEANUP
            + "submission inet n - n - - smtpd -o {{ smtpd_milters = {{ inet:{port}@127.0.0.1, default_action = accept }},"
            " tcp:[::1]:{port6}, inet:[::1]:{port6} }}\n",
        ),
        ["endpoint-unreadable", "endpoint-unreadable", "setting-unknown"],
    ),
    "a blank after inet:": (
        Setup("", "smtpd_milters = inet: 127.0.0.1:{port}\n" + BOTH),
        ["endpoint-unreadable", "endpoint-unreadable"],
    ),
    "of Sendmail": (
        Setup("", cf=CF + "O InputMailFilters=gateway\nXgateway, S=inet:127.0.0.1:{port}, T=R:2s\n"),
        ["endpoint-unreadable", "timeout-short", "filter-skipped"],
    ),
}
"""Set-ups with several mistakes in one place: their findings, in order."""

BROKEN: Final[dict[str, Setup]] = {
    # ------------------------------------------------------------------------------------------ endpoints
    "the other order of port and host": Setup("endpoint-unreadable", "smtpd_milters = inet:{port}@127.0.0.1\n" + BOTH),
    "tcp": Setup("endpoint-unreadable", "smtpd_milters = tcp:127.0.0.1:{port}\n" + BOTH),
    "no kind": Setup("endpoint-unreadable", "port = {port}\nsmtpd_milters = 127.0.0.1:$port\n" + BOTH),
    "a bare path": Setup(
        "endpoint-unreadable",
        "smtpd_milters = inet:127.0.0.1:{port},\n  # the other one\n  {queue}/run/other.sock\n" + BOTH,
        sockets={"{queue}/run/other.sock": 0o666},
    ),
    "inet6 in braces": Setup(
        "endpoint-unreadable", "smtpd_milters = {{ inet6:[::1]:{port6}, default_action=accept }}\n" + BOTH
    ),
    "nothing listens": Setup("nothing-listens", "smtpd_milters = inet:[127.0.0.1]:{free}\n" + BOTH, toml="listen"),
    "a web server": Setup("not-a-filter", "smtpd_milters = inet:127.0.0.1:{web}\n" + BOTH, toml="listen"),
    "the filter is not asked": Setup("not-asked", toml="listen"),
    "a misspelt parameter": Setup("unknown-parameter", "smtpd_milter = inet:127.0.0.1:{port}\n"),
    # -------------------------------------------------------------------------------------------- sockets
    "outside the chroot": Setup(
        "socket-outside-chroot",
        "smtpd_milters = local:{dir}/run/x.sock\n" + BOTH,
        chroot="y",
        sockets={"{dir}/run/x.sock": 0o666},
    ),
    "outside the chroot of old defaults": Setup(
        "socket-outside-chroot",
        "compatibility_level = 0\nsmtpd_milters = unix:{dir}/run/x.sock\n" + BOTH,
        chroot="-",
        sockets={"{dir}/run/x.sock": 0o666},
    ),
    "cleanup alone in a chroot": Setup(
        "socket-outside-chroot",
        "smtpd_milters = unix:{dir}/run/x.sock\n" + BOTH,
        master="smtp inet n - n - - smtpd\n" + CLEANUP,
        chroot="y",
        sockets={"{dir}/run/x.sock": 0o666},
    ),
    "a link that leads out of the chroot": Setup(
        "socket-outside-chroot",
        "smtpd_milters = unix:linked/x.sock\n" + BOTH,
        chroot="y",
        files={"{queue}/linked": "->{dir}/run"},
        sockets={"{dir}/run/x.sock": 0o666},
    ),
    "in the chroot, seen from outside": Setup(
        "socket-elsewhere",
        "smtpd_milters = unix:/run/x.sock\n" + BOTH,
        sockets={"{queue}/run/x.sock": 0o666},
    ),
    "there is no socket": Setup("socket-missing", "smtpd_milters = unix:{dir}/run/none.sock\n" + BOTH, toml="socket"),
    "a file is there": Setup(
        "not-a-socket", "smtpd_milters = unix:run/x.sock\n" + BOTH, files={"{queue}/run/x.sock": ""}, toml="file"
    ),
    "a directory is closed": Setup(
        "directory-closed",
        "smtpd_milters = unix:private-run/x.sock\n" + BOTH,
        sockets={"{queue}/private-run/x.sock": 0o666},
        modes={"{queue}/private-run": 0o700},
    ),
    "the socket is closed": Setup(
        "socket-closed", "smtpd_milters = unix:{dir}/run/x.sock\n" + BOTH, sockets={"{dir}/run/x.sock": 0o600}
    ),
    # ---------------------------------------------------------------------------------------------- lists
    "local mail passes by": Setup("local-mail-unfiltered", f"smtpd_milters = {INET}\n", warns=True),
    "mail by SMTP passes by": Setup("smtp-mail-unfiltered", f"non_smtpd_milters = {INET}\n"),
    "submission asks no filter": Setup(
        "service-unfiltered",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD + CLEANUP + "submission inet n - n - - smtpd\n  -o smtpd_milters=\n",
        warns=True,
    ),
    "no_milters": Setup(
        "service-unfiltered",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD
        + CLEANUP
        + "smtps inet n - n - - smtpd -o receive_override_options=no_milters,no_address_mappings\n",
        warns=True,
    ),
    "clients without filter": Setup(
        "clients-unfiltered",
        f"smtpd_milters = {INET}\n{BOTH}smtpd_milter_maps = cidr:{{dir}}/milter_map\n",
        files={"{dir}/milter_map": "# by client\n192.0.2.0/24 DISABLE\n"},
        warns=True,
    ),
    "a list that is not read": Setup(
        "override-ignored",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD + CLEANUP + "submission inet n - n - - smtpd -o non_smtpd_milters=inet:127.0.0.1:{port}\n",
        warns=True,
    ),
    "the same filter twice": Setup(
        "asked-twice", "ours = inet:localhost:{port}\nsmtpd_milters = inet:127.0.0.1:{port}, $ours\n" + BOTH
    ),
    "back from a content filter": Setup(
        "filtered-twice",
        f"smtpd_milters = {INET}\n{BOTH}content_filter = smtp:[127.0.0.1]:10024\n",
        master=SMTPD + CLEANUP + "127.0.0.1:10025 inet n - n - - smtpd -o content_filter=\n",
        warns=True,
    ),
    "few errors": Setup("hard-error-limit", f"smtpd_milters = {INET}\n{BOTH}", target="recipients", warns=True),
    "aliases lead outside": Setup(
        "aliases-lead-outside",
        f"smtpd_milters = {INET}\n{BOTH}virtual_alias_maps = texthash:{{dir}}/aliases\n",
        files={
            "{dir}/aliases": "postmaster@example.test root@mx.example.test\nbob@example.test bob@elsewhere.example\n"
        },
        target="srs",
        warns=True,
        no_mend=True,
    ),
    "a socket of the chroot by its whole path": Setup(
        "socket-elsewhere",
        "smtpd_milters = unix:{queue}/run/x.sock\n" + BOTH,
        chroot="y",
        sockets={"{queue}/run/x.sock": 0o666},
    ),
    "a client by a map": Setup(
        "clients-unfiltered",
        f"smtpd_milters = {INET}\n{BOTH}smtpd_milter_maps = inline:{{{{ 192.0.2.1=DISABLE }}}}\n",
        warns=True,
    ),
    "the other list is misspelt": Setup(
        "unknown-parameter", f"smtpd_milters = {INET}\nnon_smtp_milters = $smtpd_milters\n"
    ),
    "a misspelt timeout": Setup("unknown-parameter", f"smtpd_milters = {INET}\n{BOTH}milter_comand_timeout = 60s\n"),
    "a misspelt parameter of a service": Setup(
        "unknown-parameter",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD + CLEANUP + "127.0.0.1:25 inet n - n - - smtpd\n  -o smtpd_milter=\n",
    ),
    "clients by rules in main.cf": Setup(
        "clients-unfiltered",
        f"smtpd_milters = {INET}\n{BOTH}"
        "smtpd_milter_maps = cidr:{{ {{192.0.2.0/24 DISABLE}}, {{ 198.51.100.1 inet:127.0.0.1:{port} }} }}\n",
        warns=True,
    ),
    "another endpoint by a map in main.cf": Setup(
        "endpoint-unreadable",
        f"smtpd_milters = {INET}\n{BOTH}smtpd_milter_maps = inline:{{{{ 192.0.2.1=tcp:127.0.0.1:{{port}} }}}}\n",
    ),
    # -------------------------------------------------------------------------------------------- failure
    "an action that is none": Setup(
        "default-action-unknown", f"smtpd_milters = {INET}\n{BOTH}milter_default_action = defer\n"
    ),
    "an action that is none, of a service": Setup(
        "default-action-unknown",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD + CLEANUP + "submission inet n - n - - smtpd\n  -o milter_default_action=defer\n",
    ),
    "a signer is skipped": Setup(
        "signer-skipped",
        "smtpd_milters = {{ inet:127.0.0.1:{port}, default_action=accept }}\n" + BOTH,
        target="signer",
        warns=True,
    ),
    "mail bounces": Setup(
        "mail-bounces", f"smtpd_milters = {INET}\n{BOTH}milter_default_action = reject\n", warns=True
    ),
    "a setting that is none": Setup(
        "setting-unknown", "smtpd_milters = {{ inet:127.0.0.1:{port}, timeout=30s }}\n" + BOTH
    ),
    "blanks in a setting": Setup(
        "setting-unknown", "smtpd_milters = {{ inet:127.0.0.1:{port}, command_timeout = 40s }}\n" + BOTH
    ),
    # ------------------------------------------------------------------------------------------- timeouts
    "an old protocol": Setup("protocol-old", f"smtpd_milters = {INET}\n{BOTH}milter_protocol = 2\n", warns=True),
    "another name of Postfix": Setup(
        "progress-impossible", f"smtpd_milters = {INET}\n{BOTH}milter_macro_v = Mailer 1.0\n", warns=True
    ),
    "no v": Setup(
        "progress-impossible",
        f"smtpd_milters = {INET}\n{BOTH}milter_connect_macros = j {{{{daemon_name}}}} {{{{daemon_addr}}}} _\n",
        warns=True,
    ),
    "a short timeout": Setup(
        "timeout-short", "smtpd_milters = {{ inet:127.0.0.1:{port}, command_timeout=5s }}\n" + BOTH
    ),
    "a timeout that is none": Setup(
        "timeout-unreadable", "smtpd_milters = {{inet:127.0.0.1:{port},content_timeout=5min}}\n" + BOTH
    ),
    "a time for connections that is none": Setup(
        "timeout-unreadable", "smtpd_milters = {{inet:127.0.0.1:{port},connect_timeout=soon}}\n" + BOTH
    ),
    "no time for connections": Setup(
        "timeout-unreadable", f"smtpd_milters = {INET}\n{BOTH}milter_connect_timeout = 0s\n"
    ),
    "a version that is none": Setup("protocol-old", f"smtpd_milters = {INET}\n{BOTH}milter_protocol = 5\n"),
    # --------------------------------------------------------------------------------------------- macros
    "a macro that Postfix lacks": Setup(
        "macro-never-sent", f"smtpd_milters = {INET}\n{BOTH}", target="nrcpts", warns=True, no_mend=True
    ),
    "a macro that Postfix has later": Setup(
        "macro-never-sent", f"smtpd_milters = {INET}\n{BOTH}", target="early", warns=True, no_mend=True
    ),
    "a short list of macros": Setup(
        "macro-list-short", f"smtpd_milters = {INET}\n{BOTH}milter_mail_macros = {{{{auth_authen}}}}\n", warns=True
    ),
    "a short list of a service": Setup(
        "macro-list-short",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD + CLEANUP + "submission inet n - n - - smtpd -o milter_mail_macros=i,{{{{auth_authen}}}}\n",
        warns=True,
    ),
    # ---------------------------------------------------------------------------------------------- others
    "OpenDMARC comes first": Setup(
        "order",
        "smtpd_milters = inet:127.0.0.1:{opendmarc}, inet:127.0.0.1:{opendkim}\n" + BOTH,
        warns=True,
    ),
    "an editor comes after OpenDKIM": Setup(
        "order", "smtpd_milters = inet:127.0.0.1:{opendkim}, inet:127.0.0.1:{spamass}\n" + BOTH, warns=True
    ),
    "ours signs before an editor": Setup(
        "order",
        "smtpd_milters = inet:127.0.0.1:{port}, inet:127.0.0.1:{spamass}\n" + BOTH,
        target="signer",
        warns=True,
    ),
    "ours edits after a signer": Setup(
        "order",
        "smtpd_milters = inet:127.0.0.1:{opendkim} {{ inet:127.0.0.1:{port}, default_action=accept }}\n" + BOTH,
        files={"{programs}/opendkim.conf": "KeyTable /x\nSigningTable /y\n", "{dir}/banner.txt": "x"},
        toml="banner",
        warns=True,
    ),
    "ours verifies after an editor": Setup(
        "order",
        "smtpd_milters = inet:127.0.0.1:{spamass} inet:127.0.0.1:{port}\n" + BOTH + PATIENT,
        toml="auth",
        warns=True,
    ),
    "the seal comes before a signature": Setup(
        "order",
        "smtpd_milters = inet:127.0.0.1:{openarc} inet:127.0.0.1:{port}\n" + BOTH,
        target="signer",
        warns=True,
    ),
    "ours seals before OpenDKIM signs": Setup(
        "order",
        "smtpd_milters = inet:127.0.0.1:{port} inet:127.0.0.1:{opendkim}\n" + BOTH,
        files={"{programs}/opendkim.conf": "KeyFile /x\nDomain example.test\n"},
        target="sealer",
        warns=True,
    ),
    "two signers": Setup(
        "signed-twice",
        "smtpd_milters = inet:127.0.0.1:{opendkim} inet:127.0.0.1:{port}\n" + BOTH,
        files={"{programs}/opendkim.conf": "# both\nMode\tsv\nKeyTable /x\nSigningTable /y\n"},
        target="signer",
        warns=True,
    ),
    "two signers, and nothing to verify": Setup(
        "signed-twice",
        "smtpd_milters = inet:127.0.0.1:{opendkim} inet:127.0.0.1:{port}\n" + BOTH,
        files={"{programs}/opendkim.conf": "Mode s\nKeyTable /x\nSigningTable /y\n"},
        target="signer",
        warns=True,
    ),
    "OpenDKIM writes results by our name": Setup(
        "authserv-id-shared",
        f"smtpd_milters = inet:127.0.0.1:{{opendkim}} {INET}\n{BOTH}{PATIENT}",
        files={"{programs}/opendkim.conf": "AuthservID MX.example.test # ours\n"},
        toml="auth",
        warns=True,
    ),
    "OpenDKIM signs, and writes results by the MTA's name": Setup(
        "authserv-id-shared",
        f"smtpd_milters = {INET} inet:127.0.0.1:{{opendkim}}\n{BOTH}{PATIENT}",
        files={"{programs}/opendkim.conf": "KeyTable /x\nSigningTable /y\n"},
        toml="auth",
        warns=True,
    ),
    "OpenDMARC writes results by our name": Setup(
        "authserv-id-shared",
        f"smtpd_milters = {INET} inet:127.0.0.1:{{opendmarc}}\n{BOTH}",
        files={"{programs}/opendmarc.conf": "TrustedAuthservIDs other.example\n"},
        target="results",
        warns=True,
    ),
    "open to all": Setup("reachable-by-all", f"smtpd_milters = {INET}\n{BOTH}", toml="all", warns=True),
    "Redis is away": Setup(
        "backend-away", f"smtpd_milters = {INET}\n{BOTH}", toml="settings", target="settings", no_mend=True
    ),
    "clamd is away": Setup("backend-away", f"smtpd_milters = {INET}\n{BOTH}", toml="scan", no_mend=True),
    "no clamd": Setup("backend-confused", f"smtpd_milters = {INET}\n{BOTH}", toml="no clamd", no_mend=True),
    "Redis of the state is away": Setup(
        "backend-away", f"smtpd_milters = {INET}\n{BOTH}{PATIENT}", toml="redis", no_mend=True
    ),
    "no directory for the state": Setup("backend-away", f"smtpd_milters = {INET}\n{BOTH}{PATIENT}", toml="sqlite"),
    "no space": Setup("space-low", f"smtpd_milters = {INET}\n{BOTH}queue_minfree = 9000000000000000\n"),
    # ------------------------------------------------------------------------------------------- Sendmail
    "Sendmail: Postfix's order": Setup(
        "endpoint-unreadable", cf=CF + GATEWAY.replace("{port}@127.0.0.1", "127.0.0.1:{port}")
    ),
    "Sendmail: no F=": Setup("filter-skipped", cf=CF + GATEWAY.replace("F=T, ", ""), warns=True),
    "Sendmail: not listed": Setup("not-asked", cf=CF + GATEWAY.partition("\n")[2]),
    "Sendmail: impatient": Setup("timeout-short", cf=CF + GATEWAY.replace("R:30s", "R:5s")),
    "Sendmail: a directory that others write to": Setup(
        "directory-unsafe",
        cf=CF + STICKY + GATEWAY.replace("inet:{port}@127.0.0.1", "local:{dir}/run/x.sock"),
        sockets={"{dir}/run/x.sock": 0o666},
        modes={"{dir}/run": 0o775},
    ),
    "Sendmail: a short list of macros": Setup(
        "macro-list-short",
        cf=CF.replace("envfrom=i, {{auth_type}},", "envfrom={{auth_type}},\n\t") + GATEWAY,
        warns=True,
    ),
}

SOUND: Final[dict[str, Setup]] = {
    "TCP": Setup("", f"smtpd_milters = {INET}\n{BOTH}"),
    "a socket in the chroot": Setup(
        "", "smtpd_milters = unix:/run/x.sock\n" + BOTH, chroot="y", sockets={"{queue}/run/x.sock": 0o666}
    ),
    "a relative path": Setup(
        "",
        "smtpd_milters = local:run/x.sock\n" + BOTH,
        master="smtp inet n - y - - smtpd\n" + CLEANUP,
        sockets={"{queue}/run/x.sock": 0o666},
    ),
    "an absolute path without chroot": Setup(
        "", "smtpd_milters = unix:{dir}/run/x.sock\n" + BOTH, sockets={"{dir}/run/x.sock": 0o666}
    ),
    "a port alone": Setup("", "smtpd_milters = inet:{port}\n" + BOTH),
    "IPv6, braces, and settings": Setup(
        "",
        "smtpd_milters = {{ inet:[::1]:{port6}, default_action=accept, {{ command_timeout = 40s }} }}\n" + BOTH,
        target="plain",
    ),
    "variables": Setup("", "host = 127.0.0.1\nours = inet:$host:{port}\nsmtpd_milters = ${{ours}}\n" + BOTH),
    "one list is empty on purpose": Setup("", f"smtpd_milters = {INET}\nnon_smtpd_milters =\n"),
    "submission has its own": Setup(
        "",
        f"smtpd_milters = {INET}\n{BOTH}",
        master=SMTPD
        + CLEANUP
        + "submission inet n - n - - smtpd -o {{ smtpd_milters = {{ inet:127.0.0.1:{port}, default_action=accept }} }}\n"
        + "127.0.0.1:10025 inet n - n - - smtpd -o content_filter= -o smtpd_milters=\n",
    ),
    "verifier, evaluator, and ours": Setup(
        "",
        "smtpd_milters = inet:127.0.0.1:{opendkim} inet:127.0.0.1:{opendmarc} inet:127.0.0.1:{port}\n" + BOTH,
    ),
    "others write results by other names": Setup(
        "",
        f"smtpd_milters = inet:127.0.0.1:{{opendkim}} inet:127.0.0.1:{{opendmarc}} {INET}\n{BOTH}{PATIENT}",
        files={
            "{programs}/opendkim.conf": "AuthservID HOSTNAME\n",
            "{programs}/opendmarc.conf": "AuthservID dmarc.example.test\n",
        },
        toml="auth",
    ),
    "ours edits, and OpenDKIM before it has no key": Setup(
        "",
        f"smtpd_milters = inet:127.0.0.1:{{opendkim}} {INET}\n{BOTH}",
        files={"{programs}/opendkim.conf": "AutoRestart yes\n", "{dir}/banner.txt": "x"},
        toml="banner",
    ),
    "an editor, a signer, and the seal": Setup(
        "",
        f"smtpd_milters = inet:127.0.0.1:{{spamass}} {INET} inet:127.0.0.1:{{openarc}}\n{BOTH}",
        target="signer",
    ),
    "state in a file that is not there yet": Setup("", f"smtpd_milters = {INET}\n{BOTH}{PATIENT}", toml="fresh"),
    "a configuration file": Setup("", f"smtpd_milters = {INET}\n{BOTH}", toml="listen"),
    "Sendmail": Setup("", cf=CF + GATEWAY),
    "Sendmail, a socket": Setup(
        "",
        cf=CF + STICKY + GATEWAY.replace("S=inet:{port}@127.0.0.1, F=T, ", "\n\tS=local:{dir}/run/x.sock,\n\tF=4, "),
        sockets={"{dir}/run/x.sock": 0o600},
        modes={"{dir}/run": 0o755},
    ),
}
