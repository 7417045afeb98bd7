"""What a module without underscore promises is meant for users, and is documented."""

import ast
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from tests.test_layering import modules, promised

PROMISED: Final[Mapping[str, str]] = {
    "addresses": "Address Inet Inherited Unix parse parse_all",
    "auth.dkim": "OVERSIGN SIGN Key KeyFile KeyRing Options Policy Result Signature Signer Signing Verifier "
    "load_keys method_results sign verify",
    "auth.iprev": "IprevResult Result check_iprev",
    "auth.results": "AuthenticationResults MethodResult Property forged parse quote visible",
    "auth.spf": "Identity Result SpfResult check_host forged_received_spf",
    "compat": "MODULES install limit serve",
    "daemon": "run",
    "exceptions": "AddressError LocalProtocolError MilterError NegotiationError NotNegotiatedError ProtocolError "
    "RemoteProtocolError ResolverError ResolverFailure ResolverTimeout StoreError TemporaryFailure",
    "failures": "FailurePolicy",
    "mail.headers": "MAX_FIELDS MAX_SIZE Field HeaderSection split_message",
    "options": "Options ServeOptions",
    "policy.dnsbl": "DnsList Listing check_address check_domain",
    "server": "Factory Server serve",
    "smtp": "Front Outcome front split_address store",
    "testing": "session",
    "testing.resolver": "FAILURE HANG TIMEOUT Trouble Zone ZoneResolver",
}
"""What users import from where.  A name that only other rooms need stays out of ``__all__``."""


@pytest.mark.parametrize("module", PROMISED)
def test_a_module_promises_what_is_meant_for_users(module: str) -> None:
    assert promised(modules()[f"aiomilter.{module}"]) == set(PROMISED[module].split())


def undocumented(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a module promises and defines, but does not document."""
    names = promised(tree) or set()
    for node, after in zip(tree.body, [*tree.body[1:], None], strict=True):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                if node.name in names and ast.get_docstring(node) is None:
                    yield node.name
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in names:
                match after:
                    case ast.Expr(value=ast.Constant(value=str())):
                        pass
                    case _:
                        yield name


@pytest.mark.parametrize("module", PROMISED)
def test_every_name_that_a_module_promises_is_documented(module: str) -> None:
    assert list(undocumented(modules()[f"aiomilter.{module}"])) == []


def test_a_name_without_a_word_is_found() -> None:
    source = '__all__ = ["A", "B", "c", "D"]\nA = 1\n"""Why."""\nB = 2\n\ndef c(): ...\n\nclass D:\n    """What."""\n'
    assert list(undocumented(ast.parse(source))) == ["B", "c"]
