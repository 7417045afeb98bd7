"""dkimpy's ARC as a judge: each line of stdin is a question in JSON, each line of stdout its answer."""

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

    result, _, reason = dkim.arc_verify(b64decode(question["message"]), dnsfunc=txt)
    return [result.decode() if result else "fail", reason]


def seal(question: dict[str, Any]) -> list[str]:
    key = question["key"].encode()
    signer = dkim.ARC(b64decode(question["message"]))
    signer.signature_algorithm = f"{question['type']}-sha256".encode()
    assert question["type"] == "rsa"  # its sealer loads no other
    fields = signer.sign(
        question["selector"].encode(), question["domain"].encode(), key, question["authserv_id"].encode()
    )
    return [re.sub(r"\r?\n\Z", "", field.decode()) for field in fields]


for line in sys.stdin:
    asked = json.loads(line)
    print(json.dumps(seal(asked) if "key" in asked else verify(asked)), flush=True)
