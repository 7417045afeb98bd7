"""``aiomilter metrics``: the files that go with the metrics of ``run --metrics``."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, Final

from aiomilter._cli.metric_files import alerts, dashboard, names

__all__ = ["add_parser"]

_DESCRIPTION: Final = """\
Print the files that go with the metrics of 'aiomilter run --metrics'.
"""
_EPILOG: Final = """\
examples:
  aiomilter metrics alerts >/etc/prometheus/aiomilter.rules.yml
  aiomilter metrics dashboard >aiomilter.json      to import into Grafana
  aiomilter metrics names
"""
_FILES: Final[dict[str, tuple[Callable[[], str], str]]] = {
    "dashboard": (dashboard, "a dashboard for Grafana"),
    "alerts": (alerts, "alert rules for Prometheus"),
    "names": (names, "the names of all metrics, with types and labels"),
}


def add_parser(commands: "argparse._SubParsersAction[Any]") -> None:
    """Add the command and its words."""
    parser = commands.add_parser(
        "metrics", help="print a dashboard and alert rules", description=_DESCRIPTION, epilog=_EPILOG
    )
    ways = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=type(parser))
    for name, (make, what) in _FILES.items():
        way = ways.add_parser(name, help=f"print {what}", description=f"Print {what}.")
        way.set_defaults(command=_print, parser=way, make=make)


def _print(arguments: argparse.Namespace) -> int:
    sys.stdout.write(arguments.make())
    return 0
