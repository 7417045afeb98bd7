"""Files of recorded sessions: what is written is read, and everything that is read has a bound."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.recording import FILTER, MTA, REMARK, Head, Packet, Recording, RecordingError, read
from aiomilter.recording.format import CLOSED, head_line, packet_line, parse_head, parse_packet
from tests.conformance.capture import conversations, of_libmilter, of_mtas
from tests.recorded import recording_of

HEAD = head_line(Head(mta="Postfix 3.7.11", time="2026-01-01T00:00:00Z", filter="f.py"))
LINE = packet_line(Packet(0.5, MTA, ord("H"), b"client.example\0"))


def octets(recording: Recording) -> bytes:
    return b"".join([head_line(recording.head), *map(packet_line, recording.packets)])


@pytest.mark.parametrize("compress", [gzip.compress, bytes], ids=["gzip", "plain"])
def test_every_capture_is_written_and_read_again(tmp_path: Path, compress: Any) -> None:
    path = tmp_path / "x.jsonl.gz"
    for name in (*of_mtas(), *of_libmilter()):
        recording = recording_of(conversations()[name])
        path.write_bytes(compress(octets(recording)))
        assert read(path) == Recording(str(path), recording.head, recording.packets), name


@given(
    st.builds(
        Packet,
        st.floats(0, 1e6).map(lambda seconds: round(seconds, 6)),
        st.sampled_from([MTA, FILTER, REMARK]),
        st.one_of(st.just(CLOSED), st.integers(0, 255)),
        st.binary(max_size=200),
    )
)
def test_any_packet_is_a_line_of_ascii_and_comes_back(packet: Packet) -> None:
    line = packet_line(packet)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert parse_packet(line) == packet


@given(
    st.builds(
        Head,
        mta=st.text(max_size=20),
        filter=st.text(max_size=20),
        protocol=st.integers(0, 2**32 - 1),
        actions=st.just(7),
    )
)
def test_any_head_comes_back(head: Head) -> None:
    assert parse_head(head_line(head)) == head


def changed(line: bytes, **fields: Any) -> bytes:
    return json.dumps({**json.loads(line), **fields}).encode() + b"\n"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (b"", "expected a JSON object"),
        (b"\n", "expected a JSON object"),
        (b"[1]\n", "expected a JSON object, found list"),
        (b"\xff\xfe\n", "expected a JSON object"),
        (b"[" * 100_000 + b"\n", "expected a JSON object"),
        (b'{"format": ' + b"9" * 5000 + b"}\n", "expected a JSON object"),
        (changed(HEAD, format=2), "of format 1, found 2"),
        (changed(HEAD, format=True), "of format 1, found True"),
        (changed(HEAD, content="most"), "expected full or shape"),
        (changed(HEAD, agreed=[]), "expected an object as agreed"),
        (changed(HEAD, agreed={"version": 6, "actions": -1, "protocol": 0}), "a number of 32 bits as actions"),
        (changed(HEAD, mta="x" * 1001), "at most 1000 characters as mta"),
        (changed(HEAD, filter=None), "characters as filter"),
        (HEAD + HEAD, "line 2: t: expected seconds"),
        (HEAD + changed(LINE, t=-1), "line 2: t: expected seconds"),
        (HEAD + LINE.replace(b"0.5", b"NaN"), "line 2: t: expected seconds"),
        (HEAD + LINE.replace(b"0.5", b"Infinity"), "line 2: t: expected seconds"),
        (HEAD + LINE.replace(b"0.5", b"1e999"), "line 2: t: expected seconds"),
        (HEAD + LINE.replace(b"0.5", b"9" * 400), "line 2: t: expected seconds"),
        (HEAD + changed(LINE, t=True), "line 2: t: expected seconds"),
        (HEAD + changed(LINE, d="?"), "line 2: d: expected"),
        (HEAD + changed(LINE, d=["<"]), "line 2: d: expected"),
        (HEAD + changed(LINE, c="HH"), "line 2: c: expected one octet"),
        (HEAD + changed(LINE, c="\u0100"), "line 2: c: expected one octet"),
        (HEAD + changed(LINE, s="\u0100"), "line 2: s: expected characters that are octets"),
        (HEAD + changed(LINE, s="\ud800"), "line 2: s: expected characters that are octets"),
        (HEAD + changed(LINE, s=7), "line 2: s: expected a text"),
        (HEAD + changed(LINE, s="x" * ((1 << 20) + 1)), "line 2: s: expected a text of at most"),
        (HEAD + LINE + b"{}\n", "line 3: t: expected seconds"),
        (HEAD + b"x" * (7 << 20), "expected lines of at most"),
    ],
)
@pytest.mark.parametrize("compress", [lambda found: gzip.compress(found, 1), bytes], ids=["gzip", "plain"])
def test_what_is_no_recorded_session_is_refused_in_one_line(
    found: bytes, what: str, compress: Any, tmp_path: Path
) -> None:
    path = tmp_path / "x"
    path.write_bytes(compress(found))
    with pytest.raises(RecordingError, match=what) as error:
        read(path)
    assert str(error.value).startswith(f"{path}: ")
    assert len(str(error.value)) < len(str(path)) + 200


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        (gzip.compress(HEAD + LINE)[:-9], "ends in the middle"),
        (gzip.compress(HEAD + LINE)[:20] + b"\xff" * 40, "damaged"),
        (gzip.compress(HEAD + LINE) + b"more", "damaged"),
        (b"\x1f\x8b", "ends in the middle"),
    ],
)
def test_a_damaged_file_is_refused(octets: bytes, what: str, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(octets)
    with pytest.raises(RecordingError, match=what):
        read(tmp_path / "x")


def test_no_more_is_decompressed_than_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two members of gzip, each of 4 MiB in 4 KiB: as many as one likes could follow."""
    bomb = HEAD + (LINE.rstrip(b"}\n") + b" " * (64 << 10) + b"}\n") * 64
    (tmp_path / "x").write_bytes(gzip.compress(bomb) * 2)
    given: list[int] = []
    readline = gzip.GzipFile.readline

    def counted(file: gzip.GzipFile, size: int = -1) -> bytes:
        line = readline(file, size)
        given.append(len(line))
        return line

    monkeypatch.setattr(gzip.GzipFile, "readline", counted)
    with pytest.raises(RecordingError, match="expected at most 1000000 octets, found more"):
        read(tmp_path / "x", max_size=1_000_000)
    assert sum(given) <= 1_000_001
