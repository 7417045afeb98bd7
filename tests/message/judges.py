"""Other programs that read messages: which parts they find, and what names those have."""

import email
import email.policy
import json
import subprocess
from base64 import b64encode
from collections.abc import Iterable

from tests.programs import program

__all__ = ["by_email", "by_mime_tools", "missing_mime_tools"]

Parts = list[tuple[str, str]]
"""Type and name of each part, those that have parts included, in the order of the message."""

# One process reads all messages, a line each, and prints a line each.
_PERL = """\
use strict; use warnings; use JSON::PP; use MIME::Parser; use MIME::Base64;
binmode STDOUT, ':raw';
my $json = JSON::PP->new->utf8;
sub found {
    my ($entity, $into) = @_;
    push @$into, [lc $entity->mime_type, $entity->head->recommended_filename // ''];
    found($_, $into) for $entity->parts;
}
while (my $line = <STDIN>) {
    my $parser = MIME::Parser->new;
    $parser->output_to_core(1);
    $parser->tmp_to_core(1);
    $parser->decode_bodies(0);
    my @parts;
    my $entity = eval { $parser->parse_data(decode_base64($line)) };
    found($entity, \\@parts) if $entity;
    print $json->encode(\\@parts), "\\n";
}
"""


def missing_mime_tools() -> str | None:
    """What this machine lacks; None if nothing."""
    perl = program("perl")
    if (
        perl is None
        or subprocess.run([perl, "-MMIME::Parser", "-MJSON::PP", "-e", "1"], stderr=-3, check=False).returncode
    ):
        return "MIME::Tools is not installed (Debian package libmime-tools-perl)"
    return None


def by_mime_tools(messages: Iterable[bytes]) -> list[Parts]:
    """Return what MIME::Tools finds in each message, as its line ends are on Unix."""
    lines = b"".join(b64encode(octets.replace(b"\r\n", b"\n")) + b"\n" for octets in messages)
    done = subprocess.run(["perl", "-e", _PERL], input=lines, capture_output=True, check=True)
    return [[(kind, name) for kind, name in json.loads(line)] for line in done.stdout.splitlines()]


def by_email(octets: bytes) -> Parts:
    """Return what ``email`` finds."""
    found = email.message_from_bytes(octets, policy=email.policy.SMTP)
    return [(part.get_content_type(), part.get_filename() or "") for part in found.walk()]
