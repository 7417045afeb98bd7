"""pymilter's utility modules, under the names that programs know: ``Milter.utils`` is ``utils`` here, ``mime`` is ``mime``.

``utils`` and ``test`` would be poor names for modules of our own.  They stay, since ``import Milter.utils`` and ``import
Milter.test`` have to find them, and a reader looks for them by these names.  Nothing is added to them that pymilter does not
have.

``mime`` stands on ``archives``, ``generator``, ``mailboxes``, ``markup``, ``parameters`` and ``words``, and ``test`` and
``testctx`` stand on ``testmessage``.  These have no counterpart in pymilter; what ``mime`` stands on is there part of Python's
own ``email``, as it was.
"""
