"""The checks: each module has a kind of them, with the words that name its findings."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.checks import (
    endpoints,
    failure,
    lists,
    machine,
    macros,
    network,
    order,
    recipients,
    sockets,
    timeouts,
)
from aiomilter._doctor.findings import Finding

__all__ = ["CHECKS", "MODULES", "WORDS"]

MODULES: Final = (sockets, endpoints, lists, failure, timeouts, macros, order, recipients, network, machine)
CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = (
    # A filter starts where its directories and services are.
    machine.check,
    *(module.check for module in MODULES if module is not machine),
)
WORDS: Final[Mapping[str, str]] = {word: text for module in MODULES for word, text in module.WORDS.items()}
"""All words that name findings, and what each means."""
