"""Making frozen values of many fields fast: one that is made for each message costs more than what is said about it."""

from typing import Any

__all__ = ["draft_of"]


def draft_of(kind: type[Any]) -> type[Any]:
    """Return a class whose instances take all fields of a frozen dataclass with slots, and then become one of that.

    The generated ``__init__`` sets each field by a call, which costs ten times what an assignment does.  So::

        draft = Draft()
        draft.name = "alice"  # all fields, those with a default as well
        draft.__class__ = Person

    Args:
        kind: The dataclass; it has no base class.
    """
    return type(f"{kind.__name__}Draft", (), {"__slots__": kind.__slots__, "__module__": __name__})
