"""Mail as the RFCs write it: envelope paths, domains, header sections and header text.  Knows nothing of milters."""
