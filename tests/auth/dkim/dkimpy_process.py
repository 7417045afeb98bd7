"""dkimpy as a judge: each line of stdin is a question in JSON, each line of stdout its answer."""

import json
import re
import sys
from base64 import b64decode
from typing import Any

import dkim  # type: ignore[import-untyped]  # it has no types


def verify(question: dict[str, Any]) -> list[str]:
    def txt(name: bytes, timeout: int = 5) -> bytes | None:
        record = question["records"].get(name.decode().removesuffix("."))
        return None if record is None else record.encode()

    verifier = dkim.DKIM(b64decode(question["message"]))
    count = sum(name.lower() == b"dkim-signature" for name, _ in verifier.headers)
    found = []
    for index in range(count):
        try:
            found.append("pass" if verifier.verify(idx=index, dnsfunc=txt) else "fail")
        except dkim.DKIMException as error:
            found.append(f"invalid: {error}")
    return found


def sign(question: dict[str, Any]) -> list[str]:
    header, body = question["canonicalization"].encode().split(b"/")
    key = question["key"].encode()
    if question["type"] == "ed25519":
        # It wants the seed alone: the last octets of PKCS#8.
        der = b64decode(re.sub(r"-----[^-]+-----|\s", "", question["key"]))
        from base64 import b64encode

        key = b64encode(der[-32:])
    field = dkim.sign(
        b64decode(question["message"]),
        question["selector"].encode(),
        question["domain"].encode(),
        key,
        canonicalize=(header, body),
        signature_algorithm=f"{question['type']}-sha256".encode(),
    )
    return [field.decode()]


for line in sys.stdin:
    question = json.loads(line)
    print(json.dumps(sign(question) if "key" in question else verify(question)), flush=True)
