"""How long a test waits for what takes milliseconds on an idle machine."""

from typing import Final

__all__ = ["PATIENCE"]

PATIENCE: Final = 300.0
"""Seconds. Only what hangs takes that long: no other work on the machine turns a slow test into a failed one."""
