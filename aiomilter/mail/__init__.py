"""Mail as the RFCs write it: envelope paths and parameters.  Knows nothing of milters."""
