"""Other programs' settings: each of their names is translated or listed, and what comes of a file is what it asks for."""

import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Final

import pytest

from aiomilter import filters
from aiomilter._cli import main
from aiomilter._config.imported import PROGRAMS, program_of, take_over
from aiomilter._config.imported.gateway import Gateway, Given
from aiomilter._config.imported.reading import MAX_SIZE, ini
from aiomilter.compose.conditions import stage_of
from aiomilter.filters.access_rules import AccessRule
from aiomilter.filters.copy import CopyRule
from tests.auth.dkim.made import key
from tests.programs import needed

# Names of Debian 12's manual pages opendkim.conf(5), opendmarc.conf(5), policyd-spf.conf(5) and /etc/default/postsrsd, and of
# the sample files of bms, spfmilter, dkim-milter and pysrs.
NAMES: Final[Mapping[str, str]] = {
    "opendkim": """
    AllowSHA1Only AlwaysAddARHeader AuthservID AuthservIDWithJobID AutoRestart AutoRestartCount
    AutoRestartRate Background BaseDirectory BodyLengthDB BogusKey CaptureUnknownErrors Canonicalization
    ChangeRootDirectory ClockDrift Diagnostics DiagnosticDirectory DisableCryptoInit DNSConnect DNSTimeout
    Domain DomainKeysCompat DontSignMailTo EnableCoredumps ExemptDomains ExternalIgnoreList FinalPolicyScript
    FixCRLF IdentityHeader IdentityHeaderRemove IgnoreMalformedMail Include InternalHosts KeepAuthResults
    KeepTemporaryFiles KeyFile KeyTable LDAPAuthMechanism LDAPAuthName LDAPAuthRealm LDAPAuthUser
    LDAPBindPassword LDAPBindUser LDAPDisableCache LDAPKeepaliveIdle LDAPKeepaliveInterval LDAPKeepaliveProbes
    LDAPTimeout LDAPUseTLS LogResults LogWhy MacroList MaximumHeaders MaximumSignaturesToVerify
    MaximumSignedBytes MilterDebug Minimum MinimumKeyBits Mode MTA MTACommand MultipleSignatures MustBeSigned
    Nameservers NoHeaderB OmitHeaders On-BadSignature On-Default On-DNSError On-InternalError On-KeyNotFound
    On-NoSignature On-Security On-SignatureError OversignHeaders PeerList PidFile POPDBFile Quarantine
    QueryCache RedirectFailuresTo RemoveARAll RemoveARFrom RemoveOldSignatures ReplaceHeaders ReplaceRules
    ReportAddress ReportBccAddress RequestReports RequiredHeaders RequireSafeKeys ResignAll ResignMailTo
    ResolverConfiguration ResolverTracing ScreenPolicyScript SelectCanonicalizationHeader Selector
    SenderHeaders SenderMacro SendReports SetupPolicyScript SignatureAlgorithm SignatureTTL SignHeaders
    SigningTable SMTPURI Socket SoftStart SoftwareHeader Statistics StatisticsName StatisticsPolicyScript
    StatisticsPrefix StrictHeaders StrictTestMode SubDomains Syslog SyslogFacility SyslogName SyslogSuccess
    TemporaryDirectory TestDNSData TestPublicKeys TrustAnchorFile TrustSignaturesFrom UMask UnprotectedKey
    UserID VBR-Certifiers VBR-PurgeFields VBR-TrustedCertifiers VBR-TrustedCertifiersOnly VBR-Type
    WeakSyntaxChecks
    """,
    "opendmarc": """
    AuthservID AuthservIDWithJobID AutoRestart AutoRestartCount AutoRestartRate Background BaseDirectory
    ChangeRootDirectory CopyFailuresTo DomainWhitelist DomainWhitelistFile DomainWhitelistSize DNSTimeout
    EnableCoredumps FailureReports FailureReportsBcc FailureReportsOnNone FailureReportsSentBy HistoryFile
    HoldQuarantinedMessages IgnoreAuthenticatedClients IgnoreHosts IgnoreMailFrom IgnoreMailTo MilterDebug
    PidFile PublicSuffixList RecordAllMessages RejectFailures RejectMultiValueFrom RejectString ReportCommand
    RequiredHeaders Socket SoftwareHeader SPFIgnoreResults SPFSelfValidate Syslog SyslogFacility
    TrustedAuthservIDs UMask UserID
    """,
    "policyd-spf": """
    debugLevel TestOnly HELO_reject HELO_pass_restriction Mail_From_reject Mail_From_pass_restriction No_Mail
    Reject_Not_Pass_Domains PermError_reject TempError_Defer Prospective skip_addresses Whitelist
    HELO_Whitelist Domain_Whitelist Domain_Whitelist_PTR SPF_Enhanced_Status_Codes Header_Type Hide_Receiver
    Authserv_Id Lookup_Time Whitelist_Lookup_Time Void_Limit Mock QueueID Reason_Message Socket PidFile UserID
    UMask InternalHosts MacroList MacroListVerify
    """,
    "postsrsd": """
    SRS_DOMAIN SRS_EXCLUDE_DOMAINS SRS_SEPARATOR SRS_SECRET SRS_HASHLENGTH SRS_HASHMIN SRS_FORWARD_PORT
    SRS_REVERSE_PORT RUN_AS SRS_LISTEN_ADDR CHROOT SRS_EXTRA_OPTIONS
    """,
    "pymilter": """
    milter.datadir milter.socket milter.tempdir milter.timeout milter.log_headers milter.internal_connect
    milter.internal_domains milter.trusted_relay milter.private_relay milter.internal_mta
    milter.hello_blacklist milter.check_user milter.case_sensitive_localpart milter.max_demerits
    defang.scan_rfc822 defang.scan_zip defang.scan_html defang.block_chinese defang.block_forward
    defang.porn_words defang.spam_words defang.from_words defang.banned_exts srs.config srs.secret srs.maxage
    srs.hashlength srs.database srs.fwdomain srs.reject_spoofed srs.banned_users spf.delegate
    spf.reject_neutral spf.best_guess spf.reject_noptr spf.accept_softfail spf.accept_fail spf.access_file
    spf.supply_sender spf.trusted_forwarder scrub.hide_path scrub.reject_virus_from scrub.internal_policy
    wiretap.blind wiretap.users wiretap.dest wiretap.discard_users wiretap.mail_archive smart_alias.spy1
    dspam.dspam_dict dspam.whitelist_senders dspam.whitelist_mx dspam.dspam_exempt dspam.dspam_userdir
    dspam.david gossip.server gossip.ttl gossip.peers greylist.dbfile greylist.time greylist.expire
    greylist.retain milter.socketname milter.umask milter.name milter.best_guess milter.delegate
    milter.untrapped_exception spf.access_file_nulls dkim.privkey dkim.selector dkim.domain loggers.keys
    handler_fileHandler.class formatter_milterFormatter.format logger_root.level srs.ses srs.sign srs.srs
    srs.nosrs srsmilter.datadir srsmilter.socketname srsmilter.miltername srsmilter.reject_spoofed
    srsmilter.trusted_relay srsmilter.internal_connect srsmilter.miltersrs
    """,
    "access": "SPF-Fail:bad.example SPF-None HELO-Softfail:a.example DKIM-Fail:b.example SMTP-Auth:joe@c.example Connect:d",
}

VALUES: Final = (
    "yes",
    "no",
    "",
    "1",
    "0",
    "example.com",
    "reject",
    "/nonexistent",
    "csl:a,b",
    "refile:/nonexistent",
    "-1",
    "é\x00",
)
FILES: Final = {"opendkim": "opendkim.conf", "opendmarc": "opendmarc.conf", "policyd-spf": "policyd-spf.conf"}


def taken(program: str, text: str, folder: Path) -> Gateway:
    """Take over one file."""
    path = folder / "settings"
    path.write_text(text)
    return take_over([(program, str(path))])


@pytest.mark.parametrize(
    ("program", "name"), [(program, name) for program, names in NAMES.items() for name in names.split()]
)
def test_each_setting_has_a_rule_that_takes_any_value(program: str, name: str) -> None:
    reads = PROGRAMS[program]
    rule = reads.known().get(name) or reads.rule_of(name)
    assert rule is not None
    for value in VALUES if program != "access" else ("OK", "REJECT", "CBV x", "WHITELIST", "550 no"):
        gateway = Gateway()
        why = rule(gateway, Given("settings", 1, name, value))
        assert why is None or why
        reads.finish(gateway, {name})
        assert gateway.text()


@pytest.mark.parametrize("program", sorted(set(PROGRAMS) - {"access"}))
def test_advice_names_settings_and_words_that_exist(program: str) -> None:
    of_filters = {name: {each.name for each in fields(getattr(filters, cls))} for name, cls in filters.NAMES.items()}
    known = set[str]().union({"when", "unless"}, *of_filters.values()) | {
        each.name for each in (*fields(AccessRule), *fields(CopyRule))
    }
    for name, rule in PROGRAMS[program].known().items():
        why = rule(Gateway(), Given("settings", 1, name, "example.com")) or ""
        assert set(re.findall(r'(\w+) = ["\[]', why)) <= known | {"use", "level"}, name
        for setting, owner in re.findall(r"(\w+) of (\w+)", why):
            assert owner not in of_filters or setting in of_filters[owner] | {"rule", "rules"}, name
        for word in re.findall(r'(?:when|unless) = "([^"]+)"', why):
            assert stage_of(word) is not None, name
        for argument in re.findall(r"\S*\bFILE\b\S*", why):
            assert argument.partition(":")[0] in PROGRAMS, name


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_rule_is_that_of_a_setting(program: str) -> None:
    """A misspelt one would never be asked."""
    extra = {
        "opendkim": {"SingleAuthResult", "UnboundConfigFile"},
        "pymilter": {"spf.access_file_colon", "wiretap.discard"},
    }
    assert PROGRAMS[program].known().keys() - extra.get(program, set()) <= set(NAMES[program].split())


def test_a_file_of_opendkim(tmp_path: Path) -> None:
    gateway = taken(
        "opendkim",
        """
# comment
Domain\t\texample.com, example.org
KeyFile /etc/dkimkeys/example.private   # its key
selector 2020
SubDomains yes
Socket local:/run/opendkim/opendkim.sock
InternalHosts 127.0.0.1,[192.0.2.0/24],!192.0.2.7
OversignHeaders From
On-InternalError accept
SignatureTTL 86400
UMask 007
KeyTabel x
LogWhy yes
""",
        tmp_path,
    )
    assert gateway.top == {"listen": ["unix:/run/aiomilter/gateway.sock"]}
    assert gateway.tables == {
        "networks": {"internal": ["127.0.0.1", "192.0.2.0/24"]},
        "failure": {"on_error": "accept"},
        "socket": {"mode": "0660"},
    }
    key = {"selector": "2020", "key": "/etc/dkimkeys/example.private", "subdomains": True}
    keys = {"example.com": key, "example.org": key}
    assert gateway.filters == {
        "sign": {"oversign": ["From"], "expire": "86400 s", "keys": keys, "when": ["authenticated", "internal"]}
    }
    assert gateway.to_do == [
        "In smtpd_milters put unix:/run/aiomilter/gateway.sock in place of unix:/run/opendkim/opendkim.sock."
    ]
    assert [(left.given.line, left.given.name, left.why) for left in gateway.left] == [
        (8, "InternalHosts", "[networks] takes no names and no exceptions: !192.0.2.7"),
        (13, "KeyTabel", "opendkim has no such setting; did you mean KeyTable?"),
        (14, "LogWhy", "the log has it; aiomilter help log"),
    ]


def test_key_tables_of_opendkim_stay_as_they_are_beside_the_file(tmp_path: Path) -> None:
    text = "Mode s\nKeyTable /etc/opendkim/KeyTable\nSigningTable refile:/etc/opendkim/SigningTable\n"
    gateway = taken("opendkim", text, tmp_path)
    assert gateway.filters["sign"]["keys"] == "keys.toml"
    assert gateway.files == {
        "keys.toml": '[opendkim]\nkey_table = "/etc/opendkim/KeyTable"\n'
        'signing_table = "refile:/etc/opendkim/SigningTable"\n'
    }
    assert "authenticate" not in gateway.filters


def test_lists_in_files_are_read_from_there(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("# ours\n127.0.0.1\n10.0.0.0/8  # a network\nlocalhost\n")
    (tmp_path / "more").write_text("SignatureTTL 60\n")
    gateway = taken("opendkim", f"InternalHosts refile:{tmp_path}/hosts\nInclude {tmp_path}/more\n", tmp_path)
    assert gateway.tables["networks"] == {"internal": ["127.0.0.1", "10.0.0.0/8"]}
    assert gateway.filters["sign"]["expire"] == "60 s"
    assert gateway.left == []


def test_a_file_that_includes_itself_ends(tmp_path: Path) -> None:
    gateway = taken("opendkim", f"Include {tmp_path}/settings\n", tmp_path)
    assert [left.given.name for left in gateway.left] == ["Include"]


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("", {"dmarc": "report"}),
        ("RejectFailures true", {"dmarc": "enforce"}),
        ("RejectFailures true\nHoldQuarantinedMessages 1", {"dmarc": "enforce", "dmarc_quarantine": "quarantine"}),
        ("DomainWhitelist a.example, b.example", {"dmarc": "report", "trusted_sealers": ["a.example", "b.example"]}),
    ],
)
def test_files_of_opendmarc(text: str, settings: dict[str, object], tmp_path: Path) -> None:
    assert taken("opendmarc", text, tmp_path).filters == {"authenticate": settings}


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        # What holds without a word.
        (
            "",
            {
                "helo_spf_fail": "reject",
                "helo_spf_softfail": "reject",
                "helo_spf_neutral": "reject",
                "spf_fail": "reject",
            },
        ),
        ("HELO_reject = False\nMail_From_reject = Softfail", {"spf_fail": "reject", "spf_softfail": "reject"}),
        ("HELO_reject = No_Check\nMail_From_reject = No_Check\nTempError_Defer = True", {"spf_temperror": "tempfail"}),
        ("HELO_reject=False\nMail_From_reject=False\nPermError_reject = True", {"spf_permerror": "reject"}),
        ("HELO_reject=Null\nMail_From_reject=False\nHeader_Type = SPF", {"received_spf": True}),
        ("HELO_reject=Null\nMail_From_reject=False\nTestOnly = 0", {"shadow": True}),
        (
            "HELO_reject=False\nMail_From_reject=False\nReject_Not_Pass_Domains = a.example,b.example",
            {
                "domains": {
                    name: {"spf_softfail": "reject", "spf_neutral": "reject"} for name in ("a.example", "b.example")
                }
            },
        ),
    ],
)
def test_files_of_policyd_spf(text: str, settings: dict[str, object], tmp_path: Path) -> None:
    assert taken("policyd-spf", text, tmp_path).filters == {"authenticate": {**settings, "dmarc": "report"}}


def test_the_networks_of_policyd_spf_are_internal(tmp_path: Path) -> None:
    gateway = taken("policyd-spf", "skip_addresses = 127.0.0.0/8,::ffff:127.0.0.0/104,::1", tmp_path)
    assert gateway.tables["networks"] == {"internal": ["127.0.0.0/8", "::1"]}
    assert gateway.left == []


def test_a_file_of_postsrsd(tmp_path: Path) -> None:
    text = "SRS_DOMAIN=fwd.example.net\nSRS_EXCLUDE_DOMAINS=.example.com,example.org\nSRS_SECRET='/etc/my secret'\n"
    gateway = taken(
        "postsrsd", text + "SRS_SEPARATOR=+\nSRS_HASHLENGTH=6\nSRS_HASHMIN=4\nSRS_EXTRA_OPTIONS=-A\n", tmp_path
    )
    assert gateway.filters["srs"] == {
        "domain": "fwd.example.net",
        "local_domains": ["example.com", "example.org"],
        "secrets": [{"file": "/etc/my secret"}],
        "hash_length": 6,
    }
    assert [left.given.name for left in gateway.left] == [
        "SRS_EXCLUDE_DOMAINS",
        "SRS_SEPARATOR",
        "SRS_HASHMIN",
        "SRS_EXTRA_OPTIONS",
    ]


def test_a_file_of_bms(tmp_path: Path) -> None:
    gateway = taken(
        "pymilter",
        """
[milter]
socket=/var/run/milter/pythonsock
internal_connect = 192.168.0.0/16,127.*,10.1.*.*,mail.example.com
internal_domains = corp.example,localhost.localdomain
trusted_relay = 198.51.100.7
hello_blacklist = corp.example, 192.0.2.1
check_user = joe@branch.example, mary@branch.example, file:users
max_demerits = 3
[defang]
porn_words = rolex, diet pill,
    watches
[spf]
reject_neutral = aol.example
accept_fail = screwed.example
[srs]
secret="shhhh!"
fwdomain = fwd.corp.example
[smart_alias]
copy1 = a@b.example,c@d.example
[greylist]
time=5
expire=6
retain=36
""",
        tmp_path,
    )
    assert gateway.tables["networks"] == {
        "internal": ["192.168.0.0/16", "127.0.0.0/8", "10.1.0.0/16"],
        "trusted_relays": ["198.51.100.7"],
    }
    assert gateway.top["own_domains"] == ["corp.example"]
    assert gateway.filters == {
        "access": {
            "inside_sender": "own",
            "own_sender": "authenticated",
            "helo_own": ["corp.example", "192.0.2.1"],
            "recipients": {"branch.example": ["joe", "mary"]},
            "ban": {"after": 3, "for": "30d"},
            "rules": [{"header": "Subject", "words": ["rolex", "diet pill", "watches"], "action": "reject"}],
        },
        "authenticate": {
            "domains": {"aol.example": {"spf_neutral": "reject"}, "screwed.example": {"spf_fail": "note"}}
        },
        "srs": {"secrets": [{"file": "srs.secret"}], "domain": "fwd.corp.example"},
        "greylist": {"delay": "5m", "window": "6h", "keep": "36d"},
    }
    assert "shhhh" not in gateway.text()
    assert {left.given.name for left in gateway.left} >= {"smart_alias.copy1", "milter.check_user", "srs.secret"}


def test_an_access_map(tmp_path: Path) -> None:
    gateway = taken(
        "access",
        "# policy\nSPF-Fail:bad.example\tREJECT\nSPF-Neutral: OK\nHELO-Fail:c.example BAN\nSPF-Softfail DSN\n"
        "SPF-Pass:d.example WHITELIST\nSMTP-Auth:joe@corp.example OK\nConnect:192.0.2 RELAY\n",
        tmp_path,
    )
    assert gateway.filters == {
        "authenticate": {
            "domains": {"bad.example": {"spf_fail": "reject"}, "c.example": {"helo_spf_fail": "reject"}},
            "spf_neutral": "note",
            "spf_softfail": "note",
        },
        "access": {"login_sender": {"joe": ["corp.example"]}},
    }
    assert [left.given.name for left in gateway.left] == ["SPF-Softfail", "SPF-Pass:d.example", "Connect:192.0.2"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_file_of_anything_raises_nothing_but_what_the_command_shows(program: str, tmp_path: Path) -> None:
    path = tmp_path / "settings"
    for octets in (b"\xff\xfe\x00", b"[a]\nb", b"=\n= x\n'", b"a b\x1b[2J c\n" * 100, b"x" * (MAX_SIZE + 1)):
        path.write_bytes(octets)
        with suppress(ValueError):
            assert all(line.isprintable() for line in take_over([(program, str(path))]).text().split("\n"))


@pytest.mark.parametrize(
    ("name", "program"),
    [
        ("opendkim.conf", "opendkim"),
        ("pyspf-milter.conf", "policyd-spf"),
        ("milter.cfg", "pymilter"),
        ("other.conf", None),
    ],
)
def test_a_program_is_known_by_the_name_of_its_file(name: str, program: str | None) -> None:
    assert program_of(f"/etc/x/{name}") == program


@pytest.mark.interop
@pytest.mark.parametrize("name", ["/etc/opendkim.conf", "/etc/opendmarc.conf", "/etc/default/postsrsd"])
def test_the_files_of_debians_packages_are_understood(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    needed({"opendkim.conf": "opendkim", "opendmarc.conf": "opendmarc", "postsrsd": "postsrsd"}[Path(name).name], "")
    assert main(["config", "import", name]) == 0
    assert "no such setting" not in capsys.readouterr().out


TAKEN: Final[Mapping[str, str]] = {
    "opendkim": "Domain example.com\nKeyFile example.private\nSelector 2020\nSubDomains yes\nInternalHosts 192.0.2.0/24\n"
    "OversignHeaders From\nSignatureTTL 86400\nMinimumKeyBits 1024\nUMask 007\nOn-InternalError accept\nAuthservID mx.example\n"
    "Socket inet:8891@localhost\nMaximumHeaders 65536\n",
    "opendmarc": "RejectFailures true\nHoldQuarantinedMessages true\nDomainWhitelist lists.example\nIgnoreHosts /nonexistent\n",
    "policyd-spf": "HELO_reject = Softfail\nPermError_reject = True\nReject_Not_Pass_Domains = a.example\nHeader_Type = SPF\n"
    "TestOnly = 0\nskip_addresses = 127.0.0.0/8,::1\n",
    "postsrsd": "SRS_DOMAIN=fwd.example.net\nSRS_EXCLUDE_DOMAINS=example.org\nSRS_SECRET=srs.secret\nSRS_HASHLENGTH=5\n",
    "pymilter": "[milter]\ninternal_connect = 192.168.0.0/16\ninternal_domains = corp.example\ntrusted_relay = 198.51.100.7\n"
    "hello_blacklist = corp.example\ncheck_user = joe@branch.example\nmax_demerits = 3\nprivate_relay = aol.example\n"
    "internal_mta = 192.0.2.25\n[defang]\nporn_words = rolex\n[spf]\nreject_neutral = aol.example\naccept_fail = b.example\n"
    "[srs]\nfwdomain = fwd.example\nsecret = x\nreject_spoofed = 1\nmaxage = 21\nbanned_users = postmaster\n"
    "sign = corp.example\n"
    "[dspam]\nwhitelist_senders = @corp.example\n[greylist]\ntime=5\nexpire=6\nretain=36\n",
    "access": "SPF-Fail:bad.example REJECT\nHELO-Fail:c.example REJECT\nSMTP-Auth:joe@corp.example OK\nSPF-Neutral OK\n",
}
"""Of each program a file with many settings that are translated."""


@pytest.mark.parametrize("program", TAKEN)
def test_what_is_written_is_in_order(program: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cryptography")
    (tmp_path / "example.private").touch(0o600)
    (tmp_path / "example.private").write_bytes(key().private.pem())
    (tmp_path / "srs.secret").touch(0o600)
    (tmp_path / "srs.secret").write_text("0123456789abcdef0123")
    gateway = taken(program, TAKEN[program], tmp_path)
    path = tmp_path / "gateway.toml"
    path.write_text(gateway.text())
    assert main(["config", "check", str(path)]) == 0, capsys.readouterr().err


class TestCommand:
    def run(self, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
        status = main(["config", "import", *arguments])
        return status, *capsys.readouterr()

    @pytest.fixture
    def settings(self, tmp_path: Path) -> Path:
        path = tmp_path / "opendkim.conf"
        path.write_text("KeyTable /k\nSigningTable /s\nLogWhy yes\n")
        return path

    def test_it_prints_the_file(self, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status, out, err = self.run(capsys, str(settings))
        assert (status, err) == (0, "")
        assert '[[filter]]\nuse = "sign"\nkeys = "keys.toml"\n' in out
        assert f"# LogWhy, {settings}:3: the log has it; aiomilter help log\n" in out
        assert '\n# [opendkim]\n# key_table = "/k"\n' in out

    def test_it_writes_new_files_alone(self, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
        output = settings.with_name("gateway.toml")
        status, out, err = self.run(capsys, str(settings), "--output", str(output))
        assert (status, out) == (0, f"{output}: written\n{output.with_name('keys.toml')}: written\n")
        assert err == f"{settings}:3: LogWhy: the log has it; aiomilter help log\n"
        before = output.read_text()
        status, _, err = self.run(capsys, str(settings), "--output", str(output))
        assert (status, output.read_text()) == (1, before)
        assert "is left as it is" in err

    @pytest.mark.parametrize(
        ("arguments", "status", "said"),
        [
            (
                ["nothing.conf"],
                2,
                "its name says no program; write PROGRAM:nothing.conf, with one of opendkim, opendmarc,",
            ),
            (["opendkim:nothing.conf"], 4, "cannot read 'nothing.conf': No such file or directory"),
            (["pymilter:opendkim.conf"], 2, "no section headers"),
        ],
    )
    def test_what_cannot_be_read_is_one_line(
        self,
        arguments: list[str],
        status: int,
        said: str,
        settings: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.chdir(settings.parent)
        found, out, err = self.run(capsys, *arguments)
        assert (found, out, err.count("\n")) == (status, "", 1)
        assert said in err


def test_the_page_names_settings_that_there_are() -> None:
    page = resources.files("aiomilter").joinpath("help", "moving.rst").read_text("utf-8")
    tables = re.findall(r"(?ms)^=+ =+\n(.*?)^=+ =+$", page)
    named = {name for table in tables for row in table.splitlines() for name in re.findall(r"``(\S+)``", row[:39])}
    assert len(named) > 40
    assert named <= {name for names in NAMES.values() for name in names.split()}


def test_a_setting_of_a_section_is_told_with_its_own_line(tmp_path: Path) -> None:
    path = tmp_path / "milter.cfg"
    path.write_text("[DEFAULT]\nb = 0\n[milter]\nName = 1\n[srs]\n; name\nname : 2\nname = 3\n")
    assert [(each.name, each.value, each.line) for each in ini(str(path))] == [
        ("milter.b", "0", 2),
        ("milter.name", "1", 4),
        ("srs.b", "0", 2),
        ("srs.name", "3", 8),
    ]
