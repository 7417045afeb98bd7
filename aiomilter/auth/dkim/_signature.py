"""One DKIM-Signature field: its tags, and what a verifier says of it.

Source: RFC 6376 sections 3.5 and 6.1.1; RFC 8463 section 3; RFC 8616 section 5.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

from aiomilter.auth.dkim._canonical import Form
from aiomilter.auth.dkim._crypto import KeyType
from aiomilter.auth.dkim._tags import base64_octets, quoted_printable_text, tag_list, words
from aiomilter.auth.results import MethodResult, Property
from aiomilter.mail.display import visible
from aiomilter.mail.domain import MAX_NAME, ascii_name
from aiomilter.mail.headers import Field, HeaderSection

__all__ = [
    "MAX_FIELD",
    "MAX_NAMES",
    "Result",
    "Signature",
    "Tags",
    "Unusable",
    "canonical_forms",
    "claims",
    "domain_name",
    "duplicates",
    "is_below",
    "method_results",
    "parse_signing_tags",
    "parse_tags",
    "read_tags",
    "signed_names",
]

Result: TypeAlias = Literal["none", "pass", "fail", "policy", "neutral", "temperror", "permerror"]
"""The results of RFC 8601 section 2.7.1."""

MAX_FIELD: Final = 16_384
"""Octets of a signature field."""
MAX_NAMES: Final = 512
"""Names in ``h=``."""
# Entries of h= may be empty.
_MAX_COLONS: Final = 2 * MAX_NAMES
# Characters of a name with U-labels: it takes half a millisecond to convert a longer one, and nobody has one.
_MAX_U_NAME: Final = 100
_MAX_LENGTH_DIGITS: Final = 76
# Seconds since 1970 up to here are a time; more are "never" (RFC 6376 section 3.5, x=).
_MAX_TIME: Final = 10**12
_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_DIGITS: Final = re.compile("[0-9]+")
_ALGORITHMS: Final[dict[str, tuple[KeyType, str]]] = {
    "rsa-sha256": ("rsa", "sha256"),
    "ed25519-sha256": ("ed25519", "sha256"),
    "rsa-sha1": ("rsa", "sha1"),
}
_FORMS: Final[dict[str, Form]] = {"simple": "simple", "relaxed": "relaxed"}
_REQUIRED: Final = ("a", "b", "bh", "d", "h", "s")


class Unusable(Exception):
    """A signature that is not looked at further.

    Args:
        result: Its result.
        problem: Why.
    """

    def __init__(self, result: Result, problem: str) -> None:
        super().__init__(problem)
        self.result: Result = result
        self.problem = problem


class Tags(NamedTuple):
    """A signature's tags, as far as they say how to check it.

    Args:
        key_type: The type of key that ``a=`` names.
        hash_name: The hash algorithm that it names.
        header_form: Canonicalisation of the header.
        body_form: Canonicalisation of the body.
        signature: The octets of ``b=``.
        body_hash: The octets of ``bh=``.
        names: The fields signed, lower case, in order, as often as they are named.
        domain: ``d=``, lower case, A-labels.
        selector: ``s=``, the same.
        subdomain: The identity's domain is below ``d=``.
        length: ``l=``; None if there is none.
        timestamp: ``t=``; None if there is none.
        expiration: ``x=``; None if there is none, or beyond all times.
    """

    key_type: KeyType
    hash_name: str
    header_form: Form
    body_form: Form
    signature: bytes
    body_hash: bytes
    names: tuple[str, ...]
    domain: str
    selector: str
    subdomain: bool
    length: int | None
    timestamp: int | None
    expiration: int | None


@dataclass(frozen=True, slots=True)
class Signature:
    """What one DKIM-Signature field is worth.

    All but the result is what the field claims, as far as it can be read; only with the result pass is it more than that.

    Args:
        result: pass: the domain vouches for the message; fail: signature, body hash or time do not hold; policy: good, but
            not by our policy, or not looked at for its sake; neutral: cannot be read; permerror: no key to use, or the
            signature breaks a rule; temperror: DNS could not say.
        problem: Why it does not pass; "" if it does.
        domain: The signing domain ``d=``, lower case, A-labels.
        selector: ``s=``, the same.
        identity: The agent or user ``i=``, ``@domain`` by default.  Its local part proves nothing.
        algorithm: ``a=``, such as ``"rsa-sha256"``.
        key_bits: Size of the key; 0 if it is not known.
        canonicalization: Of header and body, such as ``"relaxed/simple"``.
        signed_fields: The names of ``h=``, lower case, as often as they stand there.
        body_length: ``l=``, the octets of the body that are signed; None for all.
        timestamp: When it was made, in seconds since 1970; None if it does not say.
        expiration: When it ends; None if it does not say.
        testing: The domain is testing DKIM: treat a failure as no signature.
        approximate: The header's octets are not known exactly, and this signature covers them exactly.
        duplicates: Names of fields that may stand once, and stand more than once in this message.
        value: ``b=`` in base64, without blanks.
    """

    result: Result
    problem: str = ""
    domain: str = ""
    selector: str = ""
    identity: str = ""
    algorithm: str = ""
    key_bits: int = 0
    canonicalization: str = ""
    signed_fields: tuple[str, ...] = ()
    body_length: int | None = None
    timestamp: int | None = None
    expiration: int | None = None
    testing: bool = False
    approximate: bool = False
    duplicates: tuple[str, ...] = ()
    value: str = ""

    @property
    def aligned_identifier(self) -> str | None:
        """The domain, if it may serve DMARC: only a signature that passes gives one."""
        return self.domain if self.result == "pass" else None

    def method_result(self, prefix: int = 8) -> MethodResult:
        """Return the part that the signature has in an Authentication-Results header field.

        Args:
            prefix: Characters of ``b=`` that tell it from others; see :func:`method_results`.

        Source: RFC 8601 section 2.7.1; RFC 6008 section 4.
        """
        named = (
            ("d", self.domain),
            ("i", self.identity),
            ("s", self.selector),
            ("a", self.algorithm),
            ("b", self.value[:prefix]),
        )
        properties = tuple(Property("header", name, value) for name, value in named if value)
        remarks = [f"{self.key_bits}-bit key"] if self.key_bits else []
        remarks += ["testing"] if self.testing else []
        return MethodResult("dkim", self.result, properties, self.problem, ", ".join(remarks))


def method_results(signatures: Sequence[Signature]) -> tuple[MethodResult, ...]:
    """Return the parts that all signatures of a message have in an Authentication-Results header field.

    One without signatures has the part ``dkim=none``.  Of each ``b=`` there are 8 characters, or as many as tell it from
    the others.

    Source: RFC 8601 section 2.7.1; RFC 6008 section 4.
    """
    if not signatures:
        return (MethodResult("dkim", "none"),)
    if len(signatures) == 1:
        return (signatures[0].method_result(),)
    prefix, longest = 8, max(len(each.value) for each in signatures)
    different = len({each.value for each in signatures})
    while prefix < longest and len({each.value[:prefix] for each in signatures}) < different:
        prefix += 4
    return tuple(each.method_result(prefix) for each in signatures)


def domain_name(text: str) -> str | None:
    """Return a domain name as it is compared, lower case and A-labels; None for other text.

    Source: RFC 6376 section 3.5 (d=, s=); RFC 8616 section 5.
    """
    if len(text) > _MAX_U_NAME and not text.isascii():
        return None
    name = (ascii_name(text) or "").lower()
    return name if len(name) <= MAX_NAME and _DOMAIN.fullmatch(name) else None


def is_below(name: str, domain: str) -> bool:
    """Whether a name is a domain's or below it, by labels; both as :func:`domain_name` returns them."""
    return name == domain or name.endswith("." + domain)


def canonical_forms(text: str) -> tuple[Form, Form] | None:
    """Return the canonicalisations of header and body that ``c=`` names; None if it names none."""
    header, slash, body = text.partition("/")
    if header not in _FORMS or (slash and body not in _FORMS):
        return None
    return _FORMS[header], _FORMS[body or "simple"]


def read_tags(field: Field) -> dict[str, str] | None:
    """Return the tags of a signature field; None if it is too large or holds no tag list."""
    if len(field.raw) > MAX_FIELD:
        return None
    return tag_list(field.octets.decode("utf-8", "surrogateescape"))


def claims(
    tags: dict[str, str],
    parsed: Tags | None = None,
    *,
    result: Result = "neutral",
    problem: str = "",
    key_bits: int = 0,
    testing: bool = False,
    approximate: bool = False,
    duplicates: tuple[str, ...] = (),
) -> Signature:
    """Return what a field claims, as far as it can be shown, with what was found of it.

    Args:
        tags: Its tags.
        parsed: What :func:`parse_tags` made of them; None if that found it not to be checked.
        result: For the signature as it is, and so are the next ones.
        problem: Why it does not pass.
        key_bits: Size of the key.
        testing: The domain is testing DKIM.
        approximate: The header's octets are not known exactly.
        duplicates: Names of fields that stand more than once.
    """
    if parsed is not None:
        domain, selector, names = parsed.domain, parsed.selector, parsed.names
        forms: tuple[Form, Form] | None = (parsed.header_form, parsed.body_form)
    else:
        domain, selector = domain_name(tags.get("d", "")) or "", domain_name(tags.get("s", "")) or ""
        forms, names = canonical_forms(tags.get("c", "simple")), signed_names(tags.get("h", ""))[:MAX_NAMES]
    return Signature(
        result,
        problem,
        domain=domain,
        selector=selector,
        identity=visible(quoted_printable_text(tags["i"]), smtputf8=True)
        if tags.get("i")
        else f"@{domain}" * bool(domain),
        algorithm=visible("".join(tags.get("a", "").split()), 32),
        key_bits=key_bits,
        canonicalization="/".join(forms) if forms else "",
        signed_fields=names,
        body_length=_number(tags.get("l")),
        timestamp=_number(tags.get("t")),
        expiration=_number(tags.get("x")),
        testing=testing,
        approximate=approximate,
        duplicates=duplicates,
        value="".join(tags.get("b", "").split()) if parsed or base64_octets(tags.get("b", "")) else "",
    )


def signed_names(value: str) -> tuple[str, ...]:
    """Return the names that ``h=`` lists, lower case; empty entries, which verifiers take, are left out.

    Of a list that is far too long, the end is one name.
    """
    return tuple(words(value.lower(), _MAX_COLONS))


def parse_tags(tags: dict[str, str] | None) -> Tags:
    """Return how to check a signature.

    Args:
        tags: As :func:`read_tags` returns them.
    Raises:
        Unusable: The signature is not to be checked.

    Source: RFC 6376 section 6.1.1.
    """
    if tags is None:
        raise Unusable("neutral", "the signature is not a tag list, or is too large")
    if tags.get("v") != "1":
        raise Unusable("neutral", "the signature is not of version 1")
    return parse_signing_tags(tags)


def parse_signing_tags(tags: dict[str, str], *, needs_from: bool = True) -> Tags:
    """Return how to check a signature whose version is known, or which has none, as in ARC.

    Args:
        tags: As :func:`read_tags` returns them.
        needs_from: Whether it must cover the From field.
    Raises:
        Unusable: The signature is not to be checked.
    """
    for name in _REQUIRED:
        if not tags.get(name):
            raise Unusable("neutral", f"the signature has no {name}=")
    if tags["a"] not in _ALGORITHMS:
        raise Unusable("neutral", "the signature's algorithm is unknown")
    key_type, hash_name = _ALGORITHMS[tags["a"]]
    forms = canonical_forms(tags.get("c", "simple"))
    if forms is None:
        raise Unusable("neutral", "the signature's canonicalization is unknown")
    if "q" in tags and "dns/txt" not in words(tags["q"]):
        raise Unusable("neutral", "the signature's key is not in DNS (q=)")
    signature, body_hash = base64_octets(tags["b"]), base64_octets(tags["bh"])
    if not signature or not body_hash:
        raise Unusable("neutral", "the signature is not base64")
    domain, selector = domain_name(tags["d"]), domain_name(tags["s"])
    if domain is None or selector is None:
        raise Unusable("neutral", "the signature's d= or s= is not a domain name")
    length = _length(tags)
    timestamp, expiration = _times(tags)
    names = signed_names(tags["h"])
    if len(names) > MAX_NAMES or tags["h"].count(":") > _MAX_COLONS:
        raise Unusable("neutral", f"the signature names more than {MAX_NAMES} fields")
    if needs_from and "from" not in names:
        raise Unusable("permerror", "the From field is not signed")
    subdomain = _identity_is_below(tags, domain)
    return Tags(
        key_type,
        hash_name,
        *forms,
        signature,
        body_hash,
        names,
        domain,
        selector,
        subdomain,
        length,
        timestamp,
        expiration,
    )


def _identity_is_below(tags: dict[str, str], domain: str) -> bool:
    """Whether the identity's domain is below the signing domain, and not that itself."""
    if not tags.get("i"):
        return False
    _, at, name = quoted_printable_text(tags["i"]).rpartition("@")
    if not at:
        raise Unusable("neutral", "the signature's i= is not an address")
    found = domain_name(name)
    if found is None or not is_below(found, domain):
        raise Unusable("permerror", "the signature's i= is not in its d=")
    return found != domain


def _length(tags: dict[str, str]) -> int | None:
    value = tags.get("l")
    if value is None:
        return None
    if not _DIGITS.fullmatch(value) or len(value) > _MAX_LENGTH_DIGITS:
        raise Unusable("neutral", "the signature's l= is not a number")
    return int(value)


def _times(tags: dict[str, str]) -> tuple[int | None, int | None]:
    """Return when a signature was made and when it ends; None for what it does not say, and for no end."""
    found: dict[str, int | None] = {}
    for name in ("t", "x"):
        value = tags.get(name)
        if value is not None and not _DIGITS.fullmatch(value):
            raise Unusable("neutral", f"the signature's {name}= is not a number")
        found[name] = _number(value)
    timestamp, expiration = found["t"], found["x"]
    if timestamp is not None and expiration is not None and expiration <= timestamp:
        raise Unusable("neutral", "the signature's x= is not after its t=")
    return timestamp, None if expiration is not None and expiration > _MAX_TIME else expiration


def _number(value: str | None) -> int | None:
    """Return a number, cut to what is more than any; None for what is none."""
    if value is None or not _DIGITS.fullmatch(value):
        return None
    digits = value.lstrip("0") or "0"
    return int(digits) if len(digits) <= _MAX_LENGTH_DIGITS else 10**_MAX_LENGTH_DIGITS


# Fields that stand at most once (RFC 5322 section 3.6; RFC 2045 section 3 and RFC 2183 for those of MIME).
_ONCE: Final = frozenset(
    b"from sender reply-to to cc bcc subject date message-id in-reply-to references mime-version content-type "
    b"content-transfer-encoding content-disposition".split()
)


def duplicates(section: HeaderSection) -> tuple[str, ...]:
    """Return the names of fields that may stand once and stand more than once, lower case, in order.

    Source: RFC 6376 section 8.15; RFC 5322 section 3.6.
    """
    return tuple([key.decode() for key in section.repeated() if key in _ONCE])
