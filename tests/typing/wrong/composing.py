"""Compositions that a type checker refuses."""

from aiomilter import Context, Milter
from aiomilter.compose import check, compose, edit, known_at, one_class
from aiomilter.message import MessageMilter


class Plain(Milter):
    pass


class Whole(MessageMilter):
    pass


def late(ctx: Context) -> bool:
    return ctx.failed(1)  # E: arg-type


compose(3)  # E: arg-type
compose(Plain())  # E: arg-type
edit(Plain)  # E: arg-type
check(Plain, timout=3)  # E: call-arg
check(Plain, on_error=True)  # E: arg-type
check(Plain, when=3)  # E: arg-type
edit(Whole, after=1)  # E: arg-type
known_at("EOM")  # E: arg-type
one_class("domain")  # E: arg-type
