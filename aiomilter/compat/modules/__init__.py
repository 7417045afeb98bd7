"""pymilter's utility modules, under the names that programs know: ``Milter.utils`` is ``utils`` here, ``mime`` is ``mime``.

``mime`` stands on ``archives``, ``generator``, ``mailboxes``, ``markup``, ``parameters`` and ``words``, which
have no counterpart in pymilter: there these are parts of Python's own ``email``, as it was.
"""
