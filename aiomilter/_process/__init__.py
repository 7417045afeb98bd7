"""What a process that does nothing but serve is made of.

In reading order: ``lifecycle`` starts, reloads, drains and stops a service; ``systemd`` reports that to the service manager.
Where several processes serve, ``supervisor`` leads them, ``forking`` starts one, ``worker`` is what runs in it, ``channel``
has the words between them, and ``backoff`` the delay after deaths.  ``relay`` passes on what workers count, over a ``pipe``
each, to the process of the HTTP listener.
"""
