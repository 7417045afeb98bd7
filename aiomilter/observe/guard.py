"""An observer that raises must not disturb the mail: the method that did is logged once and is not called any more."""

import logging
from collections.abc import Callable, Sequence
from typing import Final

from aiomilter.observe.events import AnswerSent, EventSeen, MessageCount, MessageEnded, ObserverEvent
from aiomilter.observe.observer import METHOD_OF, Observer

__all__ = ["Guard", "check_observer"]

_LOGGER: Final = logging.getLogger("aiomilter")


def check_observer(given: object) -> tuple[Observer, ...]:
    """Return the observers that an option names: none, one, or a sequence.

    Raises:
        TypeError: A class was given in the place of an observer.
    """
    if given is None:
        return ()
    observers = tuple(given) if isinstance(given, list | tuple) else (given,)
    for each in observers:
        if isinstance(each, type):
            raise TypeError(f"observer: expected an observer, found the class {each.__name__}; call it")
        if each is None or isinstance(each, str | bytes | int):
            raise TypeError(f"observer: expected an observer, found {each!r}")
    return observers


class Guard:
    """Tell several observers what happens, each of them whatever the others do.

    Args:
        observers: One, or several.
    """

    def __init__(self, observers: Observer | Sequence[Observer]) -> None:
        self._observers: list[Observer] = []
        self.timing: bool = False
        """Whether an observer wants the times of callbacks."""
        # What is not called any more.
        self._skipped: set[tuple[int, str]] = set()
        # Those that may want these; the others cost nothing where connections begin and messages end.
        self._of_debug: list[Observer] = []
        self._of_messages: list[Observer] = []
        self.counting: list[Observer] = []
        """Those that take messages in short."""
        for observer in check_observer(observers):
            self.add(observer)

    def add(self, observer: Observer) -> None:
        """Tell one more."""
        self._observers.append(observer)
        # One that a program has made may be no Observer at all.
        self.timing = self.timing or getattr(observer, "timing", False) is True
        if _overrides(observer, "debug"):
            self._of_debug.append(observer)
        if _overrides(observer, "message_ended"):
            self._of_messages.append(observer)
        if _overrides(observer, "message_counted"):
            self.counting = [*self.counting, observer]

    @property
    def debug(self) -> bool:
        """Whether an observer wants every event of the MTA, and every answer."""
        for observer in self._of_debug:
            try:
                if observer.debug:
                    return True
            except Exception as error:  # noqa: BLE001 - it is logged
                self._skip(observer, "debug", error)
        return False

    def tell(self, event: ObserverEvent) -> None:
        """Tell all observers; of events of the MTA and of answers those only that want ``debug``."""
        kind = type(event)
        name = METHOD_OF[kind]
        if kind is EventSeen or kind is AnswerSent:
            observers, only_debug = self._of_debug, True
        else:
            observers, only_debug = self._observers, False
        for observer in observers:
            if (id(observer), name) in self._skipped:
                continue
            try:
                if only_debug and not observer.debug:
                    continue
                getattr(observer, name)(event)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._skip(observer, name, error)

    def message_ended(self, make: Callable[[], MessageEnded | None]) -> None:
        """Tell those that want it of the end of a message; the event is made only then, this is called for each message.

        Args:
            make: Returns the event; None if that is told later, by :meth:`shadows_ended`.
        """
        event = None
        for observer in self._of_messages:
            try:
                if observer.wants_messages():
                    if event is None:
                        event = make()
                        if event is None:
                            return
                    observer.message_ended(event)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._skip(observer, "message_ended", error)
        if event is not None and event.shadow:
            self._shadows_compared(event)

    def shadows_ended(self, make: Callable[[], MessageEnded | None]) -> None:
        """Tell of the end of a message that shadows have seen, and have it counted even if no observer wants messages.

        Args:
            make: As for :meth:`message_ended`, which may return None once more.
        """
        if self.tells_messages():
            self.message_ended(make)
        elif self.counting and (event := make()) is not None and event.shadow:
            self._shadows_compared(event)

    def tells_messages(self) -> bool:
        """Return whether an observer wants to be told of the end of a message."""
        for observer in self._of_messages:
            try:
                if observer.wants_messages():
                    return True
            except Exception as error:  # noqa: BLE001 - it is logged
                self._skip(observer, "message_ended", error)
        return False

    def _shadows_compared(self, event: MessageEnded) -> None:
        for observer in self.counting:
            try:
                observer.shadows_compared(event)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._skip(observer, "shadows_compared", error)

    def message_counted(self, event: MessageCount) -> None:
        """Tell those that want it of the end of a message in short; called only where there are any."""
        for observer in self.counting:
            try:
                observer.message_counted(event)
            except Exception as error:  # noqa: BLE001 - it is logged
                self._skip(observer, "message_counted", error)

    def _skip(self, observer: Observer, name: str, error: Exception) -> None:
        """Log that a method has raised, and call it no more; the lists are others from here on, as they may be gone through."""
        self._skipped.add((id(observer), name))
        if name == "debug":
            self._of_debug = [each for each in self._of_debug if each is not observer]
        elif name == "message_ended":
            self._of_messages = [each for each in self._of_messages if each is not observer]
        elif name in ("message_counted", "shadows_compared"):
            self.counting = [each for each in self.counting if each is not observer]
        kind = type(observer)
        text = "%s.%s.%s raised and is not called any more"
        _LOGGER.error(text, kind.__module__, kind.__qualname__, name, exc_info=error)


def _overrides(observer: Observer, name: str) -> bool:
    return getattr(type(observer), name, None) is not getattr(Observer, name)
