"""The names that other libraries have for what a context has."""

from collections.abc import Mapping
from typing import Final

__all__ = ["ELSEWHERE"]

# Names of libmilter, other libraries and SMTP, and the names of ours that replace them; compared in lower case, without
# underscores and "smfi".
ELSEWHERE: Final[Mapping[str, str]] = {
    "addheader": "ctx.add_header",
    "insheader": "ctx.insert_header",
    "chgheader": "ctx.change_header",
    "setheader": "ctx.change_header",
    "delheader": "ctx.delete_header",
    "removeheader": "ctx.delete_header",
    "replacebody": "ctx.replace_body",
    "chgbody": "ctx.replace_body",
    "chgfrom": "ctx.change_sender",
    "addrcpt": "ctx.add_recipient",
    "addrcptpar": "ctx.add_recipient",
    "delrcpt": "ctx.delete_recipient",
    "quarantine": "ctx.quarantine",
    "progress": "ctx.progress",
    "getsymval": "ctx.macro",
    "getpriv": "ctx.notes",
    "setpriv": "ctx.notes",
    "mail": "ctx.sender",
    "mailfrom": "ctx.sender",
    "envfrom": "ctx.sender",
    "rcpt": "ctx.recipients",
    "rcpts": "ctx.recipients",
    "rcptto": "ctx.recipients",
    "envrcpt": "ctx.recipients",
    "connect": "ctx.client",
    "connection": "ctx.client",
    "hostname": "ctx.client.hostname",
    "address": "ctx.client.ip",
    "ip": "ctx.client.ip",
    "ehlo": "ctx.helo",
    "id": "ctx.queue_id",
    "header": "the header callback, which gets each field",
    "headers": "the header callback, which gets each field",
    "fields": "the header callback, which gets each field",
    "subject": "the header callback, which gets each field",
    "body": "the body callback, which gets each piece",
    "content": "the body callback, which gets each piece",
    "message": "the header and body callbacks",
    "setreply": "the callback to return a Reply",
    "setmlreply": "the callback to return a Reply",
    "reply": "the callback to return a Reply",
    "accept": "the callback to return ACCEPT",
    "discard": "the callback to return DISCARD",
    "reject": "the callback to return REJECT",
    "tempfail": "the callback to return TEMPFAIL",
}
"""The attribute of a context, or what replaces it."""
