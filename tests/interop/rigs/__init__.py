"""Private instances of real MTAs for tests: own configuration, queue, log and ports, on loopback only.

Each relays every message to an SMTP sink in this process, ``sink``.  ``mta`` says what all rigs can do, ``postfix``
and ``sendmail`` how.  No installed mail service is touched.
"""
