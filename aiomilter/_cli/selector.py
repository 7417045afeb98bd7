"""The selector that a DKIM key gets if no other is asked for."""

import datetime

__all__ = ["selector_of"]


def selector_of(day: datetime.date) -> str:
    """Return the selector of keys made on a day, by its quarter of the year: ``2026q4``."""
    return f"{day.year}q{(day.month + 2) // 3}"
