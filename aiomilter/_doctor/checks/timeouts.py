"""Whether the MTA waits long enough: its timeouts against those of the filter, PROGRESS, and the protocol's version.

Source: postconf(5), milter_command_timeout, milter_content_timeout; Sendmail's cf/README.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._doctor.case import Case
from aiomilter._doctor.findings import Finding, Severity, Step, run
from aiomilter._doctor.milter_lists import write
from aiomilter._doctor.model import Milter
from aiomilter._doctor.postfix import Postfix, by_service
from aiomilter.mta.macros import macro_lists
from aiomilter.options import Options
from aiomilter.wire.constants import Stage

__all__ = ["WORDS", "check"]

WORDS: Final[Mapping[str, str]] = {
    "protocol-old": "Postfix speaks an old version of the milter protocol, or none that there is",
    "progress-impossible": "Postfix is not recognized, so that PROGRESS cannot extend its timeouts",
    "timeout-unreadable": "a timeout of Postfix is not a time",
    "timeout-short": "the MTA gives up before the filter has to answer",
}
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_CONTENT: Final = (Stage.HEADER, Stage.EOH, Stage.BODY, Stage.EOM)
_SENDMAIL: Final = {"C": 300.0, "S": 10.0, "R": 10.0, "E": 300.0}
_UNTOLD: Final = 8.0
"""Seconds in which a filter answers before the end of a message where it cannot send PROGRESS, unless told otherwise."""
_NAME: Final = "Postfix"
_NO_PROGRESS: Final = f"Without it the filter cannot ask Postfix to wait, and answers within {_UNTOLD:g} s."
_AT_END: Final = 240.0


def check(case: Case) -> Iterator[Finding]:
    """Yield timeouts that are too short for the filter."""
    seen: set[tuple[str, str]] = set()
    for milter in case.mta.milters:
        process = case.answer(milter).process
        if process is not None and not process.may_be_ours and not case.is_own(milter):
            found = iter(_protocol(case.mta, milter)) if isinstance(case.mta, Postfix) else iter(())
        elif isinstance(case.mta, Postfix):
            found = _of_postfix(case, case.mta, milter)
        else:
            found = _of_sendmail(case, milter)
        for finding in found:
            if (finding.check, finding.where) not in seen:
                seen.add((finding.check, finding.where))
                yield finding


def _of_postfix(case: Case, mta: Postfix, milter: Milter) -> Iterator[Finding]:
    yield from _protocol(mta, milter)
    options = _options(case, milter)
    progress = options.progress_interval
    if progress is not None and not mta.parameters.values.get("milter_macro_v", _NAME).startswith(_NAME):
        progress = None
        yield Finding(
            "progress-impossible",
            Severity.WARNING,
            f"{mta.parameters.main_cf}: milter_macro_v",
            f"milter_macro_v is {mta.parameters.values['milter_macro_v']!r}, by which the filter does not recognize Postfix",
            _NO_PROGRESS,
            (run("postconf", "-c", mta.parameters.directory, "-X", "milter_macro_v"), *mta.reload),
        )
    elif progress is not None and not _is_recognized(case, mta, milter):
        progress = None
        usual = macro_lists("postfix", {}, {})[Stage.CONNECT]
        given = mta.parameters.given.get("milter_connect_macros", "")
        names = dict.fromkeys([*given.replace(",", " ").split(), *usual])
        yield Finding(
            "progress-impossible",
            Severity.WARNING,
            f"{mta.parameters.main_cf}: milter_connect_macros",
            "milter_connect_macros has no v, by which the filter recognizes Postfix",
            _NO_PROGRESS,
            (write(mta.parameters, "milter_connect_macros", " ".join(names)), *mta.reload),
        )
    yield from _connecting(mta, milter)
    for name, stages in (("command_timeout", _envelope()), ("content_timeout", _CONTENT)):
        needed = progress if progress is not None else _longest(options, stages)
        enough = f"{max(_DEFAULTS[name], int(needed) + 10)}s"
        reason = f"{'it sends PROGRESS every' if progress is not None else 'it answers within'} {needed:g} s"
        if name in milter.settings:
            steps = milter.place.rewritten(milter.text, {**milter.settings, name: enough})
            yield from _timeout(mta, milter, milter.settings[name], needed, reason, milter.place.where, steps)
            continue
        for text, where, service in by_service(mta, milter, f"milter_{name}"):
            steps = (write(mta.parameters, f"milter_{name}", enough, service),)
            yield from _timeout(mta, milter, text, needed, reason, where, steps)


def _timeout(
    mta: Postfix, milter: Milter, text: str, needed: float, reason: str, where: str, steps: tuple[Step, ...]
) -> Iterator[Finding]:
    seconds = _seconds(text)
    if seconds is None:
        what, why = f"{text!r} is not a time, as in 30s", "Postfix's SMTP server ends with a fatal error."
        yield Finding("timeout-unreadable", Severity.ERROR, where, what, why, (*steps, *mta.reload))
    elif seconds <= needed:
        what = f"Postfix waits {text} for {milter.text}, and {reason}"
        why = "Postfix takes the default action, and leaves the filter out for the rest of the SMTP session."
        yield Finding("timeout-short", Severity.ERROR, where, what, why, (*steps, *mta.reload))


def _connecting(mta: Postfix, milter: Milter) -> Iterator[Finding]:
    """Yield a time for connections that Postfix cannot read; 0 is none."""
    name, usual = "connect_timeout", "30s"
    if name in milter.settings:
        steps = milter.place.rewritten(milter.text, {**milter.settings, name: usual})
        found = [(milter.settings[name], milter.place.where, steps)]
    else:
        parameter = f"milter_{name}"
        found = [
            (text, where, (write(mta.parameters, parameter, usual, service),))
            for text, where, service in by_service(mta, milter, parameter)
            if text
        ]
    for text, where, steps in found:
        if not _seconds(text):
            what = f"{text!r} is not a time above 0, as in 30s"
            why = "Postfix's SMTP server ends with a fatal error."
            yield Finding("timeout-unreadable", Severity.ERROR, where, what, why, (*steps, *mta.reload))


_DEFAULTS: Final = {"command_timeout": 30, "content_timeout": 300}


def _protocol(mta: Postfix, milter: Milter) -> Iterator[Finding]:
    if "protocol" in milter.settings:
        settings = {name: value for name, value in milter.settings.items() if name != "protocol"}
        steps = (*milter.place.rewritten(milter.text, settings), *mta.reload)
        yield from _version(milter.settings["protocol"], milter.place.where, steps)
        return
    for text, where, service in by_service(mta, milter, "milter_protocol"):
        yield from _version(text, where, (write(mta.parameters, "milter_protocol", "6", service), *mta.reload))


def _version(text: str, where: str, steps: tuple[Step, ...]) -> Iterator[Finding]:
    if text == "6":
        return
    what = f"the version of the protocol is {text}; the current one is 6"
    why = "Below 6 some stages and edits are not there, and header fields lose their leading space."
    known = text in ("2", "3", "4")
    if not known:
        why = "Postfix does not ask the filter, and takes the default action for all mail."
    yield Finding("protocol-old", Severity.WARNING if known else Severity.ERROR, where, what, why, steps)


def _is_recognized(case: Case, mta: Postfix, milter: Milter) -> bool:
    """Return whether a filter can tell that it is asked by Postfix."""
    agreed = case.answer(milter).agreed
    if agreed is not None and "v" in agreed.macros.get(Stage.CONNECT, ()):
        return True
    names = re.split(r"[,\s{}]+", mta.parameters.values.get("milter_connect_macros", ""))
    return "v" in names


def _of_sendmail(case: Case, milter: Milter) -> Iterator[Finding]:
    options = _options(case, milter)
    given = dict(_sendmail_timeouts(milter.settings.get("T", "")))
    waits = {**_SENDMAIL, **given}
    needs = {"R": _longest(options, _envelope()), "E": _longest(options, (Stage.EOM,))}
    short = [name for name, needed in needs.items() if waits[name] <= needed]
    if options.progress_interval is not None and waits["R"] <= options.progress_interval:
        short = ["R", *short]
    if not short:
        return
    for name in short:
        waits[name] = max(30.0 if name == "R" else 300.0, needs[name] + 10)
    text = ";".join(f"{name}:{waits[name]:g}s" for name in ("C", "S", "R", "E"))
    name = short[0]
    yield Finding(
        "timeout-short",
        Severity.ERROR,
        milter.place.where,
        f"Sendmail waits {given.get(name, _SENDMAIL[name]):g} s ({name} of T=) for {milter.text}, and the filter answers "
        f"within {needs[name]:g} s",
        "Sendmail leaves the filter out for the rest of the SMTP session, or does what F= says.",
        (*milter.place.rewritten(milter.text, {**milter.settings, "T": text}), *case.mta.reload),
    )


def _sendmail_timeouts(text: str) -> Iterator[tuple[str, float]]:
    for part in text.split(";"):
        name, _, value = part.partition(":")
        if (seconds := _seconds(value.strip())) is not None and name.strip() in _SENDMAIL:
            yield name.strip(), seconds


def _options(case: Case, milter: Milter) -> Options:
    """Return the options that a filter is served with: those that were named, or else the defaults."""
    own = case.own
    return own.options if own is not None and (not own.listen or case.is_own(milter)) else Options()


def _envelope() -> tuple[Stage, ...]:
    return tuple(stage for stage in Stage if stage not in _CONTENT)


def _longest(options: Options, stages: tuple[Stage, ...]) -> float:
    """Return the seconds after which a filter answers at the latest, at any of some stages, without PROGRESS."""
    by_stage = options.answer_timeouts or {}
    return max(
        by_stage.get(stage) or options.answer_timeout or (_AT_END if stage is Stage.EOM else _UNTOLD)
        for stage in stages
    )


def _seconds(text: str) -> float | None:
    """Return a duration as both MTAs write it; None if it is none."""
    found = re.fullmatch(r"([0-9]{1,9})\s*([smhdw]?)", text.strip())
    return float(found[1]) * _UNITS[found[2]] if found else None
