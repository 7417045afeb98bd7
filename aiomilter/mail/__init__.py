"""Mail as the RFCs write it: envelope paths and parameters, domains, header text; and senders rewritten for forwarding.

``srs`` rewrites addresses, ``socketmap`` answers an MTA that asks for them.  Knows nothing of milters.
"""
