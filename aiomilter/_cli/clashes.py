"""Options of ``aiomilter run`` that are right one by one, and do not go together."""

import ipaddress
from collections.abc import Iterator

from aiomilter._cli.beside import is_installed
from aiomilter._cli.options import RunOptions
from aiomilter._cli.status import check_installed
from aiomilter._cli.trouble import USAGE, Trouble
from aiomilter._option import Group, rows
from aiomilter._serving.status_address import parse_status
from aiomilter.addresses import Inet
from aiomilter.exceptions import AddressError
from aiomilter.options import Options, ServeOptions

__all__ = ["clashes", "exposed"]


def clashes(options: RunOptions, given: ServeOptions) -> Iterator[tuple[str, Trouble]]:
    """Yield what does not go together: the name of the option, and the error.

    Args:
        options: Of the command.
        given: Those of :func:`aiomilter.serve`.
    """
    if options.store is not None and options.smtp is None:
        what = "--store needs --smtp, as in --smtp 2525: an MTA's mail is not stored"
        yield "store", Trouble(what, status=USAGE)
    for name, value in (("client", options.smtp_client), ("auth", options.smtp_auth)):
        if value is not None and options.smtp is None:
            yield f"smtp_{name}", Trouble(f"--smtp-{name} needs --smtp, as in --smtp 2525", status=USAGE)
    if options.workers > 1 and options.smtp is not None:
        what = "--smtp is for trying a filter out, with one process; leave --workers out"
        yield "smtp", Trouble(what, status=USAGE)
    yield from _of_metrics(options)
    for name in ("token", "content", "play"):
        if getattr(options, f"inspect_{name}") is not None and options.inspect is None:
            yield f"inspect_{name}", Trouble(f"--inspect-{name} needs --inspect", status=USAGE)
    if options.workers > 1 and options.inspect_play:
        yield "inspect_play", Trouble("--inspect-play needs one process; leave --workers out", status=USAGE)
    if options.inspect is not None and not is_installed("aiohttp"):
        yield "inspect", Trouble("--inspect needs aiohttp: pip install 'aiomilter[web]'")
    if options.uvloop and not is_installed("uvloop"):
        yield "uvloop", Trouble("--uvloop needs uvloop: pip install 'aiomilter[uvloop]'")
    # The SMTP server of the command has to be let in.
    access = [
        f"--{row.command}"
        for row in (*rows(Options), *rows(RunOptions))
        if row.option.group is Group.ACCESS and (row.name in given or getattr(options, row.name, None) is not None)
    ]
    if options.smtp is not None and access:
        what = f"--smtp is for trying a filter: give it without {' and '.join(access)}"
        yield "smtp", Trouble(what, status=USAGE)


def _of_metrics(options: RunOptions) -> Iterator[tuple[str, Trouble]]:
    if options.metrics is not None:
        try:
            check_installed()
        except Trouble as error:
            yield "metrics", error
    elif options.metrics_allow is not None:
        what = "--metrics-allow needs --metrics, as in --metrics 127.0.0.1:9464"
        yield "metrics_allow", Trouble(what, status=USAGE)


def exposed(options: RunOptions) -> Iterator[tuple[str, Trouble]]:
    """Yield what a start says once it has bound the address of ``--metrics``, as far as that is known without; see above."""
    if options.metrics is None or options.metrics_allow is not None:
        return
    try:
        address = parse_status(options.metrics)
    except AddressError as error:
        yield "metrics", Trouble(f"--metrics {error}", status=USAGE)
        return
    if isinstance(address, Inet) and _is_open(address.host):
        what = f"--metrics {options.metrics!r}: other hosts would reach it; give --metrics-allow, or an address of the loopback"
        yield "metrics", Trouble(what, status=USAGE)


def _is_open(host: str | None) -> bool:
    """Return whether other hosts reach an address; of a name that is not known before it is looked up."""
    if host is None:
        return True
    try:
        return not ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
