"""What the package and its extras install has a permissive licence, as its metadata says."""

import email.message
import importlib.metadata
import re
from typing import Final, cast

import pytest

from tests.test_cli_beside import needed

PERMISSIVE: Final = re.compile(r"(MIT|MIT-0|MIT License|BSD|BSD-[23]-Clause|Apache-2\.0|ISC|Zlib|MPL-2\.0|PSF-2\.0)")
CLASSIFIERS: Final = (
    "Apache Software License",
    "MIT License",
    "BSD License",
    "ISC License (ISCL)",
    "zlib/libpng License",
)


def is_permissive(data: importlib.metadata.PackageMetadata) -> bool:
    """Return whether one of the licences that may be chosen is permissive."""
    stated = next((data[field] for field in ("License-Expression", "License") if field in data), "")
    # One of those that may be chosen, and each of those that hold together.
    return any(
        all(PERMISSIVE.fullmatch(each.strip(" ()")) for each in choice.split(" AND "))
        for choice in stated.split(" OR ")
    ) or any(classifier.endswith(CLASSIFIERS) for classifier in data.get_all("Classifier") or ())


def test_all_that_is_installed_with_the_package_is_permissive() -> None:
    extras = set(importlib.metadata.metadata("aiomilter").get_all("Provides-Extra") or ()) - {"test", "types"}
    found = set(needed("aiomilter", tuple(extras), set())) - {"aiomilter"}
    assert {"dnspython", "cryptography", "redis", "asyncpg"} <= found
    assert sorted(each for each in found if not is_permissive(importlib.metadata.metadata(each))) == []


@pytest.mark.parametrize(
    ("field", "value", "permissive"),
    [
        ("License-Expression", "MIT", True),
        ("License-Expression", "Apache-2.0 AND MIT", True),
        ("License-Expression", "MIT AND GPL-3.0-only", False),
        ("License-Expression", "GPL-3.0-or-later OR Apache-2.0", True),
        ("License-Expression", "GPL-3.0-or-later", False),
        ("License", "LGPL with exceptions", False),
        ("Classifier", "License :: OSI Approved :: GNU General Public License v2 (GPLv2)", False),
    ],
)
def test_another_licence_is_seen(field: str, value: str, permissive: bool) -> None:
    data = email.message.Message()
    data[field] = value
    assert is_permissive(cast(importlib.metadata.PackageMetadata, data)) == permissive
