"""What the SMTP client is told, against aiomilter/help/protocol.rst, "Answers by stage"."""

import pytest

from aiomilter.mta import Answer, Style
from aiomilter.mta.replies import smtp_reply
from aiomilter.wire.constants import Stage
from aiomilter.wire.replies import ACCEPT, CONTINUE, DISCARD, REJECT, SKIP, TEMPFAIL, Reply

POSTFIX_LATER = "451 4.7.1 Service unavailable - try again later"
SENDMAIL_LATER = "451 4.3.2 Please try again later"


@pytest.mark.parametrize(
    ("style", "stage", "answer", "told"),
    [
        ("postfix", Stage.CONNECT, REJECT, "550 5.7.1 Command rejected"),
        ("postfix", Stage.EOM, REJECT, "550 5.7.1 Command rejected"),
        ("postfix", Stage.MAIL, TEMPFAIL, POSTFIX_LATER),
        ("postfix", Stage.CONNECT, Reply(554, "5.7.1", "no"), "554 5.7.1 no"),
        ("postfix", Stage.RCPT, Reply(550, None, "no"), "550 no"),
        ("postfix", Stage.MAIL, CONTINUE, "250 2.1.0 Ok"),
        ("postfix", Stage.RCPT, DISCARD, "250 2.1.5 Ok"),
        ("postfix", Stage.DATA, ACCEPT, "354 End data with <CR><LF>.<CR><LF>"),
        ("postfix", Stage.BODY, SKIP, "250 2.0.0 Ok: queued as 4F2A"),
        ("postfix", Stage.UNKNOWN, CONTINUE, "502 5.5.2 Error: command not recognized"),
        ("postfix", Stage.HELO, CONTINUE, "250 2.0.0 Ok"),
        ("sendmail", Stage.CONNECT, REJECT, "550 5.0.0 Command rejected"),
        ("sendmail", Stage.CONNECT, Reply(554, "5.7.1", "no"), "550 5.0.0 Command rejected"),
        ("sendmail", Stage.CONNECT, Reply(450, "4.7.1", "no"), SENDMAIL_LATER),
        ("sendmail", Stage.CONNECT, Reply(421, "4.7.1", "no"), "421 4.7.0 closing connection"),
        ("sendmail", Stage.HELO, Reply(554, "5.7.1", "no"), "554 5.7.1 no"),
        ("sendmail", Stage.RCPT, REJECT, "550 5.7.1 Command rejected"),
        ("sendmail", Stage.HEADER, REJECT, "554 5.7.1 Command rejected"),
        ("sendmail", Stage.EOM, TEMPFAIL, SENDMAIL_LATER),
        ("sendmail", Stage.MAIL, Reply(550, None, "no", "never"), "550-5.0.0 no\r\n550 5.0.0 never"),
        ("sendmail", Stage.MAIL, Reply(450), "450 4.0.0"),
        ("sendmail", Stage.EOM, ACCEPT, "250 2.0.0 4F2A Message accepted for delivery"),
    ],
)
def test_each_mta_has_its_texts(style: Style, stage: Stage, answer: Answer, told: str) -> None:
    assert smtp_reply(style, stage, answer, queue_id="4F2A") == told


def test_what_passes_is_told_as_what_the_client_is_at() -> None:
    assert smtp_reply("postfix", Stage.CONNECT, ACCEPT, at=Stage.MAIL) == "250 2.1.0 Ok"
    assert smtp_reply("sendmail", Stage.CONNECT, REJECT, at=Stage.MAIL) == "550 5.0.0 Command rejected"
