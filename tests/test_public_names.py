"""What a module without underscore promises is meant for users, and is documented."""

import ast
from collections.abc import Iterator, Mapping, Set
from typing import Final

import pytest

from tests.test_layering import modules, promised

PROMISED: Final[Mapping[str, str]] = {
    "addresses": "Address Inet Inherited Unix parse parse_all",
    "auth": "Authentication Authenticator ClientCheck MessageCheck",
    "auth.arc": "SIGN Chain ChainSet Result Sealer Sealing Verifier seal verify",
    "auth.dkim": "OVERSIGN SIGN BodyHashes Key KeyFile KeyRing Options Policy Result Signature Signer Signing Verifier "
    "load_keys method_results sign verify",
    "auth.dmarc": "Alignment DayRecords Destination Disposition DispositionDone DmarcRecord DmarcResult Level Override "
    "OverrideType Policy Psd PublicSuffixes Record ReportStore Result Signature SignatureResult Walk aggregate_xml evaluate "
    "organizational_domain parse report_destinations report_name walk",
    "auth.iprev": "IprevResult Result check_iprev",
    "auth.results": "AuthenticationResults MethodResult Property forged parse quote visible",
    "auth.spf": "Identity Result SpfResult check_host forged_received_spf",
    "compat": "MODULES install limit serve",
    "compose": "Composition MailShare Member check compose edit in_shadow known_at one_class",
    "context": "MTA TLS Auth Context EndOfMessageContext",
    "daemon": "run",
    "dns": "MX Answer Backend CachingResolver Counters IPAddress RdType Record Resolver client_address display_name "
    "question_name resolver reverse_name system_resolver",
    "edits": "Body",
    "exceptions": "AddressError LocalProtocolError MilterError NegotiationError NotNegotiatedError ProtocolError "
    "RemoteProtocolError ResolverError ResolverFailure ResolverTimeout StoreError StoreSettingsError TemporaryFailure",
    "failures": "FailurePolicy",
    "filters": "NAMES Access Attachments Authenticate Banner Copy Dnsbl Greylist KnownSenders Rates Reputation Scan Seal "
    "Sign Site Srs Traps VerifyFrom",
    "mta": "HEADER_SIZE OFFER Answer Content Delivered EndOfMessageResult Field MacroValues MessageResult Session "
    "StageSession Style Writer connect cut deliver",
    "mail.addresses": "MAX_ADDRESSES addresses",
    "mail.display": "MAX_SHOWN visible",
    "mail.encoding": "encoded_text",
    "mail.headers": "MAX_FIELDS MAX_SIZE Field HeaderSection split_message",
    "mail.socketmap": "Lookup Socketmap",
    "mail.srs": "Reason Rewriter SrsError read_secrets",
    "message": "Body Changes Field Headers Message MessageMilter Part ProtectedError StructureError",
    "options": "Options ServeOptions",
    "policy": "Authenticated Caught Greylist Known KnownSenders Rate RateLimit RateState Reputation Seen Standing Traps",
    "policy.known": "Authenticated Known KnownSenders",
    "policy.reputation": "Reputation Standing",
    "policy.traps": "Caught Traps",
    "policy.greylist": "Greylist Seen general_sender",
    "policy.rates": "OnFailure Rate RateLimit RateState",
    "policy.stores": "GuardedStore Mode Op Store open_store read_keys",
    "policy.dnsbl": "DnsList Listing check_address check_domain",
    "recording": "CLOSED FILTER MTA REMARK Head Packet Recording RecordingError read",
    "results": "Results",
    "scan": "AddedHeader Clamd ClamdResult Envelope HeaderChanges RemovedHeader Result Rspamd RspamdResult Scanner Spamd "
    "SpamdResult Symbol",
    "secret": "Secret",
    "server": "Factory Server serve",
    "smtp": "Front Outcome front split_address store",
    "testing": "Difference Replay replay session",
    "testing.resolver": "FAILURE HANG TIMEOUT Trouble Zone ZoneResolver",
    "wire.constants": "ALL_ACTIONS ALL_PROTOCOL BODY_CHUNK_SIZE MAX_FRAME_SIZE MAX_VERSION MIN_VERSION NO_FLAGS NR_FLAGS "
    "SINCE_VERSION V1_ACTIONS V1_PROTOCOL Action Command Protocol ReplyCode Stage",
    "wire.framing": "FrameBuffer packet",
    "wire.modifications": "AddHeader AddRecipient ChangeHeader ChangeSender DeleteRecipient InsertHeader Modification "
    "Progress Quarantine ReplaceBody",
    "wire.negotiation": "Agreement NegotiateAnswer Wants agree canonical_macro check_answer macro_lists",
    "wire.replies": "ACCEPT CONTINUE DISCARD PASSING REJECT SKIP TEMPFAIL BodyResponse ConnectionResponse Refusal Reply "
    "Response UnknownResponse Verdict",
    "wire.state": "ANSWERS Effect FOLLOWS LIBMILTER NATIVE Rules State Transition ends_message is_legal transitions without",
    "wire.text": "decode encode header_name header_value one_line pack_strings",
}
"""What users import from where.  A name that only other rooms need stays out of ``__all__``."""


@pytest.mark.parametrize("module", PROMISED)
def test_a_module_promises_what_is_meant_for_users(module: str) -> None:
    assert promised(modules()[f"aiomilter.{module}"]) == set(PROMISED[module].split())


def undocumented(tree: ast.Module, names: Set[str] | None = None) -> Iterator[str]:
    """Yield the names that a module promises, but that it or the module it has them from does not document.

    Args:
        tree: The module.
        names: Those to look at; None for all that it promises.
    """
    names = (promised(tree) or set()) if names is None else names
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if node.name in names and ast.get_docstring(node) is None:
                    yield node.name
            case ast.ImportFrom(module=str(module), names=aliases) if module in modules():
                if wanted := names & {alias.name for alias in aliases}:
                    yield from undocumented(modules()[module], wanted)
            case ast.AnnAssign(value=ast.Attribute(value=ast.Name(id=owner))) if owner in names:
                pass  # a member under its own name, documented where that is
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in names:
                match after:
                    case ast.Expr(value=ast.Constant(value=str())):
                        pass
                    case _:
                        yield name


@pytest.mark.parametrize("module", PROMISED)
def test_every_name_that_a_module_promises_is_documented(module: str) -> None:
    assert list(undocumented(modules()[f"aiomilter.{module}"])) == []


def test_a_name_that_comes_from_another_module_is_looked_for_there(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ast.parse('__all__ = ["A", "B"]\nA = 1\nB = 1\n"""Why."""\n')
    monkeypatch.setitem(modules(), "aiomilter.there", there)
    assert list(undocumented(ast.parse('__all__ = ["A", "B"]\nfrom aiomilter.there import A, B\n'))) == ["A"]


def test_a_name_without_a_word_is_found() -> None:
    source = '__all__ = ["A", "B", "c", "D"]\nA = 1\n"""Why."""\nB = 2\n\ndef c(): ...\n\nclass D:\n    """What."""\n'
    assert list(undocumented(ast.parse(source))) == ["B", "c"]
