"""Files for TLS that cannot be used, in our words with the remedy; and ``check`` by TLS."""

import asyncio
import datetime
import threading
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from aiomilter import Milter, serve
from aiomilter._cli import main
from aiomilter._cli.options import RunOptions
from aiomilter._cli.tls import Files, load_tls, tls, warning
from aiomilter._cli.trouble import Trouble

from .peer import Watcher

PEM: Final = serialization.Encoding.PEM
DER: Final = serialization.Encoding.DER
PLAIN: Final = serialization.NoEncryption()
PKCS8: Final = serialization.PrivateFormat.PKCS8
NOW: Final = datetime.datetime.now(datetime.UTC)


def certificate(key: Any, begins: int = -1, ends: int = 1) -> x509.Certificate:
    """A certificate that has signed itself, valid for these days from now."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(NOW + datetime.timedelta(days=begins))
    return builder.not_valid_after(NOW + datetime.timedelta(days=ends)).sign(key, hashes.SHA256())


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of all kinds, good and bad."""
    made = tmp_path_factory.mktemp("tls")
    key, other, weak = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1()), _weak()
    good, secret = certificate(key).public_bytes(PEM), key.private_bytes(PEM, PKCS8, PLAIN)
    octets = {
        "c.pem": good,
        "k.pem": secret,
        "both.pem": good + secret,
        "other.pem": certificate(other).public_bytes(PEM) + other.private_bytes(PEM, PKCS8, PLAIN),
        "locked.pem": key.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
        "c.der": certificate(key).public_bytes(DER),
        "k.der": key.private_bytes(DER, PKCS8, PLAIN),
        "words.pem": b"hello\n",
        "empty.pem": b"\n",
        "c-cut.pem": good[:200],
        "k-cut.pem": secret[:100],
        "expired.pem": certificate(key, -9, -2).public_bytes(PEM) + secret,
        "early.pem": certificate(key, 2, 9).public_bytes(PEM) + secret,
        "weak.pem": certificate(weak).public_bytes(PEM) + weak.private_bytes(PEM, PKCS8, PLAIN),
    }
    for name, content in octets.items():
        (made / name).write_bytes(content)
    return made


def _weak() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=1024)


TROUBLE: Final = [
    # Certificate, key, authorities of clients; the file that is named, and the rest of the line.
    ("c.pem", None, None, "c.pem", "there is no private key in it; name its file with --tls-key"),
    (
        "k.pem",
        None,
        None,
        "k.pem",
        "there is a private key in it and no certificate; the option for a key is --tls-key",
    ),
    ("c.pem", "c.pem", None, "c.pem", "there is no private key in it; expected PEM, which has a line -----BEGIN PRIV"),
    ("c.pem", "words.pem", None, "words.pem", "there is no private key in it; expected PEM"),
    ("c.pem", "empty.pem", None, "empty.pem", "the file is empty"),
    ("c.pem", "k.der", None, "k.der", "it is not PEM but DER; convert it with 'openssl pkey -inform der"),
    (
        "c.pem",
        "k-cut.pem",
        None,
        "k-cut.pem",
        "the private key in it is damaged, or of a kind that OpenSSL does not know",
    ),
    ("c.pem", "gone.pem", None, "gone.pem", "No such file or directory"),
    (
        "c.pem",
        "other.pem",
        None,
        "c.pem",
        "the private key in 'other.pem' is not the key of this certificate; give the ",
    ),
    (
        "c.pem",
        "locked.pem",
        None,
        "locked.pem",
        "its private key is encrypted, and a daemon cannot ask for the pass phrase",
    ),
    ("c.der", "k.pem", None, "c.der", "it is not PEM but DER; convert it with 'openssl x509 -inform der"),
    (
        "words.pem",
        None,
        None,
        "words.pem",
        "there is no certificate in it; expected PEM, which has a line -----BEGIN CERT",
    ),
    ("words.pem", "k.pem", None, "words.pem", "there is no certificate in it; expected PEM"),
    ("empty.pem", None, None, "empty.pem", "the file is empty"),
    ("c-cut.pem", "k.pem", None, "c-cut.pem", "the certificate in it is damaged; copy it anew"),
    ("gone.pem", None, None, "gone.pem", "No such file or directory"),
    (".", None, None, ".", "Is a directory"),
    ("weak.pem", None, None, "weak.pem", "its key or signature is too weak for OpenSSL; make a new one, of 2048 bits"),
    ("both.pem", None, "gone.pem", "gone.pem", "No such file or directory"),
    ("both.pem", None, "words.pem", "words.pem", "there is no certificate in it; expected PEM"),
    ("both.pem", None, "k.pem", "k.pem", "there is a private key in it and no certificate"),
    ("both.pem", None, "c-cut.pem", "c-cut.pem", "a certificate in it is damaged; copy it anew"),
]


@pytest.mark.parametrize(("chain", "key", "clients", "named", "what"), TROUBLE)
def test_a_file_that_cannot_be_used_is_one_line_with_the_remedy(
    chain: str,
    key: str | None,
    clients: str | None,
    named: str,
    what: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(files)
    with pytest.raises(Trouble) as caught:
        tls(Files(RunOptions(tls_certificate=chain, tls_key=key, tls_client_ca=clients)))
    text = str(caught.value)
    assert text.startswith(f"cannot use {named!r} for TLS: {what}")
    assert "_ssl.c" not in text


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("both.pem", None),
        ("expired.pem", "the certificate in 'expired.pem' has expired; peers that verify it do not connect: renew it"),
        ("early.pem", "the certificate in 'early.pem' is not valid yet; check the clock of this machine"),
    ],
)
@pytest.mark.parametrize("clients", [None, "c.pem"])
def test_a_certificate_that_is_not_valid_now_is_a_warning(
    name: str, said: str | None, clients: str | None, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is used all the same: peers that do not verify it go on."""
    monkeypatch.chdir(files)
    named = Files(RunOptions(tls_certificate=name, tls_client_ca=clients))
    context = tls(named)
    assert warning(context, named) == said
    assert context is not None
    load_tls(context, named)


def test_without_a_certificate_there_is_no_warning() -> None:
    assert warning(None, Files(RunOptions())) is None


# ------------------------------------------------------------------------------------------------------------- check


class Running:
    """A filter that listens in a thread of its own, as ``check`` has an event loop of its own."""

    def __init__(self, files: Path, certificate: str | None, clients: str | None = None) -> None:
        self._context = None
        if certificate is not None:
            authorities = str(files / clients) if clients is not None else None
            chain = str(files / certificate)
            self._context = tls(Files(RunOptions(tls_certificate=chain, tls_client_ca=authorities)))
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self.address = ""
        self.watcher = Watcher()

    async def _serve(self) -> None:
        async with serve(Milter, "inet:0@127.0.0.1", ssl=self._context, observer=self.watcher) as server:
            self.address = server.addresses[0]
            self._ready.set()
            await self._ended.wait()

    def __enter__(self) -> "Running":
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()


OVER_TLS: Final = [
    # Of the filter: certificate, authorities of clients; options; exit code, and what is printed.
    ("both.pem", None, ["--tls-ca", "c.pem"], 0, "250 2.0.0 Ok"),
    ("both.pem", None, [], 1, "; if it speaks TLS, give --tls-ca FILE"),
    (
        "both.pem",
        None,
        ["--tls-ca", "other.pem"],
        4,
        "its certificate is not trusted: self-signed certificate; see --tls-ca",
    ),
    ("expired.pem", None, ["--tls-ca", "expired.pem"], 4, "its certificate is not trusted: certificate has expired"),
    ("both.pem", "other.pem", ["--tls-ca", "c.pem", "--tls-certificate", "other.pem"], 0, "250 2.0.0 Ok"),
    ("both.pem", "other.pem", ["--tls-ca", "c.pem"], 1, "; if it asks for a certificate, give --tls-certificate FILE"),
    (None, None, ["--tls-ca", "c.pem"], 4, "it does not speak TLS; leave --tls-ca out"),
]


@pytest.mark.parametrize(("chain", "clients", "options", "status", "printed"), OVER_TLS)
def test_check_asks_a_filter_that_speaks_tls(
    chain: str | None,
    clients: str | None,
    options: list[str],
    status: int,
    printed: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(files)
    with Running(files, chain, clients) as running:
        assert main(["check", "--connect", running.address, *options]) == status
    out, err = capsys.readouterr()
    assert printed in out + err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--tls-ca", "c.pem", "filter.py"], "--tls-ca needs --connect: a filter is not asked by TLS here"),
        (["--connect", "unix:/x", "--tls-ca", "c.pem"], "--tls-ca is for TCP; there is no TLS on UNIX-domain sockets"),
        (["--connect", "inet:1", "--tls-key", "k.pem"], "--tls-certificate and --tls-key need --tls-ca"),
        (["--connect", "inet:1", "--tls-ca", "c.pem", "--tls-key", "k.pem"], "--tls-key needs --tls-certificate"),
    ],
)
def test_options_for_tls_that_do_not_go_together_are_one_line(
    arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *arguments]) == 2
    assert capsys.readouterr().err == f"aiomilter: {line}\n"
