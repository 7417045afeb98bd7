"""``python -m tests.conformance``: every rule of the protocol, and the tests that cite it."""

from tests.conformance.rules import RULES, citations


def main() -> int:
    """Print the rules with their tests, and what is missing; return 1 if anything is."""
    found = citations()
    missing = []
    for section, rules in RULES.items():
        print(f"{section}\n")
        for number, text in rules.items():
            print(f"P-{number:03} {text}")
            for test in found.get(number, []):
                print(f"      {test}")
            if number not in found:
                missing.append(number)
                print("      no test yet")
        print()
    total = sum(map(len, RULES.values()))
    print(f"{total - len(missing)} of {total} rules have a test.")
    return bool(missing)


if __name__ == "__main__":
    raise SystemExit(main())
