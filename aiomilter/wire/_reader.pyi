from typing import Any

from aiomilter.wire.reader import Wire

__all__ = ["read"]

def read(wire: Wire, most: int = ...) -> list[Any]: ...
