"""What a server is made of.

In reading order: ``binding`` makes sockets, ``listener`` accepts from them, and ``sharing`` does so among processes; ``access``
and ``admission`` say who may connect, and how many; ``handshakes`` bounds TLS; ``memory`` what all connections keep;
``factory`` makes filters; ``stall`` watches the event loop.
"""
