"""What a gateway costs that checks where mail comes from: ``python -m benchmarks gateway``; see ``benchmarks/auth.py``."""

from benchmarks import auth


def main(arguments: list[str]) -> int:
    """Measure the ready filter ``authenticate`` beside OpenDKIM and OpenDMARC."""
    return auth.main(["gateway", *arguments])
