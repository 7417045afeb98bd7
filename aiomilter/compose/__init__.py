"""Several filters in one connection: ``milter = compose(Spf, Greylist, Footer)`` is a factory like any other.

See ``aiomilter help composing``.

In reading order: :mod:`~aiomilter.compose.members`, a filter and what is to be done with it;
:mod:`~aiomilter.compose.conditions`, when it is left out, and :mod:`~aiomilter.compose.words`, who knows;
:mod:`~aiomilter.compose.composition`, the factory; :mod:`~aiomilter.compose.sparing`, whom one filter lets by others;
:mod:`~aiomilter.compose.plan`, their order and what they ask of the MTA together; :mod:`~aiomilter.compose.handler`, which
makes one answer of theirs, with :mod:`~aiomilter.compose.filters`, :mod:`~aiomilter.compose.turns`,
:mod:`~aiomilter.compose.fields`, :mod:`~aiomilter.compose.edits`, :mod:`~aiomilter.compose.authors`,
:mod:`~aiomilter.compose.readiness` and :mod:`~aiomilter.compose.messages`; :mod:`~aiomilter.compose.recipients`.  Filters
whose answers are not sent: :mod:`~aiomilter.compose.shadowed` records for them what happens,
:mod:`~aiomilter.compose.shadow_filters` has a Task for each, :mod:`~aiomilter.compose.shadow_asking` asks it, with
:mod:`~aiomilter.compose.shadow_messages`, :mod:`~aiomilter.compose.shadow_edits` and :mod:`~aiomilter.compose.share`.
"""

from aiomilter._shadow import in_shadow
from aiomilter.compose.composition import Composition, compose
from aiomilter.compose.conditions import known_at
from aiomilter.compose.members import Member, check, edit
from aiomilter.compose.recipients import one_class
from aiomilter.compose.share import MailShare

__all__ = ["Composition", "MailShare", "Member", "check", "compose", "edit", "in_shadow", "known_at", "one_class"]
