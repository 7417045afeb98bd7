"""``Milter``: the class, its decorators and functions; what they do was observed on pymilter 1.0.5."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from aiomilter.compat import classic as Milter
from aiomilter.compat.objects import never_blocks


class Recorder:
    """A context that records what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.private: Any = None

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *args: self.asked.append((name, *args))

    def setpriv(self, private: Any) -> Any:
        before, self.private = self.private, private
        return before

    def getpriv(self) -> Any:
        return self.private


def filter_of(**members: Any) -> type[Milter.Base]:
    """Make a filter class of its own, since masks are kept on classes."""
    return type("Filter", (Milter.Base,), members)


def made(cls: type[Milter.Base], actions: int = Milter.CURR_ACTS, protocol: int = 0) -> tuple[Milter.Base, Recorder]:
    """Make a filter with a context."""
    ctx = Recorder()
    found = cls()
    found._setctx(ctx)  # type: ignore[arg-type]
    found._actions, found._protocol = actions, protocol
    return found, ctx


def header(self: Any, field: str, value: Any) -> Any:
    return value


# ---------------------------------------------------------------------------------------------------------- negotiation


def test_what_is_overridden_is_asked_for_and_the_rest_is_not() -> None:
    assert filter_of().protocol_mask() == 0x1FF880
    cls = filter_of(header=Milter.noreply(header), eoh=lambda self: 0, hello=Milter.nocallback(hello))
    assert cls.protocol_mask() == 0x1FF880 & ~Milter.P_NR_HDR | Milter.P_NOHDRS | Milter.P_NOEOH


def hello(self: Any, name: str) -> int:
    return Milter.REJECT


def test_a_mask_is_kept_and_inherited() -> None:
    parent = filter_of()
    parent.protocol_mask()
    child: Any = type("Child", (parent,), {"header": header})
    assert child.protocol_mask() == parent.protocol_mask()


def test_class_decorators_ask_for_more() -> None:
    assert Milter.rejected_recipients(filter_of())._protocol_mask == 0x1FF880 & ~Milter.P_RCPT_REJ
    assert Milter.header_leading_space(filter_of())._protocol_mask == 0x1FF880 & ~Milter.P_HDR_LEADSPC
    assert Milter.enable_protocols(filter_of(), Milter.P_RCPT_REJ).protocol_mask() == 0x1FF080


def test_negotiating_takes_what_is_marked() -> None:
    serving, _ = made(filter_of(header=Milter.noreply(header)))
    options = [0x1FF, 0x1FFFFF, 9, 9]
    assert serving.negotiate(options) == Milter.CONTINUE
    assert (serving._actions, serving._protocol, options) == (0x1FF, 0x7DF, [0x1FF, 0x7DF, 0, 0])


@pytest.mark.parametrize("options", [[], [1], [1, 2], [1, 2, 3, 4, 5], None])
def test_an_offer_that_is_none_is_taken_as_it_is(options: Any) -> None:
    serving, _ = made(filter_of())
    assert serving.negotiate(options) == Milter.ALL_OPTS


def eom(self: Any) -> int:
    return Milter.CONTINUE


def test_macro_lists_are_asked_for_where_the_mta_takes_them() -> None:
    cls = filter_of(eom=Milter.symlist("i", "{msg_id}")(lambda_named(eom)))
    serving, ctx = made(cls)
    assert serving.negotiate([0x1FF, 0x1FFFFF, 0, 0]) == Milter.CONTINUE
    assert ctx.asked == [("setsymlist", Milter.M_EOM, "i {msg_id}")]
    serving, ctx = made(cls)
    options = [0xFF, 0x1FFFFF, 0, 0]
    assert (serving.negotiate(options), serving._protocol) == (Milter.ALL_OPTS, 0)
    assert options == [0xFF, 0x1FFFFF, 0, 0]


def lambda_named(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a copy, since marks stay on functions."""

    def copy(*args: Any) -> Any:
        return function(*args)

    copy.__name__ = function.__name__
    return copy


@pytest.mark.parametrize(
    ("decorator", "function", "message"),
    [
        (Milter.noreply, eom, "@noreply applied to non-optional method: eom"),
        (Milter.nocallback, eom, "@nocallback applied to non-optional method: eom"),
        (Milter.symlist("a"), header, "@symlist applied to non-symlist method: header"),
        (Milter.symlist(*"abcdef"), eom, "@symlist limited to 5 macros by MTA: eom"),
    ],
)
def test_a_decorator_refuses_methods_it_is_not_for(decorator: Any, function: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        decorator(function)


# ------------------------------------------------------------------------------------------------------------ callbacks


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_no_reply_method_returns_continue(asynchronous: bool) -> None:
    def plain(self: Any, field: str, value: Any) -> Any:
        return value

    async def later(self: Any, field: str, value: Any) -> Any:
        return value

    plain.__name__ = later.__name__ = "header"
    cls: Any = filter_of(header=Milter.noreply(later if asynchronous else plain))

    def call(protocol: int, answer: Any) -> Any:
        found = made(cls, protocol=protocol)[0].header("a", answer)
        return asyncio.run(found) if asynchronous else found

    assert call(Milter.P_NR_HDR, Milter.CONTINUE) == Milter.NOREPLY
    assert call(0, Milter.CONTINUE) == Milter.CONTINUE
    assert call(0, Milter.REJECT) == Milter.REJECT
    for answer in (Milter.REJECT, Milter.NOREPLY, None):
        with pytest.raises(RuntimeError, match=r"^header return code must be CONTINUE with @noreply$"):
            call(Milter.P_NR_HDR, answer)


def test_a_no_reply_method_gives_what_a_program_has_set_for_noreply(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the unit tests of filters do, in one line or by importing ``Milter.test``."""

    def eoh(self: Any) -> Any:
        return Milter.CONTINUE

    marked = made(filter_of(eoh=Milter.noreply(eoh)), protocol=Milter.P_NR_EOH)[0]
    assert marked.eoh() == 7
    monkeypatch.setattr(Milter, "NOREPLY", Milter.CONTINUE)
    assert marked.eoh() == Milter.CONTINUE


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_method_that_is_not_to_be_called_may_only_continue(asynchronous: bool) -> None:
    def plain(self: Any, name: str) -> Any:
        return name

    async def later(self: Any, name: str) -> Any:
        return name

    plain.__name__ = later.__name__ = "hello"
    cls: Any = filter_of(hello=Milter.nocallback(later if asynchronous else plain))

    def call(answer: Any) -> Any:
        found = made(cls)[0].hello(answer)
        return asyncio.run(found) if asynchronous else found

    assert call(Milter.CONTINUE) == Milter.CONTINUE
    for answer in (Milter.REJECT, Milter.NOREPLY, None):
        with pytest.raises(RuntimeError, match=r"^hello return code must be CONTINUE with @nocallback$"):
            call(answer)


@pytest.mark.parametrize(
    ("strategy", "octets", "found"),
    [
        (None, b"\xff\xc3\xa9", "\udcff\xe9"),
        ("surrogateescape", b"\xff", "\udcff"),
        ("strict", b"\xff", b"\xff"),
        ("strict", b"\xc3\xa9", "\xe9"),
        ("bytes", b"abc", b"abc"),
        ("ignore", b"\xffa", "a"),
        ("replace", b"\xff", "\ufffd"),
        ("nonsense", b"abc", "abc"),
    ],
)
def test_octets_become_text_as_a_method_says(strategy: str | None, octets: bytes, found: object) -> None:
    method = lambda_named(header)
    cls: Any = filter_of(header=method if strategy is None else Milter.decode(strategy)(method))
    assert cls().header_bytes("name", octets) == found


def test_an_unknown_strategy_fails_where_it_is_needed() -> None:
    cls: Any = filter_of(header=Milter.decode("nonsense")(lambda_named(header)))
    with pytest.raises(LookupError):
        cls().header_bytes("name", b"\xff")


def test_raw_entry_points_can_be_replaced_on_the_instance() -> None:
    serving: Any = filter_of()()
    serving.header_bytes = lambda field, value: (field, value)
    assert serving.header_bytes("a", b"b") == ("a", b"b")
    assert filter_of(envfrom=lambda self, *args: args)().envfrom_bytes(b"a", b"b") == ("a", "b")
    assert filter_of(envrcpt=lambda self, *args: args)().envrcpt_bytes(b"a") == ("a",)


# -------------------------------------------------------------------------------------------------------------- actions

ACTIONS = [
    ("ADDHDRS", "addheader", ("a", "b"), ("a", "b", -1)),
    ("CHGHDRS", "chgheader", ("a", 1, "b"), ("a", 1, "b")),
    ("ADDRCPT", "addrcpt", ("a",), ("a", None)),
    ("DELRCPT", "delrcpt", ("a",), ("a",)),
    ("MODBODY", "replacebody", ("a",), ("a",)),
    ("CHGFROM", "chgfrom", ("a",), ("a", None)),
    ("QUARANTINE", "quarantine", ("a",), ("a",)),
    ("SETSYMLIST", "setsymlist", (5, "a", "b"), (5, "a b")),
]


@pytest.mark.parametrize(("action", "method", "args", "passed"), ACTIONS)
def test_an_action_needs_the_mtas_offer(action: str, method: str, args: Any, passed: Any) -> None:
    serving, ctx = made(filter_of(), actions=getattr(Milter, action))
    getattr(serving, method)(*args)
    assert ctx.asked == [(method, *passed)]
    serving, ctx = made(filter_of(), actions=Milter.CURR_ACTS & ~getattr(Milter, action))
    with pytest.raises(Milter.DisabledAction, match=f"^{action}$"):
        getattr(serving, method)(*args)
    assert ctx.asked == []


def test_parameters_of_a_recipient_need_an_action_of_their_own() -> None:
    serving, _ = made(filter_of(), actions=Milter.ADDRCPT)
    with pytest.raises(Milter.DisabledAction, match=r"^ADDRCPT_PAR$"):
        serving.addrcpt("a", "b")


def test_percent_signs_of_a_reply_are_doubled() -> None:
    serving, ctx = made(filter_of())
    serving.setreply(rcode="550", xcode="5.7.1", msg="100 %% sure")
    assert ctx.asked == [("setreply", "550", "5.7.1", "100 %% sure")]
    for line in ("%", "%%%", "a %d"):
        with pytest.raises(ValueError, match="must be doubled"):
            serving.setreply("550", "5.7.1", line)
    with pytest.raises(TypeError):
        serving.setreply("550")


# ------------------------------------------------------------------------------------------------------------ functions


def test_parameters_become_dictionaries() -> None:
    assert Milter.dictfromlist(["a=b", "c", "D=e=f", "x=", "A=z"]) == {"A": "z", "D": "e=f", "X": ""}
    assert Milter.param2dict(["a=b", "c"]) == {"A": "b", "C": None}
    called: list[Any] = []

    def callback(*args: Any, **named: Any) -> None:
        called.append((args, named))

    Milter.envcallback(callback, ["x", "A=b", "c", "d=e=f"])
    assert called == [(("x", "c"), {"A": "b", "D": "e=f"})]


def test_numbers_are_unique_and_masks_have_names() -> None:
    assert Milter.uniqueID() + 1 == Milter.uniqueID()
    assert Milter.decode_mask(0x181, ["P_NR_HDR", "P_NOUNKNOWN"]) == ["P_NR_HDR", "P_NOUNKNOWN", "0x1"]


def test_close_parts_object_and_context_whatever_it_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    def close(self: Any) -> int:
        raise ZeroDivisionError

    ctx: Any = Recorder()
    assert Milter.close_callback(ctx) == Milter.CONTINUE
    monkeypatch.setattr(Milter, "factory", filter_of(close=close))
    Milter.negotiate_callback(ctx, [0x1FF, 0x1FFFFF, 0, 0])
    with pytest.raises(ZeroDivisionError):
        Milter.close_callback(ctx)
    assert ctx.getpriv()._ctx is None


def test_the_logging_base_prints_an_item_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    serving, _ = made(type("Logging", (Milter.Milter,), {}), protocol=0)
    assert serving.connect("h", 2, ("1", 2)) == Milter.CONTINUE
    serving.envfrom("<a>", "SIZE=1")
    assert capsys.readouterr().out == "Milter:\nconnect from h at ('1', 2)\n\nMilter:\nmail from\n<a>\n('SIZE=1',)\n\n"


def blocking(callback: Any) -> Any:
    """Do as a program's decorator might: wait before the callback runs."""

    @functools.wraps(callback)
    def wait_first(*args: Any) -> Any:
        return callback(*args)

    return wait_first


def test_only_our_own_decorators_are_known_not_to_block() -> None:
    class Async(Milter.Base):
        @Milter.noreply
        async def header(self, field: str, value: str) -> Any:
            return Milter.CONTINUE

        @Milter.nocallback
        async def eoh(self) -> Any:
            return Milter.CONTINUE

        async def eom(self) -> Any:
            return Milter.CONTINUE

    class Decorated(Async):
        @blocking
        async def eom(self) -> Any:
            return Milter.CONTINUE

    class Twice(Async):
        @blocking
        @Milter.noreply
        async def header(self, field: str, value: str) -> Any:
            return Milter.CONTINUE

    assert [never_blocks(each) for each in (Async, Decorated, Twice)] == [True, False, False]
