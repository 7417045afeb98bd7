"""The checks: each module has a kind of them, with the words that name its findings."""

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.checks import sockets
from aiomilter._doctor.findings import Finding

__all__ = ["CHECKS", "WORDS"]

_MODULES: Final = (sockets,)
CHECKS: Final[tuple[Callable[[Case], Iterator[Finding]], ...]] = tuple(module.check for module in _MODULES)
WORDS: Final[Mapping[str, str]] = {word: text for module in _MODULES for word, text in module.WORDS.items()}
"""All words that name findings, and what each means."""
