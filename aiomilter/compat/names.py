"""The names that programs for pymilter import."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["MODULES"]

MODULES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "milter": "aiomilter.compat.lowlevel",
        "Milter": "aiomilter.compat.classic",
        "Milter.cache": "aiomilter.compat.modules.cache",
        "Milter.config": "aiomilter.compat.modules.config",
        "Milter.dns": "aiomilter.compat.modules.dns",
        "Milter.dsn": "aiomilter.compat.modules.dsn",
        "Milter.dynip": "aiomilter.compat.modules.dynip",
        "Milter.greylist": "aiomilter.compat.modules.greylist",
        "Milter.greysql": "aiomilter.compat.modules.greylist",
        "Milter.plock": "aiomilter.compat.modules.plock",
        "Milter.policy": "aiomilter.compat.modules.policy",
        "Milter.pyip6": "aiomilter.compat.modules.pyip6",
        "Milter.sgmllib": "aiomilter.compat.modules.sgmllib",
        "Milter.test": "aiomilter.compat.modules.test",
        "Milter.testctx": "aiomilter.compat.modules.testctx",
        "Milter.unsign": "aiomilter.compat.modules.unsign",
        "Milter.utils": "aiomilter.compat.modules.utils",
        "mime": "aiomilter.compat.modules.mime",
    }
)
"""Names that programs import, and the module that each gives."""
