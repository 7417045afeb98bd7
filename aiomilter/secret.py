"""A secret among settings: a password, a token, a key, which no log and no traceback shows.

>>> Secret("pa55")
Secret('***')
>>> Secret("pa55").value
'pa55'
"""

import hmac
from typing import Final

__all__ = ["Secret"]

_SHOWN: Final = "***"


class Secret:
    """A text that is not shown: ``repr``, ``str`` and formatting give ``***``.

    The type of a field of a filter's settings: ``redis_password: Secret``.  A configuration file then gives it by
    ``{ file = "..." }``, ``{ credential = "..." }`` (systemd's ``LoadCredential=``), ``{ env = "..." }``, or as it is.  It
    cannot be pickled.

    Args:
        value: The text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not isinstance(value, str):
            raise TypeError(f"Secret: expected str, found {type(value).__name__}")
        self._value = value

    @property
    def value(self) -> str:
        """The text itself, for the library that needs it."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({_SHOWN!r})"

    def __str__(self) -> str:
        return _SHOWN

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        # In a time that does not depend on where they differ.
        return hmac.compare_digest(_octets(self._value), _octets(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __reduce__(self) -> str:
        raise TypeError("a Secret cannot be pickled: the copy would show it")


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
