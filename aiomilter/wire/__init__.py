"""The milter protocol without I/O: same octets in, same events out."""
