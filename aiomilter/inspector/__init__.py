"""The inspector: a page in the browser that shows what a filter does, live.

In reading order: :mod:`~aiomilter.inspector.recording` keeps the octets of a connection, and when they came;
:mod:`~aiomilter.inspector.store` the last messages; :mod:`~aiomilter.inspector.frames` and
:mod:`~aiomilter.inspector.conversation` read them once a page asks; :mod:`~aiomilter.inspector.view` makes values for the
page, with :mod:`~aiomilter.inspector.changes`, :mod:`~aiomilter.inspector.parts` and :mod:`~aiomilter.inspector.explained`;
:mod:`~aiomilter.inspector.logs` takes log records, :mod:`~aiomilter.inspector.sending` brings messages from workers, and
:mod:`~aiomilter.inspector.replaying` makes a scenario of one to be played again.
:mod:`~aiomilter.inspector.access` says who may ask, and :mod:`~aiomilter.inspector.web` answers.  The page itself is in
``page/``.  See ``aiomilter help inspector``.
"""
