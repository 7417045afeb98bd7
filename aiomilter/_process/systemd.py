"""What systemd hands to a service in its environment, and the notifications that it gets in return, a datagram each.

Source: systemd, sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

import contextlib
import os
import socket
import time
from collections.abc import Iterable, MutableMapping, Sequence
from typing import Final, Self

from aiomilter.addresses import Inherited, parse
from aiomilter.exceptions import AddressError

__all__ = ["Systemd"]

_FIRST: Final = 3
"""The descriptor of the first socket: SD_LISTEN_FDS_START."""
_SEND_TIMEOUT: Final = 1.0
"""Seconds that a service manager may take to accept a datagram; after that the notification is lost."""


class Systemd:
    """The service manager; where there is none, notifications do nothing.

    Args:
        notify: Path of its socket, an abstract one with ``@`` in front; None for no notifications.
        watchdog: Seconds within which it wants a sign of life; None if it wants none.
        handed: Descriptor and name of each listening socket it has handed over.
    """

    def __init__(
        self, notify: str | None = None, watchdog: float | None = None, handed: Sequence[tuple[int, str]] = ()
    ) -> None:
        self.watchdog = watchdog
        self.handed: tuple[tuple[int, str], ...] = tuple(handed)
        self._notify = "\0" + notify[1:] if notify is not None and notify.startswith("@") else notify

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str] | None = None) -> Self:
        """Read the variables for this process, and remove them: they are not for the processes that a filter starts.

        Args:
            environment: ``os.environ`` if None.
        """
        variables = os.environ if environment is None else environment
        taken = {name: variables.pop(name, "") for name in (
            "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"
        )}  # fmt: skip
        ours = str(os.getpid())
        watchdog = _number(taken["WATCHDOG_USEC"]) if taken["WATCHDOG_PID"] in ("", ours) else 0
        count = _number(taken["LISTEN_FDS"]) if taken["LISTEN_PID"] == ours else 0
        names = taken["LISTEN_FDNAMES"].split(":")
        handed = [(_FIRST + i, names[i] if i < len(names) else "") for i in range(count)]
        for fd, _ in handed:
            with contextlib.suppress(OSError):  # listening on it reports what is wrong
                os.set_inheritable(fd, False)
        notify = taken["NOTIFY_SOCKET"]
        return cls(notify if notify[:1] in ("/", "@") else None, watchdog / 1e6 or None, handed)

    def sockets(self, wanted: Iterable[str]) -> list[str]:
        """Return where to listen: names of sockets are replaced by their descriptors.

        Args:
            wanted: See :mod:`aiomilter.addresses`; none means all sockets that were handed over.

        Raises:
            AddressError: A text is not an endpoint, or names a socket that was not handed over.
        """
        texts: list[str] = []
        for text in wanted:
            address = parse(text)
            if not isinstance(address, Inherited) or isinstance(address.fd, int):
                texts.append(text)
                continue
            found = [fd for fd, name in self.handed if name == address.fd]
            if not found:
                names = ", ".join(name for _, name in self.handed) or "no socket"
                raise AddressError(
                    f"{text!r}: systemd has handed over {names}, see FileDescriptorName= in systemd.socket(5)"
                )
            texts += [f"fd:{fd}" for fd in found]
        return texts or [f"fd:{fd}" for fd, _ in self.handed]

    def ready(self, status: str) -> None:
        """Notify that the service serves, after its start or a reload.

        Args:
            status: For ``systemctl status``, a line.
        """
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reloading(self) -> None:
        """Notify that a reload has begun; :meth:`ready` ends it."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}", "STATUS=Loading the filter anew")

    def stopping(self) -> None:
        """Notify that the end has begun."""
        self._send("STOPPING=1", "STATUS=Letting open SMTP sessions end")

    def alive(self) -> None:
        """Give a sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._notify is None:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(_SEND_TIMEOUT)
            sender.sendto("\n".join(lines).encode("utf-8", "surrogateescape"), os.fsencode(self._notify))


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
