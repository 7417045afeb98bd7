"""The site that ready filters stand on: its options, and what they amount to."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiomilter._config.faults import Fault
from aiomilter._config.table import assembled
from aiomilter._option import Group, Kind, Option, check, option
from aiomilter.secret import Secret

if TYPE_CHECKING:
    from aiomilter._config.reading import FileValues
    from aiomilter.filters import Site

__all__ = ["SiteOptions", "site_of"]

_PATHS: Final[Mapping[str, tuple[str, ...]]] = {
    "internal": ("networks", "internal"),
    "trusted_relays": ("networks", "trusted_relays"),
    "store": ("state", "store"),
}
"""Where fields of a Site stand in a file, if not at its top under the same name."""
_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteOptions:
    """The options of ``aiomilter run`` that ready filters stand on; see :class:`aiomilter.filters.Site`."""

    hostname: str | None = option(
        None,
        Option(
            Kind.LINE, Group.SITE, "in replies and Received-SPF", none="the MTA's own name (macro j)", metavar="NAME"
        ),
    )
    authserv_id: str | None = option(
        None,
        Option(
            Kind.LINE,
            Group.SITE,
            "in Authentication-Results and ARC; removed where others write it",
            none="``hostname``",
            metavar="NAME",
        ),
    )
    own_domains: Collection[str] | None = option(
        None, Option(Kind.DOMAINS, Group.SITE, "ours, with those below them", none="not known")
    )
    internal: Collection[str] | None = option(
        None,
        Option(
            Kind.NETWORKS,
            Group.SITE,
            "our networks: what the word internal means to ready filters",
            none="the loopback",
            toml="networks.internal",
        ),
    )
    trusted_relays: Collection[str] | None = option(
        None,
        Option(
            Kind.NETWORKS,
            Group.SITE,
            "our own MTAs in front: the client is the one that they name",
            none="there are none",
            toml="networks.trusted_relays",
        ),
    )
    state: str = option(
        "memory:",
        Option(
            Kind.LINE,
            Group.SITE,
            "where ready filters keep what outlives a message, as in sqlite:/var/lib/aiomilter/state.db",
            toml="state.store",
            metavar="URL",
        ),
    )

    def __post_init__(self) -> None:
        """Check every value."""
        check(self)


def site_of(
    values: Mapping[str, Any], file: "FileValues | None", faults: list[Fault], warnings: list[str]
) -> "Site | None":
    """Return the site that options amount to; None if something is wrong with them.

    Args:
        values: Of the options, by the names of keys.
        file: The file, for what stands there alone; None if there is none.
        faults: Gets what is wrong.
        warnings: Gets what is questionable.
    """
    from aiomilter._config.written import without_password
    from aiomilter.filters import Site

    given = {name: value for name, value in assembled(values, SiteOptions).items() if value is not None}
    if "state" in given:
        given["store"] = given.pop("state")
    before = len(faults)
    if file is not None:
        given.update(_of_file(file, faults, warnings))
        scheme, colon, path = given.get("store", "").partition(":")
        if scheme == "sqlite" and colon and _PATHS["store"] in file.document.lines:
            given["store"] = f"{scheme}:{file.document.beside(path)}"
    if without_password(given.get("store", "")) != given.get("store", ""):
        faults.append(
            _fault(file, "store", 'expected no password in the URL; write password = { file = "..." } below it')
        )
    if len(faults) > before:
        return None
    try:
        return Site(**given)
    except ValueError as error:
        name, _, what = str(error).partition(": ")
        faults.append(_fault(file, name, what))
        return None


def _of_file(file: "FileValues", faults: list[Fault], warnings: list[str]) -> dict[str, Any]:
    """Return what only a file can give: secrets, and the names of sockets."""
    from aiomilter._config.conversion import Conversion

    conversion = Conversion(file.document, warnings.append)
    given: dict[str, Any] = {}
    for name, value in file.secrets.items():
        kind = tuple[Secret, ...] if name == "key" and isinstance(value, list) else Secret
        made = conversion.made(kind, value, ("state", name))
        given["password" if name == "password" else "keys"] = (
            made if name == "password" or type(made) is tuple else (made,)
        )
    faults += conversion.faults
    listen = file.document.values.get("listen")
    if isinstance(listen, dict):
        for name in listen:
            if not _NAME.fullmatch(name):
                faults.append(file.document.fault(("listen", name), "expected a name of letters, digits, _ and -"))
        given["listeners"] = listen
    return given


def _fault(file: "FileValues | None", name: str, what: str) -> Fault:
    """Return a fault of a field of the site."""
    path = _PATHS.get(name, (name,))
    if file is not None and path in file.document.lines:
        return file.document.fault(path, what)
    return Fault(f"--{name.replace('_', '-')}", 0, what)
