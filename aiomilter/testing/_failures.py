"""Failures of a filter under test, kept until they can be raised in the test."""

from aiomilter.exceptions import LocalProtocolError
from aiomilter.observe import (
    CallbackFailed,
    CallbackTimedOut,
    InternalError,
    Lifecycle,
    Limit,
    LimitReached,
    Observer,
    Where,
)

__all__ = ["Failures"]


class Failures(Observer):
    """An observer that keeps failures."""

    def __init__(self) -> None:
        self._kept: list[Exception] = []

    def callback_failed(self, event: CallbackFailed) -> None:
        """Keep a failure."""
        self._keep(event.where, event.what, event.error)

    def callback_timed_out(self, event: CallbackTimedOut) -> None:
        """Keep a failure."""
        self._keep(event.where, event.what, None)

    def internal_error(self, event: InternalError) -> None:
        """Keep a failure."""
        self._keep(event.where, event.what, event.error)

    def lifecycle(self, event: Lifecycle) -> None:
        """Keep the failure of a factory."""
        if event.kind.endswith("_failed"):
            self._keep(event.where, event.what, event.error)

    def limit_reached(self, event: LimitReached) -> None:
        """Keep that a callback has asked for too many edits."""
        if event.limit is Limit.EDITS:
            self._keep(event.where, event.what, None)

    def _keep(self, where: Where, what: str, error: BaseException | None) -> None:
        if isinstance(error, Exception):
            self._kept.append(error)
            return
        # Raised in the test, SystemExit and CancelledError would end more than the test.
        failure = LocalProtocolError(f"{where.callback}: {what}" if where.callback else what)
        failure.__cause__ = error
        self._kept.append(failure)

    def take(self) -> list[Exception]:
        """Return the failures kept so far, and forget them."""
        kept, self._kept = self._kept, []
        return kept

    def raise_kept(self, cause: BaseException | None = None) -> None:
        """Raise the failures kept so far, once; several as a group.

        Args:
            cause: The error that they led to.
        """
        kept = self.take()
        if not kept:
            return
        failure = kept[0] if len(kept) == 1 else ExceptionGroup("callbacks failed", kept)
        if cause is None:
            raise failure
        raise failure from cause
