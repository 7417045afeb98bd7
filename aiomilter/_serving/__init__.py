"""What a server is made of.

In reading order: ``binding`` makes sockets, ``listener`` accepts from one, ``listeners`` holds those of a server, and
``sharing`` lets several processes accept from the same.  ``access`` and ``admission`` decide which connections may come, and
how many.  ``transports`` makes their transports, and ``handshakes`` bounds TLS.  ``memory`` bounds what all connections keep,
and ``idle`` closes those that send nothing.  ``factory`` is a factory of filters in use, ``lifespans`` are those of a server.
``stall`` watches the event loop.  ``feed`` is what processes tell of themselves, ``status`` the HTTP listener that shows it, at
a ``status_address``; ``status_service`` is a process of it.

Smaller ones: ``bind_errors`` words failures, ``socket_file`` makes and removes the file of a UNIX-domain socket, ``kernel``
asks what the operating system knows of a socket, ``forked`` keeps sockets and signals from child processes, and ``shielded``
finishes work whose caller is cancelled.
"""
