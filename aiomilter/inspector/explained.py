"""Authentication-Results in words.

Source: RFC 8601 section 2.7, and the RFCs of the methods.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from aiomilter.auth.results import AuthenticationResults, MethodResult, parse
from aiomilter.wire.events import Header

__all__ = ["explained", "found_by_filters"]

_MOST_FIELDS: Final = 20
_MOST_RESULTS: Final = 50
_NAMES: Final = {"spf": "SPF", "dkim": "DKIM", "dmarc": "DMARC", "arc": "ARC", "iprev": "Reverse DNS", "auth": "Login"}
_WORDS: Final = {
    ("spf", "pass"): "the domain allows this client to send its mail",
    ("spf", "fail"): "the domain says that this client may not send its mail",
    ("spf", "softfail"): "the domain thinks that this client should not send its mail, but asks not to refuse it",
    ("spf", "neutral"): "the domain says nothing about this client",
    ("spf", "none"): "the domain publishes no SPF record",
    ("dkim", "pass"): "the signature is valid: what it covers has not changed since",
    ("dkim", "fail"): "the signature does not match: what it covers was changed after signing, or the key is another",
    ("dkim", "none"): "the message is not signed",
    ("dkim", "neutral"): "the signature cannot be read",
    ("dkim", "policy"): "the signature is valid, but local policy does not accept it",
    ("dmarc", "pass"): "SPF or DKIM passes for the domain in From",
    ("dmarc", "fail"): "neither SPF nor DKIM passes for the domain in From",
    ("dmarc", "none"): "the domain in From publishes no DMARC policy",
    ("arc", "pass"): "the chain of those that have handed the message on is valid",
    ("arc", "fail"): "the chain of those that have handed the message on is broken",
    ("arc", "none"): "nobody that has handed the message on has sealed it",
    ("iprev", "pass"): "the name of the client's address leads back to that address",
    ("iprev", "fail"): "the client's address has no name that leads back to it",
    ("auth", "pass"): "the client has logged in",
}
_ANY_METHOD: Final = {
    "pass": "it passes",
    "fail": "it fails",
    "none": "there is nothing to check",
    "neutral": "it makes no assertion",
    "softfail": "it fails, weakly",
    "policy": "local policy does not accept it",
    "temperror": "it could not be checked now, for want of an answer of DNS; a later try may succeed",
    "permerror": "it cannot be checked: what the domain publishes, or the field itself, is wrong",
    "skipped": "it was not checked",
}
_REASONS: Final = (
    ("body hash", "the body was changed after signing: its hash (bh) differs"),
    ("bh=", "the body was changed after signing: its hash (bh) differs"),
    ("body was changed", "the body was changed after signing: its hash (bh) differs"),
    ("does not match the header", "a signed header field was changed after signing, or the key is another one"),
    ("expired", "the signature has expired"),
)
_SUBJECTS: Final = {
    "spf": (("smtp", "mailfrom"), ("smtp", "helo")),
    "dkim": (("header", "d"), ("header", "i")),
    "dmarc": (("header", "from"),),
    "iprev": (("policy", "iprev"),),
    "auth": (("smtp", "auth"),),
}


def explained(headers: Iterable[Header], before: Iterable[Header]) -> list[dict[str, Any]]:
    """Return what the Authentication-Results of a message say, in words.

    Args:
        headers: Of the message as it is passed on.
        before: Those that it came with: whoever has sent it may have written these.
    """
    came = {(each.name.lower(), each.value.strip()) for each in before}
    found: list[dict[str, Any]] = []
    for header in headers:
        if header.name.lower() != "authentication-results" or len(found) >= _MOST_FIELDS:
            continue
        parsed = parse(header.value)
        if parsed is not None:
            ours = (header.name.lower(), header.value.strip()) not in came
            found.append(_field(parsed, ours))
    return found


def found_by_filters(results: Iterable[object]) -> list[dict[str, Any]]:
    """Return what filters have found out about the authentication of a message, in words.

    Args:
        results: What they have put into ``ctx.results``; what is not about authentication is left out.
    """
    found: list[MethodResult] = []
    for each in results:
        for name in ("method_result", "results"):
            method = getattr(each, name, None)
            if not callable(method):
                continue
            try:
                said = method()
            except Exception:  # noqa: BLE001  # an object of the filter's own
                continue
            if isinstance(said, MethodResult):
                found.append(said)
            elif isinstance(said, AuthenticationResults):
                found += said.results
    return [{"by": "", "ours": True, "results": [_result(each) for each in found[:_MOST_RESULTS]]}] if found else []


def _field(parsed: AuthenticationResults, ours: bool) -> dict[str, Any]:
    return {
        "by": parsed.authserv_id,
        "ours": ours,
        "results": [_result(each) for each in parsed.results],
    }


def _result(each: MethodResult) -> dict[str, Any]:
    method, result = each.method.lower(), each.result.lower()
    said = each.reason or each.comment
    words = _WORDS.get((method, result)) or _ANY_METHOD.get(result) or f"the result is {result}"
    words = next((text for sign, text in _REASONS if result == "fail" and sign in said.lower()), words)
    return {
        "method": _NAMES.get(method, each.method),
        "result": result,
        "about": _about(method, each),
        "words": words,
        "said": said,
    }


def _about(method: str, each: MethodResult) -> str:
    """Return whose result it is: a domain, an address."""
    wanted: Sequence[tuple[str, str]] = _SUBJECTS.get(method, ())
    for key in wanted:
        for one in each.properties:
            if (one.ptype, one.name) == key:
                return one.value
    return ""
