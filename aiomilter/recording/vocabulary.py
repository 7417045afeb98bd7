"""Words of protocols and formats, which identify neither people nor messages: redaction leaves them as they are."""

from typing import Final

__all__ = ["DAEMONS", "FIELDS", "HOST_MACROS", "MACROS_KEPT", "OF_FIELD", "PARAMETERS", "SECRET_MACROS"]


def _words(text: str) -> frozenset[bytes]:
    return frozenset(text.encode("ascii").split())


FIELDS: Final = _words(
    "arc-authentication-results arc-message-signature arc-seal authentication-results auto-submitted bcc cc comments"
    " content-description content-disposition content-id content-language content-length content-location"
    " content-transfer-encoding content-type date delivered-to disposition-notification-to dkim-signature domainkey-signature"
    " envelope-to errors-to feedback-id from importance in-reply-to keywords list-archive list-help list-id list-owner"
    " list-post list-subscribe list-unsubscribe list-unsubscribe-post message-id mime-version organization"
    " original-message-id precedence priority received received-spf references reply-to resent-cc resent-date resent-from"
    " resent-message-id resent-sender resent-to return-path sender sensitivity status subject thread-index thread-topic to"
    " user-agent x-mailer x-mailbox-line x-originating-ip x-priority x-msmail-priority x-spam-flag x-spam-level x-spam-score"
    " x-spam-status x-spam-checker-version x-virus-scanned x-virus-status x-greylist x-loop"
)
"""Names of header fields; other names are redacted."""
_MONTHS_AND_DAYS: Final = _words(
    "mon tue wed thu fri sat sun jan feb mar apr may jun jul aug sep oct nov dec gmt utc ut est edt cst cdt mst mdt pst pdt"
)
_MIME: Final = _words(
    "text plain html multipart mixed alternative related signed encrypted report digest parallel message rfc822 partial"
    " external body delivery status disposition notification application octet stream pdf zip gzip xml json msword rtf"
    " javascript pkcs7 mime signature pgp image png jpeg gif svg bmp tiff webp audio mpeg wav video mp4 calendar csv css"
    " enriched vcard charset boundary name filename format flowed fixed delsp yes no type start protocol micalg attachment"
    " inline form data creation modification read date size base64 quoted printable 7bit 8bit binary method request reply"
    " utf us ascii iso latin windows koi8 gb2312 gbk gb18030 big5 euc kr jp shift jis hz tis ks sha1 sha256 sha512 md5"
    " r u ms ole vnd openxmlformats officedocument wordprocessingml spreadsheetml presentationml document sheet"
    " presentation excel powerpoint opendocument compressed x"
)
_RESULTS: Final = _words(
    "spf dkim dmarc arc iprev auth dkim-adsp dkim-atps sender-id pass fail softfail neutral none temperror permerror policy"
    " hardfail bestguesspass smtp header mailfrom helo i d s b from p sp dis quarantine reject reason client ip envelope"
    " receiver identity mechanism all include mx a ptr exists best guess record problem domain of designates as permitted"
    " does not designate sender transitioning cv"
)
_TAGS: Final = _words("v a b bh c d h i l q s t x z k p r n cv rsa ed25519 sha1 sha256 relaxed simple dns txt")
_RECEIVED: Final = _words(
    "from by with id for via esmtp esmtps esmtpa esmtpsa smtp lmtp lmtps http https local tls version cipher bits"
    " verify no fail ok not requested authenticated sender using unknown client certificate mail filter postfix sendmail"
    " userid helo"
)
OF_FIELD: Final = {
    b"content-type": _MIME,
    b"content-disposition": _MIME,
    b"content-transfer-encoding": _MIME,
    b"mime-version": _MIME,
    b"authentication-results": _RESULTS,
    b"arc-authentication-results": _RESULTS,
    b"received-spf": _RESULTS,
    b"dkim-signature": _TAGS,
    b"arc-message-signature": _TAGS,
    b"arc-seal": _TAGS,
    b"received": _RECEIVED | _MONTHS_AND_DAYS,
    b"subject": _words("re fw fwd aw wg sv vs"),
    b"auto-submitted": _words("auto generated replied notified no"),
    b"precedence": _words("bulk list junk first class"),
    b"importance": _words("low normal high"),
    b"priority": _words("urgent normal non"),
    b"list-unsubscribe-post": _words("list unsubscribe one click"),
    b"x-spam-flag": _words("yes no"),
}
"""Words that stay, by the name of a header field."""
PARAMETERS: Final = _words(
    "size body 7bit 8bitmime binarymime notify never success failure delay ret hdrs full envid orcpt rfc822 utf smtputf8 by"
    " mt priority requiretls auth holdfor holduntil"
)
"""Words of ESMTP parameters."""
MACROS_KEPT: Final = _words(
    "v tls_version cipher cipher_bits auth_type auth_ssf mail_mailer rcpt_mailer client_resolve"
    " client_connections client_rate client_port server_name_kind opmode nrcpts nbadrcpts ntries msg_size verify"
    " daemon_flags daemon_port daemon_family"
)
"""Names of macros whose values stay."""
DAEMONS: Final = _words("mta msa smtp smtpd smtps submission submissions inbound outbound tlsmta")
"""Usual values of the macro ``daemon_name``."""
HOST_MACROS: Final = _words("j w client_name client_ptr mail_host rcpt_host if_name server_name")
"""Names of macros whose values are names of hosts."""
SECRET_MACROS: Final = _words("auth_authen auth_author cert_subject cert_issuer cn_subject cn_issuer cert_md5")
"""Names of macros whose values are redacted even where the content is recorded in full."""
