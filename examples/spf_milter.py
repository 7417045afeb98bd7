"""Refuse mail that its sender's SPF policy forbids; note the result on the rest.

Try it without an MTA, then behind Postfix with ``smtpd_milters = inet:127.0.0.1:8890``::

    aiomilter run examples/spf_milter.py --smtp 2525
    aiomilter run examples/spf_milter.py --listen inet:8890@127.0.0.1

What it does with each result can be set, for all domains and for single ones, in ``spf_milter.toml`` in the working
directory, or in the file that the environment variable SPF_MILTER_CONFIG names::

    authserv_id = "mx.example.net"      # the name in the headers; the MTA's own if left out
    trusted = ["192.0.2.0/24"]          # relays whose mail passes unchecked, forged headers and all
    nameservers = ["127.0.0.1"]         # those of the system if left out

    [policy]                            # accept, reject or tempfail; these are what you get without a file
    fail = "reject"
    softfail = "accept"
    permerror = "accept"
    temperror = "accept"

    [domains."bank.example"]            # this domain and those below it
    softfail = "reject"
    none = "reject"
"""

import os
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network
from pathlib import Path
from typing import Any

from aiomilter import ACCEPT, CONTINUE, Context, EndOfMessageContext, Header, Mail, Milter, Reply, Response, no_reply
from aiomilter.auth import results, spf
from aiomilter.dns import Resolver, client_address, resolver, system_resolver

ACTIONS = ("accept", "reject", "tempfail")
RESULTS = ("none", "neutral", "pass", "fail", "softfail", "temperror", "permerror")


@dataclass(frozen=True)
class Config:
    """What the TOML file says."""

    authserv_id: str = ""
    trusted: tuple[IPv4Network | IPv6Network, ...] = ()
    nameservers: tuple[str, ...] = ()
    policy: Mapping[str, str] = field(default_factory=lambda: {"fail": "reject"})
    domains: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def from_toml(cls, text: str) -> "Config":
        """Read a file's text; what it misspells raises, so that the filter does not start."""
        values: dict[str, Any] = tomllib.loads(text)
        unknown = values.keys() - {"authserv_id", "trusted", "nameservers", "policy", "domains"}
        if unknown:
            raise ValueError(f"unknown settings: {', '.join(sorted(unknown))}")
        policy = {"fail": "reject", **values.get("policy", {})}
        domains = {name.lower().rstrip("."): actions for name, actions in values.get("domains", {}).items()}
        for actions in (policy, *domains.values()):
            for result, action in actions.items():
                if result not in RESULTS or action not in ACTIONS:
                    raise ValueError(
                        f"expected an SPF result and one of {', '.join(ACTIONS)}, found {result} = {action!r}"
                    )
        return cls(
            values.get("authserv_id", ""),
            tuple(ip_network(network) for network in values.get("trusted", ())),
            tuple(values.get("nameservers", ())),
            policy,
            domains,
        )

    def trusts(self, ip: IPv4Address | IPv6Address) -> bool:
        """Tell whether a client is one of the trusted relays."""
        address = client_address(ip)
        return any(address in network for network in self.trusted)

    def action(self, result: spf.SpfResult) -> str:
        """Return what to do: as the closest domain says, then as all do."""
        labels = result.domain.lower().rstrip(".").split(".")
        for start in range(len(labels)):
            actions = self.domains.get(".".join(labels[start:]), {})
            if result.result in actions:
                return actions[result.result]
        return self.policy.get(result.result, "accept")


class SpfMilter(Milter):
    """The filter: one instance for each SMTP connection."""

    def __init__(self, config: Config, resolver: Resolver) -> None:
        self.config = config
        self.resolver = resolver

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        if ctx.auth is not None or ctx.client.ip is None or self.config.trusts(ctx.client.ip):
            return ACCEPT  # our own users, local mail, our relays
        receiver = self.config.authserv_id or ctx.macro("j", "unknown")
        # Postfix waits as long as we say that we are busy; other MTAs get an answer after 8 seconds, whatever it is.
        timeout = 20.0 if ctx.mta.kind == "postfix" else 7.0
        found = await spf.check_host(
            ctx.client.ip, mail.address, ctx.helo, resolver=self.resolver, receiver=receiver, timeout=timeout
        )
        ctx.notes["spf"] = found
        ctx.notes["receiver"] = receiver
        ctx.notes["fields"] = []
        match self.config.action(found):
            case "reject":
                return Reply(550, "5.7.24" if found.result == "permerror" else "5.7.23", found.explanation)
            case "tempfail":
                return Reply(451, "4.7.24", found.explanation)
            case _:
                return CONTINUE

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        if header.name.lower() in ("received-spf", "authentication-results"):
            ctx.notes["fields"].append((header.name, header.value))

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        found, receiver, fields = ctx.notes["spf"], ctx.notes["receiver"], ctx.notes["fields"]
        for occurrence in results.forged(fields, receiver):
            ctx.delete_header("Authentication-Results", occurrence)
        for occurrence in spf.forged_received_spf(fields, receiver):
            ctx.delete_header("Received-SPF", occurrence)
        smtputf8 = ctx.sender is not None and "SMTPUTF8" in ctx.sender.keywords
        ours = results.AuthenticationResults(receiver, (found.method_result(),))
        ctx.insert_header("Authentication-Results", ours.value(smtputf8=smtputf8))
        ctx.insert_header("Received-SPF", found.received_spf(receiver=receiver, smtputf8=smtputf8))
        return CONTINUE


def read_config() -> Config:
    """Read the file that is named, or the one in the working directory if there is one."""
    named = os.environ.get("SPF_MILTER_CONFIG")
    path = Path(named or "spf_milter.toml")
    return Config.from_toml(path.read_text()) if named or path.exists() else Config()


@asynccontextmanager
async def milter() -> AsyncIterator[Callable[[], SpfMilter]]:
    """Read the settings and keep one cache of DNS answers for all connections."""
    config = read_config()
    async with resolver(*config.nameservers) if config.nameservers else system_resolver() as shared:
        yield lambda: SpfMilter(config, shared)
