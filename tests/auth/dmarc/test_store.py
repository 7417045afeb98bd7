"""Records wait in files until a report is due: a line each, for their owner alone, bounded, whatever else is in the files."""

import json
import os
import stat
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiomilter.auth.dmarc import DmarcRecord, Override, Record, ReportStore, SignatureResult
from aiomilter.auth.dmarc._evaluation import OverrideType
from aiomilter.auth.dmarc._record import Disposition
from aiomilter.auth.dmarc._store import decoded, encoded

DAY: Final = 86_400
NOON: Final = 20_000 * DAY + DAY // 2  # 2024-10-04
RECORD: Final = DmarcRecord(
    source_ip=IPv4Address("192.0.2.1"),
    header_from="a.example.com",
    envelope_from="",
    domain="example.com",
    policy=Record("reject", sp="none", rua=("mailto:d@example.com",)),
    published="none",
    disposition="none",
    dkim="fail",
    spf="pass",
    signatures=(SignatureResult("example.net", "s1", "fail", "body changed"),),
    spf_domain="example.com",
    spf_result="pass",
    reasons=(Override("mailing_list", "x"),),
)
TEXT: Final = st.text(st.characters(exclude_categories=[]), max_size=20)
WORDS: Final = st.sampled_from(get_args(Disposition))
RECORDS: Final = st.builds(
    DmarcRecord,
    source_ip=st.ip_addresses(),
    header_from=TEXT,
    envelope_from=st.none() | TEXT,
    domain=st.sampled_from(["example.com", "xn--bcher-kva.example"]),
    policy=st.builds(
        Record,
        WORDS,
        sp=st.none() | WORDS,
        testing=st.booleans(),
        rua=st.lists(TEXT, max_size=3).map(tuple),
        problem=TEXT,
    ),
    published=WORDS,
    disposition=st.just("pass") | WORDS,
    dkim=st.sampled_from(["pass", "fail"]),
    spf=st.sampled_from(["pass", "fail"]),
    signatures=st.lists(st.builds(SignatureResult, TEXT, TEXT, TEXT, TEXT), max_size=3).map(tuple),
    spf_domain=TEXT,
    reasons=st.lists(st.builds(Override, st.sampled_from(get_args(OverrideType)), TEXT), max_size=2).map(tuple),
    discovery_method=st.sampled_from(["psl", "treewalk"]),
    count=st.integers(1, 1000),
)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.now: float = NOON

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def due(store: ReportStore, clock: Clock) -> dict[str, list[DmarcRecord]]:
    """Return the records of the one day that is due tomorrow."""
    clock.now += DAY
    (day,) = store.due()
    return {domain: list(day.records(domain)) for domain in day.domains()}


def test_records_come_back_by_domain_in_order(tmp_path: Path, clock: Clock) -> None:
    """M-070."""
    store = ReportStore(tmp_path / "records", clock=clock)
    other = replace(RECORD, domain="example.net", source_ip=IPv6Address("2001:db8::1"), envelope_from=None)
    made = [RECORD, other, replace(RECORD, count=3)]

    assert [store.add(each) for each in (*made, None)] == [""] * 4

    assert due(store, clock) == {"example.com": [made[0], made[2]], "example.net": [other]}
    (day,) = store.due()
    assert (day.name, day.end - day.begin, day.begin) == ("2024-10-04", DAY, 20_000 * DAY)


def test_files_are_for_their_owner_alone(tmp_path: Path, clock: Clock) -> None:
    store = ReportStore(tmp_path / "records", clock=clock)
    store.add(RECORD)

    (file,) = (tmp_path / "records").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


def test_a_day_is_due_a_minute_after_its_end(tmp_path: Path, clock: Clock) -> None:
    store = ReportStore(tmp_path, clock=clock)
    store.add(RECORD)
    midnight = 20_001 * DAY
    for clock.now, days in ((NOON, 0), (midnight, 0), (midnight + 59, 0), (midnight + 60, 1)):
        assert len(store.due()) == days


def test_each_day_has_its_file_and_old_ones_are_removed(tmp_path: Path, clock: Clock) -> None:
    store = ReportStore(tmp_path, keep=2, clock=clock)
    for _ in range(4):
        store.add(RECORD)
        clock.now += DAY

    assert sorted(os.listdir(tmp_path)) == ["2024-10-05.jsonl", "2024-10-06.jsonl", "2024-10-07.jsonl"]


def test_more_records_than_fit_into_a_day_are_dropped_and_counted(tmp_path: Path, clock: Clock) -> None:
    store = ReportStore(tmp_path, max_size=100_000, clock=clock)
    problems = [store.add(RECORD) for _ in range(300)]

    assert store.dropped == sum(map(bool, problems)) > 0
    assert problems[-1] == f"{tmp_path}: 100000 octets of records today, no more are kept"
    assert 99_000 < (tmp_path / "2024-10-04.jsonl").stat().st_size <= 100_000
    clock.now += DAY
    assert store.add(RECORD) == ""


@pytest.mark.parametrize("rest", [b'{"ip":"192.0.2.1","hea', b"\xff", b"[" * 100_000, b"x" * 200_000])
def test_half_a_line_costs_no_other_record(rest: bytes, tmp_path: Path, clock: Clock) -> None:
    """As a process leaves one that was killed, or whose disk was full."""
    file = tmp_path / "2024-10-04.jsonl"
    file.write_bytes(encoded(RECORD) + rest)
    store = ReportStore(tmp_path, max_size=1_000_000, clock=clock)
    store.add(RECORD)

    assert due(store, clock) == {"example.com": [RECORD, RECORD]}
    (day,) = store.due()
    day.domains()
    assert day.unread == 1


def test_a_record_that_is_written_in_part_costs_no_other(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, write = ReportStore(tmp_path, clock=clock), os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, octets: write(file, octets[:20]))
        assert store.add(RECORD) == f"{tmp_path}: the record was only written in part"
    assert store.add(RECORD) == ""

    assert (store.dropped, due(store, clock)) == (1, {"example.com": [RECORD]})


def test_a_directory_that_cannot_be_written_is_a_problem_and_no_exception(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "records", tmp_path / "a" / "b"):
        store = ReportStore(place, clock=clock)
        assert store.add(RECORD).startswith(f"{place}: ")
        assert store.dropped == 1


@pytest.mark.parametrize("name", ["0000-00-00.jsonl", "2024-02-30.jsonl", "2024-09-01.txt", "2024-09-01.jsonl.gz"])
def test_a_file_whose_name_is_no_day_is_passed_over(name: str, tmp_path: Path, clock: Clock) -> None:
    (tmp_path / name).write_text("")
    store = ReportStore(tmp_path, clock=clock)
    assert store.add(RECORD) == ""
    clock.now += DAY
    assert [day.name for day in store.due()] == ["2024-10-04"]
    assert (tmp_path / name).exists()
    store.close()


def test_a_file_that_was_removed_is_made_again(tmp_path: Path, clock: Clock) -> None:
    store = ReportStore(tmp_path, clock=clock)
    store.add(RECORD)
    (tmp_path / "2024-10-04.jsonl").unlink()
    store.add(RECORD)
    store.close()
    store.add(RECORD)

    assert due(store, clock) == {"example.com": [RECORD, RECORD]}


def test_a_domain_that_had_its_report_is_left_out(tmp_path: Path, clock: Clock) -> None:
    store = ReportStore(tmp_path, clock=clock)
    store.add(RECORD)
    store.add(replace(RECORD, domain="example.net"))
    clock.now += DAY
    (day,) = store.due()
    day.domains()
    day.mark("example.com")

    assert store.due()[0].domains() == ["example.net"]
    day.remove()
    assert os.listdir(tmp_path) == []


@given(RECORDS)
def test_a_record_is_one_line_and_comes_back(record: DmarcRecord) -> None:
    line = encoded(record)

    assert (line.isascii(), line.count(b"\n"), line[-1:]) == (True, 1, b"\n")
    assert decoded(line) == record


def test_a_record_of_any_size_comes_back_within_a_line() -> None:
    long = "\n" * 5_000
    signatures = [SignatureResult(long, long, long, long)] * 100
    policy = replace(RECORD.policy, rua=("mailto:d@example.com", "mailto:" + "x" * 60_000))
    line = encoded(replace(RECORD, signatures=tuple(signatures), policy=policy))

    assert len(line) <= 65_536
    found = decoded(line)
    assert found is not None
    assert found.policy.rua == ("mailto:d@example.com",)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ip", "192.0.2.300"), ("ip", 3_221_225_985), ("domain", "a b"), ("domain", "../x"), ("domain", "Example.com"),
        ("header_from", None), ("header_from", "x" * 5_000), ("published", "drop"), ("published", []), ("signatures", [["x"]]),
        ("signatures", [["a", "b", "c", 1]]), ("reasons", [["other"]]), ("reasons", 1), ("count", 0), ("count", True),
        ("count", 10**10), ("policy", {}), ("policy", "p=none"), ("spf_result", "perhaps"),
    ],
)  # fmt: skip
def test_what_is_no_record_is_passed_over(name: str, value: Any) -> None:
    said = json.loads(encoded(RECORD))

    assert decoded(json.dumps({**said, name: value}).encode()) is None


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_line_is_a_record_or_none(line: bytes) -> None:
    assert decoded(line) is None


@pytest.mark.parametrize("wrong", [{"max_size": 1000}, {"keep": 0}])
def test_wrong_arguments_are_refused(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected"):
        ReportStore(tmp_path, **wrong)
