"""Whether the filters of a file fit together: each has the words and results that it needs, and the order can be meant."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from aiomilter._cli.target import Target
from aiomilter._config.faults import Fault
from aiomilter._config.file import Document
from aiomilter._config.lines import Path

__all__ = ["check_words", "questionable"]

_AUTHENTICATE: Final = "; authenticate does"
_GIVERS: Final[Mapping[str, str]] = {
    "known_sender": "; known_senders does",
    "good_reputation": "; reputation does",
    "outbound": "",
}
_LISTENER: Final = "listener:"
_NO_LISTENER: Final = "sockets cannot be told apart yet; run another daemon, with a file of its own, for this one"
_CHANGING: Final = ("banner", "attachments", "scan")
"""Ready filters that change what sign has signed."""
_LOOKING: Final = ("scan", "attachments")
"""Those that mail is not safe without, whoever has written it."""
_RESULTS: Final = ("spf_", "helo_spf_", "dkim_", "arc_", "dmarc_")


def check_words(document: Document, targets: list[Target], of_site: Mapping[str, Any], faults: list[Fault]) -> None:
    """Check that each filter has what it needs: words that another or the site gives, in time; results of others."""
    there = {each.ready.name for each in targets if each.ready is not None}
    given = {*of_site, *(word for each in targets if each.ready is not None for word in each.ready.words)}
    names = {_name(each) for each in targets if each.ready is None or each.ready.takes_conditions}
    for each in targets:
        path = _path(each)
        for need in sorted(set(each.ready.needs) - there) if each.ready is not None else ():
            what = f'{each.ready.name} needs what {need} finds; add a [[filter]] with use = "{need}"'
            faults.append(document.fault((*path, "use"), what))
        faults += _unknown_skips(document, each, names)
        for key in ("when", "unless"):
            for condition in each.member.get(key) or ():
                if condition.is_open and condition.text not in given:
                    faults.append(document.fault((*path, key), _not_given(condition.text)))
                elif each.ready is not None and condition.stage > each.ready.first_stage:
                    what = f"{condition.text} is known at {condition.stage.name}, {each.ready.name} decides at"
                    faults.append(document.fault((*path, key), f"{what} {each.ready.first_stage.name}"))
            if each.ready is not None and not each.ready.takes_conditions and key in each.member:
                what = f"{each.ready.name} looks at every message; take this line out"
                faults.append(document.fault((*path, key), what))


def _not_given(word: str) -> str:
    if word.startswith(_LISTENER):
        return f"{word}: {_NO_LISTENER}"
    return f"no filter of this file gives {word!r}{_GIVERS.get(word, _AUTHENTICATE)}"


def _name(target: Target) -> str:
    return str(target.member.get("name") or (target.ready.name if target.ready is not None else ""))


def _unknown_skips(document: Document, target: Target, names: set[str]) -> Iterator[Fault]:
    """Yield what rules of ``access`` leave out that is not there, or looks at every message."""
    unknown: frozenset[str] = getattr(target.ready, "skips", frozenset()) - (names - {_name(target)})
    for name in sorted(unknown):
        number = next((number for number, rule in enumerate(target.ready.rules) if name in rule.skip), None)
        where: Path = ("table",) if number is None else ("rules", number, "skip")
        what = f"{name!a:.80} is no other filter of this file that may be left out; expected names of such filters"
        yield document.fault((*_path(target), *where), what)


def questionable(document: Document, targets: list[Target]) -> Iterator[str]:
    """Yield a sentence on each thing that can hardly be meant: the order of edits, and when filters are asked."""
    ready = [each for each in targets if each.ready is not None and not each.member.get("shadow")]
    names = [each.ready.name for each in ready]
    for number, (name, each) in enumerate(zip(names, ready, strict=True)):
        before = names[:number]

        def warning(key: str, what: str, each: Target = each) -> str:
            return str(document.fault((*_path(each), key), what))

        for setting, what in each.ready.doubts():
            yield warning(setting, what)
        if "sign" in before and name in _CHANGING:
            yield warning("use", f"{name} changes what sign has signed before it; put sign below {name}")
        if "seal" in before and (name in _CHANGING or name == "sign"):
            yield warning("use", f"seal has to be the last; put it below {name}")
        if "banner" in before and name == "scan":
            yield warning("use", "scan sees the banner, too; put it above banner")
        if name == "sign" and not each.member.get("when") and not each.member.get("unless"):
            what = 'sign signs for whoever writes our domain into From; add when = ["authenticated", "internal"]'
            yield warning("use", what)
        words = [each.text for each in each.member.get("unless") or () if each.text.startswith(_RESULTS)]
        if name in _LOOKING and words:
            yield warning("unless", f"{words[0]} says who has sent the message, and not that it is harmless")


def _path(target: Target) -> Path:
    """Return where a filter stands in the file."""
    assert target.settings is not None
    return target.settings.path if target.ready is not None else target.settings.path[:-1]
