"""backtest_alerts: what it reads, what it prints, and what it says of a file that is not right."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from tests.commands.running import run, run_process

START = datetime(2026, 3, 2, tzinfo=UTC).replace(tzinfo=None)
HOUR = timedelta(hours=1)


def write(tmp_path, rows, head="timestamp,value"):
    path = tmp_path / "series.csv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return str(path)


def daily(days=70, *, spike=None, steps=1):
    """Return the rows of a key that is busy at noon, with steps an hour."""
    rows = []
    for hour in range(days * 24):
        count = 600 if hour == spike else round(60 + 50 * np.cos((hour % 24 - 12) / 24 * 2 * np.pi))
        for step in range(steps):
            at = START + HOUR * hour + HOUR / steps * step
            rows.append(f"{at:%Y-%m-%d %H:%M:%S},{count / steps}")
    return rows


def test_the_hour_of_each_alert_is_printed(tmp_path):
    spike = 66 * 24 + 15
    ran = run("backtest_alerts", "--series", write(tmp_path, daily(spike=spike, steps=12)), "--json")
    assert ran.json["alerts"] == [(START + HOUR * spike).isoformat()]
    [detail] = ran.json["details"]
    assert (detail["shape"], detail["count"]) == ("spike", 600)
    assert detail["low"] <= 95 <= detail["high"]


def test_words_are_for_people(tmp_path):
    ran = run("backtest_alerts", "--series", write(tmp_path, daily(spike=66 * 24 + 15)))
    assert "spike: 600 requests in it; usually" in ran.out
    assert "1 alert in 1,680 hours." in ran.out


def test_what_goes_on_for_a_day_is_one_alert(tmp_path):
    rows = daily()
    rows[66 * 24 : 67 * 24] = [f"{row.partition(',')[0]},900" for row in rows[66 * 24 : 67 * 24]]
    assert len(run("backtest_alerts", "--series", write(tmp_path, rows), "--json").json["alerts"]) == 1


def test_an_hour_in_which_the_file_ends_is_not_said_to_lack_something(tmp_path):
    rows = daily(steps=4)
    assert run("backtest_alerts", "--series", write(tmp_path, [*rows[:-4], rows[-4]]), "--json").json["alerts"] == []


def test_order_time_zones_other_columns_and_a_mark_of_bytes_do_not_matter(tmp_path):
    spike = 66 * 24 + 15
    rows = [
        f"x,{(datetime.fromisoformat(at) + 2 * HOUR).isoformat()}+02:00,{count}"
        for at, count in (row.split(",") for row in reversed(daily(spike=spike)))
    ]
    path = write(tmp_path, rows, head="\ufeffnote, timestamp ,value")
    ran = run("backtest_alerts", "--series", path, "--json")
    assert ran.json["alerts"] == [(START + HOUR * spike).replace(tzinfo=UTC).isoformat()]


def test_hours_that_the_file_lacks_had_no_requests(tmp_path):
    rows = daily()
    del rows[66 * 24 + 10 : 66 * 24 + 16]
    assert len(run("backtest_alerts", "--series", write(tmp_path, rows), "--json").json["alerts"]) == 1


@pytest.mark.parametrize(
    ("rows", "head", "told"),
    [
        ([], "timestamp,value", "has no counts below its first line"),
        (["1"], "value", "must have the columns timestamp and value; its first line has value"),
        ([], "", "must have the columns"),
        (["yesterday,1"], "timestamp,value", "line 2: timestamp must read like 2015-03-01T04:00:00, not 'yesterday'"),
        (["2026-03-02T00:00:00,1", "2026-03-02T01:00:00,-1"], "timestamp,value", "line 3: value must be a count"),
        (["2026-03-02T00:00:00,nan"], "timestamp,value", "line 2: value must be a count from 0 to 10^15, not 'nan'"),
        (["2026-03-02T00:00:00"], "timestamp,value", "line 2: value must be a count"),
        (["2026-03-02T00:00:00,1", "2026-03-02T01:00:00Z,1"], "timestamp,value", "line 3: some timestamps name a time"),
        (
            ["2026-03-02T00:00:00,1", "2026-03-02T01:00:00,1", "2026-03-02T02:00:00,1", "2029-03-02T00:00:00,1"],
            "timestamp,value",
            "at most 25 months",
        ),
        (["2026-03-02T00:00:00,1", "2026-03-03T00:00:00,1"], "timestamp,value", "at most an hour"),
    ],
)
def test_a_file_that_is_not_right_is_told_with_its_line(tmp_path, rows, head, told):
    ran = run("backtest_alerts", "--series", write(tmp_path, rows, head))
    assert ran.status == 1
    assert ran.out == ""
    assert told in ran.err


def test_a_file_that_is_not_there_or_no_text_is_told(tmp_path):
    assert "No such file" in run("backtest_alerts", "--series", str(tmp_path / "none.csv")).err
    path = tmp_path / "bytes.csv"
    path.write_bytes(b"\xff\xfe\x00")
    assert run("backtest_alerts", "--series", str(path)).status == 1


def test_it_needs_no_database(tmp_path):
    path = write(tmp_path, daily(10))
    ran = run_process("backtest_alerts", "--series", path, "--json", DATABASE_URL="postgres://nobody@127.0.0.1:1/none")
    assert (ran.status, ran.json) == (0, {"alerts": [], "details": []})


def test_stdin_is_read(tmp_path):
    text = "\n".join(["timestamp,value", *daily(10)])
    assert run("backtest_alerts", "--series", "-", "--json", stdin=text).json["alerts"] == []
