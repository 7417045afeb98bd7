"""How many workers there are, for what cannot be right in the memory of one of them alone.

It is a fact of the process: the supervisor's fork sets it, and a store looks at it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

__all__ = ["as_one_of", "worker_count"]

_count: Final = [1]


def worker_count() -> int:
    """Return the number of processes that serve the same mail as this one, itself included."""
    return _count[0]


@contextmanager
def as_one_of(workers: int) -> Iterator[None]:
    """Be one of so many workers while the block runs."""
    before = worker_count()
    _count[0] = workers
    try:
        yield
    finally:
        _count[0] = before
