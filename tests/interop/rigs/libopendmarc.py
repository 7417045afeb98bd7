"""libopendmarc as a judge of DMARC by RFC 7489, in a process of its own: ``python -m tests.interop.rigs.libopendmarc``.

It reads a JSON list of messages and writes a JSON list of verdicts.
"""

import ctypes
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from ctypes.util import find_library
from dataclasses import asdict, dataclass
from typing import Any, Final

_OUTCOMES: Final = {"none": 0, "pass": 1, "fail": 2, "temperror": 3}
_ALIGNED: Final = 4
_POLICIES: Final = {14: "absent", 15: "pass", 16: "reject", 17: "quarantine", 18: "none"}


@dataclass(frozen=True)
class Message:
    """What is known of a message: its author's domain, the record found, and where; results and domains."""

    author: str
    record: str
    at: str
    spf: tuple[str, str]
    dkim: tuple[tuple[str, str], ...]


def missing() -> str | None:
    return None if find_library("opendmarc") else "libopendmarc is not installed"


def judged(messages: Sequence[Message], suffixes: Sequence[str]) -> list[dict[str, Any]]:
    """Return for each message the policy to enforce (``pass`` if it is aligned) and what is aligned.

    Args:
        messages: The messages.
        suffixes: The public suffix list.
    """
    given = json.dumps({"messages": [asdict(message) for message in messages], "suffixes": suffixes})
    command = [sys.executable, "-m", __name__]
    run = subprocess.run(command, input=given.encode(), stdout=subprocess.PIPE, timeout=60, check=True)
    found: list[dict[str, Any]] = json.loads(run.stdout)
    return found


def _main() -> None:
    given = json.load(sys.stdin)
    library = ctypes.CDLL(find_library("opendmarc"))
    library.opendmarc_policy_connect_init.restype = ctypes.c_void_p
    with tempfile.NamedTemporaryFile("w", suffix=".dat") as file:
        file.write("".join(f"{suffix}\n" for suffix in given["suffixes"]))
        file.flush()
        if library.opendmarc_tld_read_file(file.name.encode(), b"//", b"*.", b"!"):
            raise SystemExit("no public suffix list")
    json.dump([_judged(library, **message) for message in given["messages"]], sys.stdout)


def _judged(library: Any, author: str, record: str, at: str, spf: list[str], dkim: list[list[str]]) -> dict[str, Any]:
    context = ctypes.c_void_p(library.opendmarc_policy_connect_init(b"192.0.2.1", 4))
    library.opendmarc_policy_store_from_domain(context, author.encode())
    library.opendmarc_policy_store_spf(context, spf[1].encode(), _OUTCOMES[spf[0]], 1, None)
    for result, domain in dkim:
        library.opendmarc_policy_store_dkim(context, domain.encode(), b"s", _OUTCOMES[result], None)
    above = at.encode() if at != author else None
    library.opendmarc_policy_store_dmarc(context, record.encode(), author.encode(), above)
    policy = library.opendmarc_get_policy_to_enforce(context)
    aligned = [ctypes.c_int(), ctypes.c_int()]
    library.opendmarc_policy_fetch_alignment(context, *map(ctypes.byref, aligned))
    library.opendmarc_policy_connect_shutdown(context)
    names = [name for name, found in zip(("dkim", "spf"), aligned, strict=True) if found.value == _ALIGNED]
    return {"policy": _POLICIES.get(policy, str(policy)), "aligned": sorted(names, reverse=True)}


if __name__ == "__main__":
    _main()
