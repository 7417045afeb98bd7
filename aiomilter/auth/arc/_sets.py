"""The ARC sets of a header: which fields belong together, and whether they make a chain.

Source: RFC 8617 sections 4.1, 4.2 and 5.2.
"""

import re
from dataclasses import dataclass
from typing import Final

from aiomilter.auth._structured import Reader
from aiomilter.auth.arc._chain import ChainSet
from aiomilter.auth.dkim._signature import Tags, Unusable, claims, parse_signing_tags, read_tags
from aiomilter.mail.headers import Field, HeaderSection

__all__ = [
    "AAR",
    "AMS",
    "AS",
    "MAX_SETS",
    "MAX_SIZE",
    "ArcSet",
    "Sets",
    "broken",
    "message_tags",
    "read_sets",
    "seal_tags",
]

AAR: Final = "ARC-Authentication-Results"
AMS: Final = "ARC-Message-Signature"
AS: Final = "ARC-Seal"
MAX_SETS: Final = 50
"""Sets of a chain (RFC 8617 section 4.2.1)."""
MAX_SIZE: Final = 262_144
"""Octets of all signatures and seals of a chain: five kilobytes a set."""

_POSITION: Final = re.compile("[0-9]{1,2}")
# A comment before i= may be as long as it likes, and so much of the field is looked at.
_MAX_PREFIX: Final = 1_000


@dataclass(frozen=True, slots=True)
class ArcSet:
    """The three fields of one set, and the tags of its two signatures.

    Args:
        results: The field ARC-Authentication-Results.
        signature: The field ARC-Message-Signature.
        seal: The field ARC-Seal.
        signature_tags: Tags of the signature.
        seal_tags: Tags of the seal.
    """

    instance: int
    results: Field
    signature: Field
    seal: Field
    signature_tags: dict[str, str]
    seal_tags: dict[str, str]

    @property
    def status(self) -> str:
        """``cv=`` of the seal."""
        return self.seal_tags.get("cv", "")

    def claims(self) -> ChainSet:
        """Return what the set claims."""
        seal, signature = claims(_short(self.seal_tags)), claims(_short(self.signature_tags))
        status = self.status if self.status in ("none", "pass", "fail") else ""
        value = self.results.value
        return ChainSet(self.instance, seal.domain, seal.selector, status, signature.domain, value, seal.timestamp)


@dataclass(frozen=True, slots=True)
class Sets:
    """All ARC fields of a header.

    Args:
        complete: The sets that have all three fields once, oldest first.
        highest: The highest instance found; 0 if no field has one, 50 if there are too many to look at, or too large ones.
        problem: Why these are no chain; "" if they are, or there is none.
    """

    complete: tuple[ArcSet, ...] = ()
    highest: int = 0
    problem: str = ""

    @property
    def sealed_as_failed(self) -> bool:
        """Whether the newest seal says that the chain had failed already."""
        newest = self.complete[-1] if self.complete else None
        return newest is not None and newest.instance == self.highest and newest.status == "fail"


_NONE: Final = Sets()


def read_sets(section: HeaderSection) -> Sets:
    """Read the sets of a header, and check whether they are whole.

    Source: RFC 8617 section 5.2 steps 1 and 3.
    """
    fields_of = {name: fields for name in (AAR, AMS, AS) if (fields := section.get_all(name))}
    if not fields_of:
        return _NONE
    if sum(len(field.raw) for name in (AMS, AS) for field in fields_of.get(name, ())) > MAX_SIZE:
        return Sets((), MAX_SETS, f"the signatures and seals have more than {MAX_SIZE} octets")
    found: dict[int, dict[str, tuple[Field, dict[str, str]]]] = {}
    problem = ""
    for name in (AAR, AMS, AS):
        fields = fields_of.get(name, ())
        if len(fields) > MAX_SETS:
            return Sets((), MAX_SETS, f"there are more than {MAX_SETS} fields {name}")
        for field in fields:
            tags = _aar_tags(field) if name == AAR else read_tags(field)
            instance = _instance(tags)
            if tags is None or instance is None:
                problem = problem or f"a field {name} has no instance that can be read"
            elif name in (members := found.setdefault(instance, {})):
                problem = problem or f"there are two fields {name} of instance {instance}"
            else:
                members[name] = field, tags
    complete = []
    for instance in sorted(found):
        members = found[instance]
        if len(members) == 3:
            (results, _), (signature, signature_tags), (seal, seal_tags) = members[AAR], members[AMS], members[AS]
            complete.append(ArcSet(instance, results, signature, seal, signature_tags, seal_tags))
        else:
            problem = problem or f"the set of instance {instance} is not complete"
    highest = max(found, default=0)
    if len(found) != highest:
        problem = problem or "the instances of the sets have gaps"
    return Sets(tuple(complete), highest, problem)


def broken(sets: Sets) -> str:
    """Return why sets are no chain that could pass; "" if they are one.

    Source: RFC 8617 section 5.2 steps 2 and 3.
    """
    if sets.sealed_as_failed:
        return "the newest seal says that the chain has failed"
    if sets.problem:
        return sets.problem
    for each in sets.complete:
        expected = "pass" if each.instance > 1 else "none"
        if each.status != expected:
            return f"the seal of instance {each.instance} does not say cv={expected}"
    return ""


def message_tags(tags: dict[str, str]) -> Tags:
    """Return how to check an ARC-Message-Signature.

    Raises:
        Unusable: It is not to be checked.

    Source: RFC 8617 section 4.1.2.
    """
    # Neither the version nor the identity of DKIM: i= is the instance.
    own = {name: value for name, value in tags.items() if name not in ("v", "i")}
    # The conformance suite has a signature without c= pass in relaxed form alone, though that is not DKIM's default.
    own.setdefault("c", "relaxed/relaxed")
    if own.get("h") == "":
        # The grammar wants a name; the conformance suite has a signature of none pass.
        own["h"] = ":"
    parsed = parse_signing_tags(own, needs_from=False)
    if "arc-seal" in parsed.names:
        raise Unusable("permerror", "the message signature covers seals")
    return parsed


def seal_tags(tags: dict[str, str]) -> Tags:
    """Return how to check an ARC-Seal: as a signature of a header in relaxed form, and of no body.

    Raises:
        Unusable: It is not to be checked.

    Source: RFC 8617 section 4.1.3.
    """
    for name in ("h", "bh"):
        if name in tags:
            raise Unusable("permerror", f"the seal has {name}=")
    own = {"bh": "AA==", "h": ":", "c": "relaxed"}
    own |= {name: value for name, value in tags.items() if name in ("a", "b", "d", "s", "t")}
    return parse_signing_tags(own, needs_from=False)


def _short(tags: dict[str, str]) -> dict[str, str]:
    """Return the tags that a set shows: the others may be long."""
    return {name: tags[name] for name in ("d", "s", "t") if name in tags}


def _instance(tags: dict[str, str] | None) -> int | None:
    """Return the instance that ``i=`` names; None if it names none."""
    value = (tags or {}).get("i", "")
    if not _POSITION.fullmatch(value):
        return None
    return int(value) if 1 <= int(value) <= MAX_SETS else None


def _aar_tags(field: Field) -> dict[str, str] | None:
    """Return ``i=`` of an ARC-Authentication-Results, which is not a tag list; comments may stand round it."""
    reader = Reader(field.octets[:_MAX_PREFIX].decode("utf-8", "surrogateescape"))
    if reader.word() != "i" or not reader.take("="):
        return None
    value = reader.word()
    return {"i": value} if reader.take(";") else None
