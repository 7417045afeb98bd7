"""What is installed for tests is installed once, though two runs begin at the same time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["alone"]


@contextmanager
def alone(prefix: Path) -> Iterator[None]:
    """Keep other processes from installing there while the block runs; they look whether it is done when they may."""
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with prefix.with_name(f"{prefix.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
