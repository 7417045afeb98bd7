"""What goes wrong in a filter under test, kept until the test can be told."""

from typing import Any

from aiomilter.exceptions import LocalProtocolError
from aiomilter.observe import Observer, Where

__all__ = ["Failures"]


class Failures:
    """An observer that keeps failures and passes everything on.

    Args:
        observer: Hears it all.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._kept: list[Exception] = []

    def __getattr__(self, name: str) -> Any:
        """Pass on."""
        return getattr(self._observer, name)

    def failed(self, where: Where, what: str, error: BaseException | None) -> None:
        """Keep a failure, and pass on."""
        if isinstance(error, Exception):
            self._kept.append(error)
        else:
            # Raised in the test, SystemExit and CancelledError would end more than the test.
            failure = LocalProtocolError(f"{where.callback}: {what}" if where.callback else what)
            failure.__cause__ = error
            self._kept.append(failure)
        self._observer.failed(where, what, error)

    def raise_kept(self, cause: BaseException | None = None) -> None:
        """Raise what has been kept, once; several as a group.

        Args:
            cause: What it has led to.
        """
        kept, self._kept = self._kept, []
        if not kept:
            return
        failure = kept[0] if len(kept) == 1 else ExceptionGroup("callbacks failed", kept)
        if cause is None:
            raise failure
        raise failure from cause
