"""Who may send what: our networks anything, our people as themselves and over TLS, the rest only what is well formed."""

from ipaddress import ip_network

from aiomilter import (
    ACCEPT,
    Connect,
    ConnectionResponse,
    Context,
    EndOfMessageContext,
    Header,
    Mail,
    Milter,
    Reply,
    Response,
    no_reply,
)

OUR_NETWORKS = (ip_network("127.0.0.0/8"), ip_network("::1/128"), ip_network("192.0.2.0/28"))


class ClientPolicy(Milter):
    """Refuse at the first step that tells enough."""

    async def connect(self, ctx: Context, connect: Connect) -> ConnectionResponse | None:
        if connect.ip is None or any(connect.ip in network for network in OUR_NETWORKS):
            return ACCEPT
        return None

    async def envfrom(self, ctx: Context, mail: Mail) -> Response | None:
        self.names: list[str] = []
        if ctx.auth is not None:
            if ctx.tls is None:
                return Reply(530, "5.7.0", "Use STARTTLS first")
            if mail.address.lower() != ctx.auth.login.lower():
                return Reply(550, "5.7.1", f"{ctx.auth.login} may not send as {mail.address}")
        elif ctx.macro("daemon_name") == "submission":
            return Reply(530, "5.7.0", "Authentication required")
        return None

    @no_reply
    async def header(self, ctx: Context, header: Header) -> None:
        self.names.append(header.name.lower())

    async def eom(self, ctx: EndOfMessageContext) -> Response | None:
        for name in ("from", "date"):
            if self.names.count(name) != 1:
                return Reply(550, "5.6.0", f"Expected one {name.capitalize()} field, found {self.names.count(name)}")
        return None
