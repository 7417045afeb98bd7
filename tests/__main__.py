"""The one door to the checks: ``python -m tests [pytest arguments]``.

Runs the format check, the linter, the type checker and the tests, in this order, and says at the end which
failed.  Arguments go to pytest; with arguments that start with a path only pytest runs: ``python -m tests tests/wire``.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
STATIC = (
    ("format", [sys.executable, "-m", "ruff", "format", "--check", "."]),
    ("lint", [sys.executable, "-m", "ruff", "check", "."]),
    ("types", [sys.executable, "-m", "mypy"]),
)


def main(arguments: list[str]) -> int:
    """Run every check, all of them even when one fails, and return the exit status of the whole."""
    checks = [("tests", [sys.executable, "-m", "pytest", *arguments])]
    if not any(not argument.startswith("-") for argument in arguments):
        checks = [*STATIC, *checks]
    failed = []
    for name, command in checks:
        print(f"== {name}: {' '.join(command[1:])}", flush=True)
        if subprocess.run(command, cwd=ROOT, check=False).returncode != 0:
            failed.append(name)
    print(f"== failed: {', '.join(failed)}" if failed else "== all checks passed", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
