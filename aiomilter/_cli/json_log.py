"""Records of the commands as JSON."""

from typing import Any

from aiomilter._cli.shortened import shortened
from aiomilter.observe.json import JsonFormatter

__all__ = ["OneObject"]


class OneObject(JsonFormatter):
    """A record is one JSON object; tracebacks are shortened as those of text are."""

    def formatException(self, exception: Any) -> str:
        return super().formatException(shortened(exception))
