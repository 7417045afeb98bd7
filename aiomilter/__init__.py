"""Mail filters for Postfix and Sendmail on asyncio, without libmilter."""

__version__ = "0.1.0"
