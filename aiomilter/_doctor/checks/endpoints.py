"""Whether the MTA can read each endpoint, and whether a filter answers there."""

from collections.abc import Iterator, Mapping
from typing import Final

from aiomilter._config.values import did_you_mean
from aiomilter._doctor.case import Case, Own, machine_address, same
from aiomilter._doctor.endpoints import for_postfix, for_sendmail
from aiomilter._doctor.findings import Finding, Kind, Severity, Step, run
from aiomilter._doctor.listening import serve, served_at
from aiomilter._doctor.milter_lists import split, write
from aiomilter._doctor.model import Milter
from aiomilter._doctor.paths import Way, look
from aiomilter._doctor.postconf import Parameters
from aiomilter._doctor.postfix import Postfix
from aiomilter._doctor.sendmail import Sendmail
from aiomilter.addresses import Inet, Unix

__all__ = ["WORDS", "check", "meant"]

WORDS: Final[Mapping[str, str]] = {
    "endpoint-unreadable": "the MTA cannot read the endpoint of a filter as it is written",
    "nothing-listens": "nothing listens where the MTA looks for the filter",
    "no-answer": "what listens there does not answer in time",
    "not-a-filter": "what listens there does not speak the milter protocol",
    "no-such-host": "the endpoint names a host that cannot be found",
    "configuration-unreadable": "the MTA cannot read its own configuration",
    "not-asked": "the MTA does not ask the filter that was named, or one that is defined",
    "unknown-parameter": "main.cf sets a parameter that Postfix does not know, and that looks like one about filters",
}
_DEFAULT: Final = "The default action is taken for all mail, and the filter sees none."
_PARAMETERS: Final = (
    "smtpd_milters",
    "non_smtpd_milters",
    "smtpd_milter_maps",
    *(
        f"milter_{name}"
        for name in (
            *("default_action", "protocol", "header_checks", "macro_daemon_name", "macro_defaults", "macro_v"),
            *("connect_timeout", "command_timeout", "content_timeout"),
            *("connect_macros", "helo_macros", "mail_macros", "rcpt_macros", "data_macros", "end_of_header_macros"),
            *("end_of_data_macros", "unknown_command_macros"),
        )
    ),
)


def check(case: Case) -> Iterator[Finding]:
    """Yield endpoints that cannot be read, or where no filter answers."""
    for milter in case.mta.milters:
        if milter.endpoint.address is None:
            yield _unreadable(case, milter)
        elif (finding := _unanswered(case, milter)) is not None:
            yield finding
    if isinstance(case.mta, Postfix):
        yield from _misspelt(case.mta)
    if isinstance(case.mta, Sendmail):
        yield from _lists(case.mta)
    own = case.own
    if own is not None and own.listen and not any(map(case.is_own, case.mta.milters)) and not _is_elsewhere(case):
        yield _not_asked(case, own)


def _unreadable(case: Case, milter: Milter) -> Finding:
    right = milter.endpoint.meant
    steps = (*milter.place.rewritten(right, milter.settings), *case.mta.reload) if right else ()
    if milter.text in ("inet:", "unix:", "local:"):
        steps = (*milter.place.removed(), *case.mta.reload)  # a blank has cut it off what is meant
    what = f"{milter.text!r} is not an endpoint: {milter.endpoint.fault}"
    ends = isinstance(case.mta, Postfix) and milter.text.startswith("inet:")
    why = "Postfix's SMTP server ends with a fatal error." if ends else _DEFAULT
    if isinstance(case.mta, Sendmail):
        why = "Sendmail cannot connect to the filter, or calls it an error of its configuration."
    return Finding("endpoint-unreadable", Severity.ERROR, milter.place.where, what, why, steps)


def _unanswered(case: Case, milter: Milter) -> Finding | None:
    address = machine_address(milter, milter.askers[0])
    if address is None or address not in case.answers:
        return None
    answer = case.answers[address]
    if answer.result in ("filter", "unknown"):
        return None
    if isinstance(address, Unix) and look(address.path, None).way is not Way.OPEN:
        return None  # that there is no socket is found elsewhere
    word, what = {
        "nobody": ("nothing-listens", f"nothing listens at {milter.text}"),
        "silent": ("no-answer", f"what listens at {milter.text} does not answer"),
        "not a filter": ("not-a-filter", f"what listens at {milter.text} does not speak the milter protocol"),
        "no host": ("no-such-host", f"the host of {milter.text} cannot be found"),
    }[answer.result]
    if answer.result == "nobody":
        if (moved := _moved(case, milter)) is not None:
            return Finding(word, Severity.ERROR, milter.place.where, f"{what}; {moved[0]}", _DEFAULT, moved[1])
        steps = serve(case, address, listen=str(address)) or served_at(case, address)
        return Finding(word, Severity.ERROR, milter.place.where, what, _DEFAULT, steps)
    steps = ()
    if case.own is not None and case.own.listen and not case.is_own(milter):
        steps = _ask_own(case, milter, case.own)
    detail = f" ({answer.text})" if answer.text and answer.result != "silent" else ""
    if answer.process is not None and answer.result != "no host":
        detail += f"; it is {answer.process.name}, process {answer.process.pid}"
    return Finding(word, Severity.ERROR, milter.place.where, what + detail, _DEFAULT, steps)


def _moved(case: Case, milter: Milter) -> tuple[str, tuple[Step, ...]] | None:
    """Return where the filter that was named listens instead, and the steps that have the MTA ask it there."""
    own = case.own
    if own is None or not own.listen or case.is_own(milter) or any(map(case.is_own, case.mta.milters)):
        return None
    return f"the filter listens at {own.listen[0]}", _ask_own(case, milter, own)


def _ask_own(case: Case, milter: Milter, own: Own) -> tuple[Step, ...]:
    return (*milter.place.rewritten(_spelt(case, own.listen[0]), milter.settings), *case.mta.reload)


def _spelt(case: Case, address: Inet | Unix) -> str:
    """Return an endpoint in the spelling of the MTA."""
    if not isinstance(case.mta, Postfix):
        return for_sendmail(address)
    if isinstance(address, Unix):
        # Relative paths are the same in a chroot and out of it.
        for asker in case.mta.lists:
            if address.path.startswith(f"{asker.directory}/"):
                return f"unix:{address.path[len(asker.directory) + 1 :]}"
    return for_postfix(address)


def _is_elsewhere(case: Case) -> bool:
    """Return whether another finding has the MTA ask the filter that was named."""
    assert case.own is not None
    for milter in case.mta.milters:
        address = milter.endpoint.address
        if address is None or case.answer(milter).result not in ("filter", "unknown"):
            return True
        if isinstance(address, Unix) and any(
            same(Unix("/" + address.path.lstrip("/")), each) for each in case.own.listen
        ):
            return True
    return False


def _not_asked(case: Case, own: Own) -> Finding:
    spelt = _spelt(case, own.listen[0])
    what = f"the filter listens at {own.listen[0]}, and the MTA does not ask it"
    why = "It sees no mail."
    if isinstance(case.mta, Postfix):
        parameters = case.mta.parameters
        given = parameters.given.get("smtpd_milters", "")
        value = ", ".join([*split(given), spelt])
        steps = [write(parameters, "smtpd_milters", value)]
        if not parameters.given.get("non_smtpd_milters"):
            steps.append(write(parameters, "non_smtpd_milters", "$smtpd_milters"))
        return Finding(
            "not-asked", Severity.ERROR, f"{parameters.main_cf}: smtpd_milters", what, why, (*steps, *case.mta.reload)
        )
    assert isinstance(case.mta, Sendmail)
    file = case.mta.file
    added = Step(Kind.WRITE, f"Xaiomilter, S={spelt}, F=T, T=C:1m;S:30s;R:30s;E:5m", file)
    listed = case.mta.options.get("inputmailfilters")
    if listed is None:
        named = Step(Kind.WRITE, "O InputMailFilters=aiomilter", file)
    else:
        line, value = listed
        names = ", ".join(filter(None, (value, "aiomilter")))
        named = Step(Kind.WRITE, f"O InputMailFilters={names}", file, line.number, line.count)
    return Finding("not-asked", Severity.ERROR, file, what, why, (named, added, *case.mta.reload))


def _lists(mta: Sendmail) -> Iterator[Finding]:
    """Yield filters that are defined and not listed, and those that are listed and not defined."""
    listed = mta.options.get("inputmailfilters")
    names = listed[1] if listed is not None else ""
    for place in mta.unasked:
        what = f"the filter {place.name} is defined, and InputMailFilters does not name it"
        text = f"O InputMailFilters={', '.join(filter(None, (names, place.name)))}"
        replaces, count = (listed[0].number, listed[0].count) if listed is not None else (0, 1)
        step = Step(Kind.WRITE, text, mta.file, replaces, count)
        yield Finding("not-asked", Severity.ERROR, place.where, what, "It sees no mail.", (step, *mta.reload))
    for line, name in mta.undefined:
        where = f"{mta.file}:{line.number}"
        what = f"InputMailFilters names {name}, which is not defined"
        steps: tuple[Step, ...] = ()
        if listed is not None and listed[0] == line:
            left = ", ".join(each for each in (part.strip() for part in names.split(",")) if each != name)
            steps = (Step(Kind.WRITE, f"O InputMailFilters={left}", mta.file, line.number, line.count), *mta.reload)
        yield Finding("endpoint-unreadable", Severity.ERROR, where, what, "Sendmail goes on without it.", steps)


def _misspelt(mta: Postfix) -> Iterator[Finding]:
    """Yield parameters that are none, and look as if they were about filters."""
    for name, value in mta.parameters.unused.items():
        right = meant(name)
        if right is None or right in mta.parameters.given:
            continue
        directory = mta.parameters.directory
        steps = [run("postconf", "-c", directory, "-X", name), write(mta.parameters, right, value)]
        if right == "smtpd_milters" and "non_smtpd_milters" not in mta.parameters.given:
            steps.append(write(mta.parameters, "non_smtpd_milters", "$smtpd_milters"))
        yield Finding(
            "unknown-parameter",
            Severity.ERROR,
            f"{mta.parameters.main_cf}: {name}",
            f"Postfix knows no parameter {name}; did you mean {right}?",
            "Postfix leaves it out without an error.",
            (*steps, *mta.reload),
        )
    yield from _misspelt_of_services(mta, mta.parameters)


def _misspelt_of_services(mta: Postfix, parameters: Parameters) -> Iterator[Finding]:
    for service in parameters.services:
        for name in service.given.keys() & parameters.unused_of_services:
            right = meant(name)
            if right is None or right in service.given:
                continue
            yield Finding(
                "unknown-parameter",
                Severity.ERROR,
                f"{parameters.master_cf}: {service.name}: -o {name}",
                f"Postfix knows no parameter {name}; did you mean {right}?",
                "Postfix leaves it out without an error.",
                (
                    run("postconf", "-c", parameters.directory, "-PX", f"{service.name}/{name}"),
                    write(parameters, right, service.given[name], service),
                    *mta.reload,
                ),
            )


def meant(name: str) -> str | None:
    """Return the parameter about filters that a name was meant to be; None for none."""
    hint = did_you_mean(name, _PARAMETERS)
    return next((each for each in _PARAMETERS if f" {each}?" in hint), None) if "milt" in name else None
