"""The names that programs for pymilter import."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["MODULES"]

MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "milter": "aiomilter.compat.lowlevel",
        "Milter": "aiomilter.compat.classic",
        "Milter.cache": "aiomilter.compat.cache",
        "Milter.config": "aiomilter.compat.config",
        "Milter.dns": "aiomilter.compat.dns",
        "Milter.dsn": "aiomilter.compat.dsn",
        "Milter.dynip": "aiomilter.compat.dynip",
        "Milter.greylist": "aiomilter.compat.greylist",
        "Milter.greysql": "aiomilter.compat.greylist",
        "Milter.plock": "aiomilter.compat.plock",
        "Milter.policy": "aiomilter.compat.policy",
        "Milter.pyip6": "aiomilter.compat.pyip6",
        "Milter.sgmllib": "aiomilter.compat.sgmllib",
        "Milter.test": "aiomilter.compat.testbase",
        "Milter.testctx": "aiomilter.compat.testctx",
        "Milter.unsign": "aiomilter.compat.unsign",
        "Milter.utils": "aiomilter.compat.parsing",
        "mime": "aiomilter.compat.mime",
    }
)
"""What programs import, and the module that they get."""
