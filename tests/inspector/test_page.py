"""The page in a real browser: Debian's chromium, driven by playwright."""

import os
import re
import signal
import smtplib
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import pytest

from aiomilter.inspector.frames import Head
from aiomilter.inspector.recording import Recorded
from aiomilter.observe import Answer, MessageEnded, Where
from tests.inspector.gateway import gateway
from tests.inspector.site import Site, mail
from tests.interop.rigs import chromium
from tests.patience import PATIENCE
from tests.programs import need

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.interop, pytest.mark.slow]

ROOT: Final = Path(__file__).parents[2]
SHOTS: Final = ROOT / "build" / "inspector"
LOOKS: Final[Mapping[str, tuple[int, Literal["light", "dark"]]]] = {
    "light": (1280, "light"),
    "dark": (1280, "dark"),
    "narrow": (360, "light"),
    "narrow-dark": (360, "dark"),
}
Open = Callable[..., "Page"]

# Text that is hard to read: its contrast with what is behind it is below 4.5 (WCAG 2.2, 1.4.3).
FAINT: Final = """() => {
  const parse = (text) => { const m = text.match(/[\\d.]+/g).map(Number); return m.length < 4 ? [...m, 1] : m; };
  const light = ([r, g, b]) => [r, g, b].map((c) => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (each) => { for (; each; each = each.parentElement) {
    const colour = parse(getComputedStyle(each).backgroundColor);
    if (colour[3] === 1) return colour; } return [255, 255, 255, 1]; };
  const found = [];
  for (const each of document.querySelectorAll("body *")) {
    const text = [...each.childNodes].filter((one) => one.nodeType === 3).map((one) => one.data.trim()).join("");
    if (!text || !each.getClientRects().length || each.disabled) continue;
    const style = getComputedStyle(each);
    const front = light(parse(each.closest("svg") ? style.fill : style.color)), back = light(behind(each));
    const ratio = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    if (ratio < 4.5) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return found;
}"""
WIDE: Final = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    need(chromium.missing())
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=str(chromium.BROWSER), args=["--no-sandbox"], env=chromium.environment()
        )
        yield found
        found.close()


@pytest.fixture(scope="module")
def site(browser: "Browser") -> Iterator[Site]:
    with Site(gateway) as found:
        yield found


@pytest.fixture(scope="module")
def filled(site: Site) -> Site:
    """A site with a message of each kind."""
    report = mail("Quarterly report")
    report.add_alternative("<h1>Report</h1><script>document.title = 'run'</script>", subtype="html")
    report.add_attachment(b"%PDF-1.4" * 4000, maintype="application", subtype="pdf", filename="report.pdf")
    for subject in ("Cheap pills", "Later, please", "Good for nothing", "To be held", "A broken filter"):
        site.send(mail(subject).as_bytes(), f"{subject.split()[-1].lower()}@sender.example")
    site.send(mail("Nobody there").as_bytes(), "carol@example.com", "nobody@example.net")
    site.send(report.as_bytes(), "alice@example.org", "bob@example.net", "nobody@example.net", "carol@example.net")
    site.send(mail("Lunch tomorrow?").as_bytes(), "dave@example.org")
    for number in range(12):
        site.measure()
        for _ in range((1, 2, 0, 3)[number % 4]):
            site.send(mail("Status: all is well").as_bytes(), "monitor@example.org")
    site.measure()
    return site


@pytest.fixture
def page(browser: "Browser") -> Iterator[Open]:
    """Opens pages; anything that the browser complains about fails the test."""
    opened: list[Any] = []
    complaints: list[str] = []
    # What the browser itself says of a refused request, or of a server that has ended.
    of_browser = re.compile(
        r"Failed to load resource: (the server responded with a status of 4|net::ERR_CONNECTION_REFUSED)"
    )

    def open_page(url: str, look: str = "light", **options: Any) -> "Page":
        width, scheme = LOOKS[look]
        found = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme, **options)
        found.set_default_timeout(60_000)
        found.on("console", lambda message: complaints.append(message.text))
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        opened.append(found)
        found.goto(url)
        return found

    yield open_page
    for each in opened:
        each.close()
    assert [each for each in complaints if not of_browser.match(each)] == []


def row(page: "Page", subject: str) -> Any:
    return page.locator("a.row", has_text=subject).first


def test_a_message_appears_while_the_list_is_open(site: Site, page: Open) -> None:
    shown = page(site.url)
    shown.get_by_text("live", exact=True).wait_for()
    site.send(mail("Just now").as_bytes())

    row(shown, "Just now").wait_for()

    assert "Accepted" in row(shown, "Just now").inner_text()


def test_the_command_shows_a_message_its_tag_and_its_bars(page: Open, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "aiomilter", "run", str(ROOT / "examples" / "tag_external.py")]
    with running([*command, "--smtp", "0", "--inspect", "0"]) as (url, port):
        shown = page(url)
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("alice@elsewhere.example", ["bob@example.org"], mail("Hello").as_bytes())
        row(shown, "Hello").click()
        shown.locator(".pair[data-mark='~']").wait_for()

        assert shown.locator(".pair[data-mark='~'] [data-side=after]").inner_text() == "Subject: [EXTERNAL] Hello"
        assert shown.locator(".stages .bar i").count() >= 4
        assert "queued as" in shown.locator(".reply").inner_text()


class running:  # used as a function
    """Runs the command, and says where the page and the SMTP server are."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self.lines: list[str] = []

    def wait_for(self, pattern: str) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line)
            if found := re.search(pattern, line):
                return found[1]
        raise AssertionError(self.lines)

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)
        self.wait_for("(reloaded)")

    def __enter__(self) -> tuple[str, int]:
        url = self.wait_for(r"the inspector is at (\S+)")
        return url, int(self.wait_for(r"listening on 127\.0\.0\.1:(\d+) for SMTP"))

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


def test_a_replay_after_a_reload_shows_both_answers(page: Open, tmp_path: Path) -> None:
    filter_file = tmp_path / "mine.py"
    text = "from aiomilter import *\nclass Mine(Milter):\n    async def eom(self, ctx):\n        return {}\n"
    filter_file.write_text(text.format("CONTINUE"))
    command = running([sys.executable, "-m", "aiomilter", "run", str(filter_file), "--smtp", "0", "--inspect", "0"])
    with command as (url, port):
        with smtplib.SMTP("127.0.0.1", port) as client:
            client.sendmail("alice@example.org", ["bob@example.net"], mail("Twice").as_bytes())
        filter_file.write_text(text.format("Reply(550, '5.7.1', 'not any more')"))
        os.utime(filter_file, (1, 1))
        command.reload()
        shown = page(url)
        row(shown, "Twice").click()
        shown.get_by_role("link", name="Replay").click()
        shown.get_by_text("The filter answers otherwise than before.").wait_for()

        assert shown.locator("tr.differs").first.locator("td").all_inner_texts() == [
            "continue",
            "550 5.7.1 not any more\ndiffers",
        ]


def test_a_message_that_is_typed_is_played_and_not_listed(filled: Site, page: Open) -> None:
    shown = page(filled.url + "#/play")
    before = filled.store.last
    shown.get_by_label("Message: type it").fill("Subject: Cheap pills\n\nBuy now\n")
    shown.get_by_label("Sender").fill("eve@example.com")
    shown.get_by_role("button", name="Play").click()
    shown.locator(".headline .badge", has_text="Rejected").wait_for()

    assert "554 5.7.1 looks like spam" in shown.locator(".reply").inner_text()
    assert "eve@example.com" in shown.locator(".stages").inner_text()
    assert filled.store.last == before


def test_a_file_is_played_octet_by_octet(filled: Site, page: Open, tmp_path: Path) -> None:
    file = tmp_path / "odd.eml"
    file.write_bytes(b"Subject: odd \xff\xfe\r\n\r\nnot UTF-8: \xe4\r\n")
    shown = page(filled.url + "#/play")
    shown.get_by_label("Or choose a file").set_input_files(file)
    shown.get_by_text("is played as it is").wait_for()
    shown.get_by_role("button", name="Play").click()
    shown.locator(".diff").wait_for()

    assert "Subject: odd \\xff\\xfe" in shown.locator(".diff").inner_text()


def test_what_is_wrong_with_a_scenario_is_said(filled: Site, page: Open) -> None:
    shown = page(filled.url + "#/play")
    shown.get_by_label("Client address").fill("somewhere")
    with shown.expect_response("**/api/play"):
        shown.get_by_role("button", name="Play").click()
    shown.get_by_role("alert").wait_for()

    assert "expected an IP address" in shown.get_by_role("alert").inner_text()


@pytest.mark.parametrize(
    ("view", "look"),
    [
        *((view, look) for view in ("list", "message", "play", "charts") for look in LOOKS),
        *((view, look) for view in ("refused", "failed", "played") for look in ("light", "narrow-dark")),
    ],
)
def test_each_view_can_be_read_in_both_themes_and_on_a_telephone(
    filled: Site, page: Open, view: str, look: str
) -> None:
    shown = page(filled.url, look)
    go_to(shown, filled, view)

    assert shown.evaluate(FAINT) == []
    assert not shown.evaluate(WIDE)
    SHOTS.mkdir(parents=True, exist_ok=True)
    shown.screenshot(path=SHOTS / f"{view}-{look}.png", full_page=view != "list")


PICTURE: Final = ROOT / "aiomilter" / "help" / "inspector.png"


def test_the_picture_of_the_manual_is_one_of_this_page(filled: Site, page: Open) -> None:
    """``cp build/inspector/manual.png aiomilter/help/inspector.png`` after a change that can be seen."""
    shown = page(filled.url)
    shown.set_viewport_size({"width": 1000, "height": 800})
    go_to(shown, filled, "message")
    SHOTS.mkdir(parents=True, exist_ok=True)
    shown.screenshot(path=SHOTS / "manual.png")

    for path in (SHOTS / "manual.png", PICTURE):
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size <= 102_400


def go_to(shown: "Page", site: Site, view: str) -> None:
    if view in ("play", "charts"):
        shown.goto(f"{site.url}#/{view}")
        shown.locator("form.play, .chart svg").first.wait_for()
    elif view == "played":
        shown.goto(f"{site.url}#/play")
        shown.get_by_role("button", name="Play").click()
        shown.locator("article.message").wait_for()
    elif view == "list":
        row(shown, "Quarterly").wait_for()
    else:
        subject = {"message": "Quarterly", "refused": "Cheap pills", "failed": "A broken filter"}[view]
        row(shown, subject).click()
        shown.locator("article.message").wait_for()


def test_a_message_tells_who_waited_what_changed_and_why(filled: Site, page: Open) -> None:
    shown = page(filled.url)
    go_to(shown, filled, "message")
    text = shown.locator("article").inner_text()

    assert "authentication waited" in text
    assert "550 5.1.1 no such mailbox" in text
    assert "unknown_mailbox" in text
    assert "the body was changed after signing: its hash (bh) differs" in text
    assert "report.pdf" in text
    assert "looked at 'Quarterly report'" in text
    assert shown.title() != "run"


def test_html_is_shown_as_its_source(filled: Site, page: Open) -> None:
    shown = page(filled.url)
    go_to(shown, filled, "message")
    shown.get_by_text("source (HTML is not shown as a page)").click()

    assert "<script>document.title = 'run'</script>" in shown.locator(".parts").inner_text()
    assert shown.locator("article h1").count() == 1


def test_a_failed_callback_shows_its_traceback(filled: Site, page: Open) -> None:
    shown = page(filled.url)
    go_to(shown, filled, "failed")

    assert "LookupError: the table of rules is gone" in shown.locator(".log").inner_text()


def test_the_list_is_searched_and_filtered(filled: Site, page: Open) -> None:
    shown = page(filled.url)
    row(shown, "Quarterly").wait_for()
    for words, expected in (
        ("answer:reject pills", 1),
        ("stage:rcpt", 1),
        ("edit:quarantine", 1),
        ("nobody@", 2),
        ("xyzzy", 0),
    ):
        shown.get_by_label("Search").fill(words)
        assert shown.locator("a.row:visible").count() == expected, words
    shown.get_by_label("Search").fill("")
    shown.get_by_label("Answer", exact=True).select_option("failed")
    assert shown.locator("a.row:visible").count() == 1


def test_the_keyboard_is_enough(filled: Site, page: Open) -> None:
    shown = page(filled.url)
    row(shown, "Quarterly").wait_for()
    shown.keyboard.press("j")
    shown.keyboard.press("j")
    second = shown.locator("a.row:focus").get_attribute("href")
    shown.keyboard.press("Enter")
    shown.locator("article.message").wait_for()
    assert second is not None
    assert shown.url.endswith(second)
    shown.keyboard.press("Escape")
    shown.locator(f"a.row[href='{second}']:focus").wait_for()
    shown.keyboard.press("/")
    shown.keyboard.type("lunch")
    assert shown.locator("a.row:visible").count() == 1
    shown.keyboard.press("Escape")
    shown.keyboard.press("c")
    shown.locator(".chart svg").first.wait_for()
    shown.keyboard.press("p")
    shown.locator("form.play").wait_for()


def test_charts_tell_in_words_what_they_draw(filled: Site, page: Open) -> None:
    shown = page(filled.url + "#/charts")
    shown.locator(".chart svg").first.wait_for()
    labels = [each.get_attribute("aria-label") or "" for each in shown.locator("svg[role=img]").all()]

    assert [label.partition(".")[0] for label in labels] == [
        "Messages a second",
        "Time by stage",
        "Time by filter",
        "Connections",
        "Event loop stalls",
        "Memory",
    ]
    assert "messages in all" in labels[0]
    assert shown.locator(".chart rect").count() >= 3


HOSTILE: Final = (
    b"Subject: <script>document.title='owned'</script> \xe2\x80\xaegnp.exe \x01\r\n"
    b"From: <img src=x onerror=document.title='owned'>@x.example\r\n"
    b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/html\r\n\r\n<script>document.title='owned'</script><iframe src=javascript:alert(1)>\r\n"
    b'--b\r\nContent-Type: application/octet-stream; name="<svg onload=alert(1)>.exe"\r\n\r\n\x1b[31m\xff\xfe\r\n--b--\r\n'
)


def test_hostile_mail_stays_text(site: Site, page: Open) -> None:
    site.send(HOSTILE, '"<script>alert(1)</script>"@x.example', '"<b>&amp;"@example.net')
    shown = page(site.url)
    line = row(shown, "gnp.exe")
    line.wait_for()
    assert "<script>document.title='owned'</script> \\u202egnp.exe" in line.inner_text()
    line.click()
    shown.locator("article.message").wait_for()
    for each in (*shown.locator("summary").all(), *shown.locator("button.more").all()):
        each.click()

    text = shown.locator("article").inner_text()
    assert "<script>alert(1)</script>" in text
    assert "<svg onload=alert(1)>.exe" in text
    assert "\\x1b[31m" in text
    assert shown.locator("article script, article img, article iframe, article svg, article b > b").count() == 0
    assert "owned" not in shown.title()


def test_ten_thousand_messages_do_not_slow_the_page(site: Site, page: Open) -> None:
    shown = page(site.url)
    shown.get_by_text("live", exact=True).wait_for()

    async def flood() -> None:
        for number in range(10_000):
            where = Where(callback="eom", client="192.0.2.1", filter="flood")
            event = MessageEnded(
                where, "", f"a{number}@x.example", ("b@y.example",), (), 0, Answer("continue"), "", (), 0, None, 0.1
            )
            site.store.add(Recorded(event, [], Head(), None, [], 0, False))

    site.call(flood())
    row(shown, "a9999@x.example").wait_for()

    assert shown.locator("a.row").count() <= 1000
    shown.get_by_label("Search").fill("a9998@")
    assert shown.locator("a.row:visible").count() == 1


def test_without_content_only_envelope_answers_and_times_are_shown(page: Open) -> None:
    with Site(gateway, content=False, token="correct-horse-battery") as site:
        site.send(mail("A secret subject", "A secret body\n").as_bytes(), "dave@example.org")
        shown = page(site.url + "#token=correct-horse-battery")
        row(shown, "dave@example.org").click()
        shown.locator("article.message").wait_for()
        text = shown.content()

    assert "secret" not in text
    assert "dave@example.org" in text
    assert "change header" in text
    assert "correct-horse" not in shown.url


def test_the_page_asks_for_the_token(page: Open) -> None:
    with Site(gateway, token="correct-horse-battery") as site:
        shown = page(site.url)
        shown.get_by_label("Token").fill("wrong")
        shown.get_by_role("button", name="Open").click()
        assert "this is not the token" in shown.get_by_role("alert").inner_text()
        shown.get_by_label("Token").fill("correct-horse-battery")
        shown.get_by_role("button", name="Open").click()
        shown.get_by_text("No message yet.").wait_for()
        assert shown.get_by_label("Token").count() == 0
