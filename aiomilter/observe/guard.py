"""An observer that raises must not disturb the mail: it is dropped, after one record."""

import logging
from collections.abc import Callable
from typing import Any, Final

from aiomilter.observe import MessageSummary, Observer, Stall, Where

__all__ = ["Guard"]

_LOGGER: Final = logging.getLogger("aiomilter")


class Guard:
    """Pass everything on to an observer until it raises.

    Args:
        observer: The one to guard.
    """

    def __init__(self, observer: Observer) -> None:
        self._observer: Observer | None = observer

    @property
    def debug(self) -> bool:
        """Whether the observer wants events; False once it is dropped."""
        if self._observer is not None:
            try:
                return self._observer.debug
            except Exception as error:  # noqa: BLE001 - it is logged
                self._drop("debug", error)
        return False

    def _tell(self, name: str, *args: Any) -> None:
        if self._observer is not None:
            try:
                getattr(self._observer, name)(*args)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._drop(name, error)

    def _drop(self, name: str, error: Exception) -> None:
        self._observer = None
        _LOGGER.error("the observer raised in %s and is dropped", name, exc_info=error)

    def started(self, address: str, everywhere: bool) -> None:
        """Pass on."""
        self._tell("started", address, everywhere)

    def stopped(self, address: str) -> None:
        """Pass on."""
        self._tell("stopped", address)

    def event(self, where: Where, event: object) -> None:
        """Pass on."""
        self._tell("event", where, event)

    def refused(self, where: Where, answer: str) -> None:
        """Pass on."""
        self._tell("refused", where, answer)

    def message_ended(self, summary: Callable[[], MessageSummary]) -> None:
        """Pass on."""
        # As _tell does, without its price: this is called for each message.
        if self._observer is not None:
            try:
                self._observer.message_ended(summary)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._drop("message_ended", error)

    def failed(self, where: Where, what: str, error: BaseException | None) -> None:
        """Pass on."""
        self._tell("failed", where, what, error)

    def remarked(self, where: Where, what: str) -> None:
        """Pass on."""
        self._tell("remarked", where, what)

    def peer_error(self, where: Where, kind: str, what: str) -> None:
        """Pass on; as a remark to an observer that knows no more than these."""
        if self._observer is not None:
            name = "peer_error"
            try:
                if (tell := getattr(self._observer, name, None)) is not None:
                    tell(where, kind, what)
                else:
                    name = "remarked"
                    self._observer.remarked(where, what)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._drop(name, error)

    def stalled(self, stall: Stall) -> None:
        """Pass on."""
        self._tell("stalled", stall)

    def noted(self, what: str) -> None:
        """Pass on."""
        self._tell("noted", what)
