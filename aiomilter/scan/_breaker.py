"""Leave a scanner alone that does not work: callers get their answer at once, and the scanner gets time to come back."""

from typing import Final

__all__ = ["FAILURES", "PAUSE", "Breaker"]

FAILURES: Final = 5
"""So many scans in a row fail before it is not asked any more."""
PAUSE: Final = 10.0
"""Seconds that it is not asked then; after that one scan tries, and the others go on once that has succeeded."""


class Breaker:
    """Counts failures of one scanner."""

    def __init__(self) -> None:
        self._failed = 0
        self._until = 0.0
        self._why = ""
        self._trying = False

    def refusal(self, now: float) -> str:
        """Return why the scanner is not to be asked now; "" if it is."""
        if self._failed < FAILURES or (now >= self._until and not self._trying):
            return ""
        return f"not asked again yet after {FAILURES} failures in a row: {self._why}"

    def begin(self) -> bool:
        """Begin to ask, and return whether this is the one scan that tries after a pause."""
        tries = self._failed >= FAILURES
        self._trying = self._trying or tries
        return tries

    def end(self, tries: bool) -> None:
        """End what :meth:`begin` began, whatever came of it."""
        if tries:
            self._trying = False

    def succeeded(self) -> None:
        """Count an answer."""
        self._failed = 0

    def failed(self, why: str, now: float, tries: bool) -> None:
        """Count a failure.  What was under way when the scanner was found not to work says nothing new."""
        if tries or self._failed < FAILURES:
            self._failed += 1
            self._why = why
            self._until = now + PAUSE
