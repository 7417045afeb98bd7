"""Mail as the RFCs write it: envelope paths and parameters, domains, header text.  Knows nothing of milters."""
