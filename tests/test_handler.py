"""What a filter class says of itself, and what is refused when it is made."""

from collections.abc import AsyncIterator
from typing import Any, Final

import pytest

from aiomilter import Action, Context, Mail, Milter, Stage, no_reply
from aiomilter.handler import CALLBACKS, overrides
from aiomilter.wire.negotiation import Wants


async def alone(self: Any, ctx: Any) -> Any:
    """A callback that takes the context."""


async def pair(self: Any, ctx: Any, event: Any) -> Any:
    """A callback that takes context and event."""


ALONE: Final = {"data", "eoh", "eom", "abort", "close"}
NAMES: Final = [*CALLBACKS.values(), "abort", "close", "negotiate"]


def right(name: str) -> Any:
    return alone if name in ALONE else pair


def make(**members: Any) -> Any:
    return type("Filter", (Milter,), members)


def test_nothing_is_wanted_of_nothing() -> None:
    assert make()().wants == Milter().wants == Wants(frozenset())


@pytest.mark.parametrize("stage", Stage)
def test_a_callback_that_is_overridden_is_wanted(stage: Stage) -> None:
    """P-017."""
    wants = make(**{CALLBACKS[stage]: right(CALLBACKS[stage])})().wants
    assert wants == Wants(frozenset({stage}))


@pytest.mark.parametrize("name", ["abort", "close"])
def test_callbacks_at_the_end_are_wanted_without_a_step(name: str) -> None:
    assert make(**{name: alone})().wants == Wants(frozenset(), ends=True)


def test_what_a_base_class_overrides_counts() -> None:
    class Base(Milter):
        async def envfrom(self, ctx: Context, mail: Mail) -> None: ...

    class Derived(Base):
        @no_reply
        async def eoh(self, ctx: Context) -> None: ...

    assert Derived().wants == Wants(frozenset({Stage.MAIL, Stage.EOH}), frozenset({Stage.EOH}))
    assert Base().wants == Wants(frozenset({Stage.MAIL}))
    assert overrides(Derived, "envfrom")
    assert not overrides(Derived, "header")


def test_what_a_mixin_overrides_counts() -> None:
    class Mixin:
        async def envfrom(self, ctx: Context, mail: Mail) -> None: ...

    class Filter(Mixin, Milter):
        pass

    assert Filter().wants == Wants(frozenset({Stage.MAIL}))


def test_attributes_of_the_class_are_wants() -> None:
    """P-018, P-020, P-021."""
    macros = {Stage.MAIL: ("{auth_ssf}", "i", "mail_host")}
    filter_ = make(macros=macros, leading_space=True, rejected_recipients=True, actions=Action.QUARANTINE)
    wants = filter_().wants
    assert wants.macros == macros
    assert (wants.leading_space, wants.rejected_recipients, wants.actions) == (True, True, Action.QUARANTINE)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda self, ctx, event=None: None, "expected 'async def {name}', found a plain function"),
        (None, "found a plain NoneType"),
        (property(lambda self: None), "found a plain property"),
        (staticmethod(pair), "found a static or class method"),
        (classmethod(pair), "found a static or class method"),
    ],
    ids=["plain def", "None", "property", "static method", "class method"],
)
def test_a_callback_that_is_no_coroutine_method_is_refused(name: str, wrong: Any, said: str) -> None:
    with pytest.raises(TypeError) as found:
        make(**{name: wrong})
    assert f"Filter.{name}: " in str(found.value)
    assert said.format(name=name) in str(found.value)
    assert "\n" not in str(found.value)


def test_a_plain_def_is_pointed_to_compat() -> None:
    with pytest.raises(TypeError, match=r"aiomilter\.compat"):
        make(eom=lambda self, ctx: None)


async def generator(self: Any, ctx: Any, event: Any = None) -> Any:
    """An async generator is no coroutine."""
    yield None


@pytest.mark.parametrize("name", NAMES)
def test_an_async_generator_is_refused(name: str) -> None:
    with pytest.raises(TypeError, match=name):
        make(**{name: generator})


async def none(self: Any) -> Any: ...
async def three(self: Any, ctx: Any, event: Any, more: Any) -> Any: ...
async def keyword(self: Any, ctx: Any, event: Any = None, *, more: Any) -> Any: ...
async def no_self() -> Any: ...


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wrong", [none, three, keyword, no_self, "the other"])
def test_a_callback_that_cannot_take_its_arguments_is_refused(name: str, wrong: Any) -> None:
    if wrong == "the other":
        wrong = pair if name in ALONE else alone
    with pytest.raises(TypeError) as found:
        make(**{name: wrong})
    assert f"Filter.{name}: expected to take (self, ctx" in str(found.value)
    assert "\n" not in str(found.value)


async def more(self: Any, *args: Any, **options: Any) -> Any: ...
async def default(self: Any, ctx: Any, event: Any = None, more: Any = 5) -> Any: ...


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("wide", [more, default])
def test_a_callback_that_can_take_more_is_taken(name: str, wide: Any) -> None:
    assert overrides(make(**{name: wide}), name)


MISNAMED: Final = {
    "hello": "helo",
    "ehlo": "helo",
    "mail": "envfrom",
    "mail_from": "envfrom",
    "mailfrom": "envfrom",
    "rcpt": "envrcpt",
    "rcpt_to": "envrcpt",
    "end_of_headers": "eoh",
    "end_of_message": "eom",
    "end_of_body": "eom",
    "eob": "eom",
    "headers": "header",
    "handle_connect": "connect",
    "handle_MAIL": "envfrom",
    "handle_data": "data",
    "on_connect": "connect",
    "on_header": "header",
    "on_end_of_message": "eom",
    "env_from": "envfrom",
    "Header": "header",
    "quit": "close",
}


@pytest.mark.parametrize(("name", "meant"), MISNAMED.items())
def test_a_misnamed_callback_is_refused_with_the_right_name(name: str, meant: str) -> None:
    with pytest.raises(TypeError) as found:
        make(**{name: pair})
    assert f"Filter.{name} would never be called" in str(found.value)
    assert repr(meant) in str(found.value)
    assert "\n" not in str(found.value)


def test_handle_something_is_refused_with_all_names() -> None:
    with pytest.raises(TypeError, match="connect, helo, envfrom"):
        make(handle_something=pair)


@pytest.mark.parametrize("name", ["_mail", "lookup", "check_sender", "header_value", "connected", "send_mail"])
def test_other_coroutine_methods_are_the_users(name: str) -> None:
    assert make(**{name: pair})().wants == Wants(frozenset())


def test_plain_methods_may_have_any_name() -> None:
    assert make(mail=lambda self: 5)().mail() == 5


@pytest.mark.parametrize("name", [name for name in CALLBACKS.values() if name != "eom"])
def test_a_callback_may_be_declared_never_to_answer(name: str) -> None:
    """P-018."""

    async def callback(self: Any, ctx: Any, event: Any = None) -> None: ...

    wants = make(**{name: no_reply(callback)})().wants
    assert wants.no_reply == wants.stages
    assert len(wants.stages) == 1


@pytest.mark.parametrize("name", ["eom", "abort", "close", "negotiate"])
def test_what_has_to_answer_or_never_does_may_not(name: str) -> None:
    async def callback(self: Any, ctx: Any, event: Any = None) -> None: ...

    with pytest.raises(TypeError, match=f"Filter.{name}: expected @no_reply on a stage"):
        make(**{name: no_reply(callback)})


def test_a_subclass_that_answers_takes_the_mark_away() -> None:
    class Silent(Milter):
        @no_reply
        async def eoh(self, ctx: Context) -> None: ...

    class Loud(Silent):
        async def eoh(self, ctx: Context) -> None: ...

    assert Loud().wants.no_reply == frozenset()


WRONG_MACROS: Final[list[Any]] = [
    {Stage.HEADER: ("i",)},
    {Stage.BODY: ("i",)},
    {Stage.UNKNOWN: ("i",)},
    {Stage.MAIL: ("",)},
    {Stage.MAIL: ("{}",)},
    {Stage.MAIL: ("a b",)},
    {Stage.MAIL: ("a,b",)},
    {Stage.MAIL: ("a\0b",)},
    {Stage.MAIL: ("{a",)},
    {Stage.MAIL: ("gr\u00fc\u00df",)},
    {Stage.MAIL: (5,)},
    {Stage.MAIL: "mail_host"},
    {Stage.MAIL: tuple(f"name{number}" for number in range(51))},
    {"MAIL": ("i",)},
    {2: ("i",)},
    ["i"],
    5,
    None,
]


def test_macros_by_the_name_of_a_stage_are_told_which_it_is() -> None:
    what = r"Filter\.macros: expected a Stage with macros, found 'mail'; did you mean Stage\.MAIL\?"
    with pytest.raises(TypeError, match=what):
        make(macros={"mail": ("x",)})


@pytest.mark.parametrize("macros", WRONG_MACROS, ids=repr)
def test_macros_that_would_not_arrive_are_refused(macros: Any) -> None:
    """P-021."""
    with pytest.raises(TypeError, match=r"Filter\.macros: expected") as found:
        make(macros=macros)
    assert "\n" not in str(found.value)


def test_wants_are_read_once_a_class() -> None:
    filter_ = make(eoh=alone)
    assert filter_().wants is filter_().wants


def test_the_base_class_answers_nothing() -> None:
    for name in CALLBACKS.values():
        callback = getattr(Milter(), name)
        coroutine = callback(*[None] * (1 if name in ALONE else 2))
        with pytest.raises(StopIteration) as found:
            coroutine.send(None)
        assert found.value.value is None


@pytest.mark.parametrize(
    ("name", "meant"),
    [("envform", "envfrom"), ("enfrom", "envfrom"), ("envrcp", "envrcpt"), ("conect", "connect")],
)
def test_a_callback_misspelt_by_a_letter_is_refused(name: str, meant: str) -> None:
    async def callback(self: object, ctx: object, event: object) -> None: ...

    with pytest.raises(TypeError, match=f"{name} would never be called: expected '{meant}'"):
        type("Misspelt", (Milter,), {name: callback})


@pytest.mark.parametrize("name", ["connect_db", "connected", "date", "help", "load", "closing_time"])
def test_a_method_of_another_name_is_the_filter_s_own(name: str) -> None:
    async def method(self: object) -> None: ...

    assert type("Fine", (Milter,), {name: method})


def test_a_callback_that_yields_is_called_a_generator() -> None:
    async def header(self: object, ctx: object, header: object) -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match="an async generator, since it yields"):
        type("Generator", (Milter,), {"header": header})


def test_the_macro_of_the_client_s_whole_name_may_be_asked_for() -> None:
    cls = type("Asks", (Milter,), {"macros": {Stage.MAIL: ("_", "{client_addr}")}})
    assert cls().wants.macros == {Stage.MAIL: ("_", "{client_addr}")}
