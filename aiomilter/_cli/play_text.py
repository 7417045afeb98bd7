"""What ``check`` prints for people: answers, edits, and what they make of the message, as a diff."""

from collections.abc import Iterator
from typing import Any, Final

from aiomilter import mta
from aiomilter._cli.diff import diff
from aiomilter._cli.play import Failure, Outcome, Play, PlayedMessage, PlayedStage
from aiomilter._cli.play_json import edits
from aiomilter._cli.terminal import safe
from aiomilter.wire.constants import Action, Protocol, Stage
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, Reply, Verdict

__all__ = ["DETAILED", "report"]

DETAILED: Final = 10
"""Messages that are shown with all details, unless more are asked for."""

_COLUMN: Final = 52
_LONGEST_TEXT: Final = 100
_MOST_FAILURES: Final = 20
"""Failures that are shown of many messages."""
_SLOW: Final = 0.5
"""Seconds from which on the time of an answer is shown."""


def report(play: Play, *, verbose: bool = False) -> Iterator[str]:
    """Return the lines.

    Args:
        play: What was played.
        verbose: Whether to show everything.
    """
    name = {"postfix": "Postfix", "sendmail": "Sendmail"}[play.scenario.style]
    several = len(play.messages) + play.unplayed > 1
    yield f"{safe(play.asked)}, asked as {name} does{f': {_counts(play)}' if several else ''}"
    if several:
        yield from map(_line, play.messages)
        yield ""
    if verbose and play.agreed is not None:
        yield f"may: {_actions(play)}"
    if verbose or len(play.messages) <= DETAILED:
        yield from (_stage(stage, verbose=verbose) for stage in play.connection)
        # Such a filter brings the space that follows the colon itself.
        spaced = play.agreed is not None and bool(play.agreed.protocol & Protocol.LEADING_SPACE)
        for played in play.messages:
            yield ""
            yield from _message(played, play.scenario.style, spaced=spaced, verbose=verbose)
            if played.expected is False:
                yield ""
                yield f"expected {play.expect}, found {played.outcome.value}"
    else:
        yield from _failures_of(play)
    for failure in play.failures:
        yield ""
        yield from _failure(failure)


def _counts(play: Play) -> str:
    """Return how many messages there were, and what became of them."""
    count, seconds = len(play.messages), sum(played.seconds for played in play.messages)
    counts = [f"{number} {outcome.value}" for outcome, number in sorted(play.outcomes.items())]
    counts += [f"{play.unplayed} not played"] if play.unplayed else []
    if failed := sum(played.failed for played in play.messages):
        counts.append(f"the filter failed with {failed}")
    if unexpected := sum(played.expected is False for played in play.messages):
        counts.append(f"{unexpected} not as expected")
    return f"{count} message{'s' * (count != 1)} in {seconds:.2f} s: {', '.join(counts) or 'none played'}"


def _line(played: PlayedMessage) -> str:
    """Return what became of one message of several."""
    notes = []
    if played.outcome is not Outcome.ACCEPT and played.reply:
        notes.append(_short(_reply(played.reply)))
    elif changes := list(dict.fromkeys(edit["edit"] for edit in edits(played.modifications, text=str))):
        notes.append(", ".join(changes))
    if played.failed:
        notes.append("the filter failed")
    elif played.failures:
        notes.append("see the note" if len(played.failures) == 1 else "see the notes")
    if played.expected is False:
        notes.append("not as expected")
    return (
        f"{played.outcome.value:10} {safe(played.message.source) or 'a sample message':30} {'; '.join(notes)}".rstrip()
    )


def _failures_of(play: Play) -> Iterator[str]:
    """Return failures and notes of the first messages that have some; alike ones once."""
    shown: set[tuple[str, str]] = set()
    for played in play.messages:
        new = [each for each in played.failures if (each.callback, each.what) not in shown]
        if not new or len(shown) >= _MOST_FAILURES:
            continue
        shown.update((each.callback, each.what) for each in new)
        yield f"== {safe(played.message.source)}"
        for failure in new:
            yield from _failure(failure)
        yield ""
    yield f"(-v prints the details of all {len(play.messages)} messages)"


def _actions(play: Play) -> str:
    assert play.agreed is not None
    names = [action.name or "" for action in Action if play.agreed.actions & action]
    return ", ".join(name.lower().replace("_", " ") for name in names) or "change nothing"


def _stage(played: PlayedStage, *, verbose: bool = False) -> str:
    told = _short(played.what)
    answer = f"({played.why})" if played.answer is None else _answer(played.answer)
    if played.filter:
        answer = f"{answer}  [{safe(played.filter)}]"
    if played.seconds is not None and (verbose or (played.answer is not None and played.seconds >= _SLOW)):
        answer = f"{answer:24} {played.seconds * 1000:.1f} ms"
    return f"{played.stage.name.lower():8} {told:{_COLUMN - 9}} {answer}".rstrip()


def _answer(answer: mta.Answer) -> str:
    return answer.name.lower() if isinstance(answer, Verdict) else _reply(str(answer))


def _reply(text: str) -> str:
    return safe(text.replace("\r\n", " / "))


def _short(text: str) -> str:
    text = safe(text, also="\t")
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}... ({len(text)} characters)"


# ------------------------------------------------------------------------------------------------------------ messages


def _message(played: PlayedMessage, style: mta.Style, *, spaced: bool, verbose: bool) -> Iterator[str]:
    yield f"== {safe(played.message.source) or 'a sample message'}"
    for stage in played.stages:
        yield _stage(stage, verbose=verbose)
    changes = [line for edit in edits(played.modifications, text=str) for line in _edit(edit, spaced)]
    if changes:
        yield ""
        yield "edits:" if played.delivered else "edits, without effect:"
        yield from (f"  {change}" for change in changes)
    yield ""
    yield from _result(played, style)
    if played.reply:
        yield ""
        yield f"the SMTP client is told {_place(played)}: {_reply(played.reply)}"
    for failure in played.failures:
        yield ""
        yield from _failure(failure)


def _place(played: PlayedMessage) -> str:
    last = played.stages[-1].stage
    return {Stage.MAIL: "at MAIL", Stage.RCPT: "at RCPT", Stage.DATA: "at DATA"}.get(last, "after the message")


def _edit(edit: dict[str, Any], spaced: bool) -> list[str]:
    """Return an edit; a folded value takes more lines than one, as in the diff."""
    name = edit["edit"]
    value, *folds = edit.pop("value", "").split("\n")
    value = _short(value.removeprefix(" ") if spaced else value)
    shown = {key: _short(str(value)) for key, value in edit.items() if key not in ("edit", "body", "address")}
    match name:
        case "add_header":
            first = f"{name} {shown['name']}: {value}"
        case "insert_header":
            first = f"{name} at {shown['index']}, {shown['name']}: {value}"
        case "change_header":
            first = f"{name} {shown['name']} ({shown['occurrence']}): {value}"
        case "delete_header":
            first = f"{name} {shown['name']} ({shown['occurrence']})"
        case _:
            first = " ".join([name, *(text for text in shown.values() if text)])
    return [first, *map(_short, folds)]


def _result(played: PlayedMessage, style: mta.Style) -> Iterator[str]:
    message = played.delivered
    if message is None:
        yield _lost(played)
        return
    before, after = str(played.sender), " ".join((message.sender.path, *message.sender.params))
    if before != after:
        yield f"sender: {safe(before)} becomes {safe(after)}"
    yield from _recipients(played, message)
    if message.quarantine is not None:
        yield f"held in the queue: {safe(message.quarantine)}"
    # Changes of the MTA itself are not shown as the filter's.
    original = mta.deliver(style, message.sender, message.recipients, played.content).octets
    if original == message.octets:
        yield "the message is not changed"
    else:
        yield from diff(original, message.octets)


def _lost(played: PlayedMessage) -> str:
    if played.decided is None:
        return "the filter broke off"
    stage, answer = played.decided
    if answer is played.content.refusal:
        return "the MTA itself refuses the message, whatever the filter says"
    if answer is DISCARD:
        return "the message is discarded, and the SMTP client told that it was accepted"
    later = (isinstance(answer, Reply) and answer.temporary) or answer is Verdict.TEMPFAIL
    return f"the message is refused at {stage.name}{', for now' if later else ''}"


def _recipients(played: PlayedMessage, message: mta.Delivered) -> Iterator[str]:
    refused = [each.what for each in played.stages if each.stage is Stage.RCPT and _refused(each)]
    before = [str(recipient) for recipient in played.recipients if str(recipient) not in refused]
    after = [" ".join((rcpt.path, *rcpt.params)) for rcpt in message.recipients]
    for recipient in refused:
        yield f"recipient refused: {safe(recipient)}"
    for recipient in before:
        if recipient not in after:
            yield f"recipient deleted: {safe(recipient)}"
    for recipient in after:
        if recipient not in before:
            yield f"recipient added: {safe(recipient)}"
    if not after:
        yield "no recipient is left: the message is dropped"


def _refused(played: PlayedStage) -> bool:
    return played.answer is not None and played.answer not in (CONTINUE, ACCEPT, DISCARD)


def _failure(failure: Failure) -> Iterator[str]:
    where = f"{failure.callback}: " if failure.callback else ""
    yield f"{'failed: ' if failure.fatal else 'note: '}{where}{safe(failure.what)}"
    yield from (f"  {safe(line, also=chr(9))}" for line in failure.traceback.splitlines())
