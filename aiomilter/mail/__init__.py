"""Mail as the RFCs write it; for any program, without milters.

:mod:`~aiomilter.mail.envelope` reads paths and ESMTP parameters, :mod:`~aiomilter.mail.domain` normalizes domains,
:mod:`~aiomilter.mail.headers` is a header section octet for octet, and :mod:`~aiomilter.mail.encoded_words` decodes header
values, with the charsets of :mod:`~aiomilter.mail.charsets`; :mod:`~aiomilter.mail.encoding` writes them, and
:mod:`~aiomilter.mail.addresses` finds the mailboxes in them.  :mod:`~aiomilter.mail.display` shows text that others wrote.
:mod:`~aiomilter.mail.srs` rewrites senders for forwarding, and :mod:`~aiomilter.mail.socketmap` answers an MTA that asks for
them.
"""
