"""P2, P4, I8: what a run looks like on terminals wide and narrow, in logs and to programs."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from contextlib import redirect_stdout
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from midasdl.channel import SEND_EVERY_S
from midasdl.cli.bar import DRAW_EVERY_S, Bar
from midasdl.cli.display import Display, Mode, mode_for
from midasdl.cli.output import SCHEMA_VERSION, Output
from midasdl.cli.picture import ASCII, UNICODE, picture, symbols_for
from midasdl.cli.plain import Lines, Records, line_of
from midasdl.cli.progress_words import server_words
from midasdl.models import ErrorClass
from midasdl.progress.audience import SHOWN_EVERY_S
from midasdl.progress.events import DownloadFailed, Waiting
from midasdl.progress.facts import facts_of
from midasdl.progress.snapshot import Active, Confidence, Phase, Server, Snapshot, Tally
from tests.support.clock import FakeClock
from tests.support.screen import Screen, console_on

PATH = (
    "data/uk-daily-rain-obs/dataset-version-202407/devon/01346_chivenor/qc-version-1/"
    "midas-open_uk-daily-rain-obs_dv-202407_devon_01346_chivenor_qcv-1_1990.csv"
)
HOST = "dap.ceda.ac.uk:443"
START = Snapshot(Tally(64_000), Tally(60_000), workers=4, starting=4)
MIDDLE = Snapshot(
    files=Tally(64_000, 1_234, 3),
    tasks=Tally(60_000, 1_200, 3),
    phase=Phase.WORKING,
    fetched=1_100,
    cached=100,
    retrying=7,
    failures=((ErrorClass.NOT_FOUND, 3),),
    bytes_fetched=60_000_000,
    bytes_done=66_000_000,
    bytes_expected=3_200_000_000,
    bytes_per_s=3_400_000,
    files_per_s=10.1,
    file_s=0.31,
    eta_s=7_632,
    eta_confidence=Confidence.MEDIUM,
    active=(Active("data/a.csv", 0, 0.3), Active(PATH, 0, 0.1)),
    latest_path=PATH,
    elapsed_s=724,
    workers=4,
    servers=(Server(HOST),),
)
END = replace(MIDDLE, phase=Phase.ENDED, active=(), eta_s=None)
NOON_S = 1_790_000_000.0


def text_of(snapshot: Snapshot, width: int, symbols: object = UNICODE) -> str:
    return "\n".join(line.plain.rstrip() for line in picture(snapshot, width, symbols))  # type: ignore[arg-type]


def test_p2_a_run_at_80_columns() -> None:
    assert text_of(MIDDLE, 80) == (
        "uk-daily-rain-obs · release 202407                                      working\n"
        "files   1,234 of 64,000 done · 3 failed · 2 at work · 100 were on disk\n"
        "█▒░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░   1.9 %\n"
        "speed   3.4 MB/s · 66.0 MB of about 3.2 GB · 10.1 files/s\n"
        "time    12 min 04 s gone · ETA 2 h 07 min (medium confidence)\n"
        f"now     …{PATH[-70:]}\n"
        "server  nothing holds it up"
    )


def test_p2_a_run_at_60_columns_leaves_out_what_matters_less() -> None:
    assert text_of(MIDDLE, 60).splitlines() == [
        "uk-daily-rain-obs · release 202407                  working",
        "files   1,234 of 64,000 done · 3 failed · 2 at work",
        "▒" + "░" * 50 + "   1.9 %",
        "speed   3.4 MB/s · 66.0 MB of about 3.2 GB · 10.1 files/s",
        "time    12 min 04 s gone",
        f"now     …{PATH[-50:]}",
        "server  nothing holds it up",
    ]


@pytest.mark.parametrize("width", [100, 160])
def test_p2_a_run_on_wide_terminals_says_everything(width: int) -> None:
    text = text_of(MIDDLE, width)
    for words in ("7 tried again", "10.1 files/s", "medium confidence", "66.0 MB of about 3.2 GB"):
        assert words in text
    assert len(picture(MIDDLE, width, UNICODE)[0].plain) == width - 1


def test_p2_the_start_gives_a_sign_of_life_at_once() -> None:
    text = text_of(START, 80)
    assert "warming up" in text
    assert "workers are starting" in text
    assert "ETA: calculating" in text


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Server(HOST, 0.5, "11% of the answers were errors"), "asked at 50% of the usual rate: 11% of"),
        (Server(HOST, 1.0, None, "open", NOON_S - 9, NOON_S), f"{HOST} is not available; tried again at"),
        (
            Server(HOST, 1.0, None, "half-open", NOON_S - 9),
            f"{HOST} was not available; one request is trying",
        ),
        (Server(HOST, 0.5, "x", paused_until_s=NOON_S, pause_reason="CEDA asked to wait"), "paused until"),
    ],
    ids=["throttle", "breaker", "half-open", "pause"],
)
def test_p2_what_holds_a_run_up_is_told(server: Server, words: str) -> None:
    """C7, C10: throttle, breaker and pause, with the time of day until when."""
    said = server_words(server) or ""
    assert said.startswith(words)
    assert said in text_of(replace(MIDDLE, servers=(Server("other:443"), server)), 160)
    if "until" in words or "at" in words.split()[-1:]:
        assert re.search(r"\d\d:\d\d:\d\d", said)


@pytest.mark.parametrize(
    ("server", "word"),
    [
        (Server(HOST, 0.5, "11% of the answers were errors"), "working"),
        (Server(HOST, 1.0, None, "half-open", NOON_S - 9), "working"),
        (Server(HOST, 1.0, None, "open", NOON_S - 9, NOON_S), "waiting"),
        (Server(HOST, paused_until_s=NOON_S, pause_reason="CEDA asked to wait"), "waiting"),
    ],
    ids=["throttle", "half-open", "breaker", "pause"],
)
def test_p2_a_run_that_may_ask_for_nothing_waits(server: Server, word: str) -> None:
    """The first line says so as the last one does; at its end it has ended all the same."""
    held_up = replace(MIDDLE, servers=(server,))
    assert text_of(held_up, 80).splitlines()[0].endswith(word)
    assert text_of(replace(held_up, phase=Phase.ENDED), 80).splitlines()[0].endswith("ended")


def test_p2_why_nothing_can_be_fetched_is_told() -> None:
    why = "The token service answers with errors; it is asked again in 20 s"
    assert why in text_of(replace(MIDDLE, notice=why), 100)


tallies = st.builds(
    lambda done, failed, left: Tally(done + failed + left, done, failed),
    *(st.integers(0, 3_000_000),) * 3,
)
snapshots = st.builds(
    Snapshot,
    files=tallies,
    tasks=tallies,
    phase=st.sampled_from(Phase),
    cached=st.integers(0, 10**7),
    retrying=st.integers(0, 10**7),
    bytes_done=st.integers(0, 10**13),
    bytes_expected=st.none() | st.integers(0, 10**13),
    bytes_per_s=st.floats(0, 1e10),
    files_per_s=st.floats(0, 1e4),
    eta_s=st.none() | st.floats(0, 1e8),
    active=st.lists(st.builds(Active, st.text(min_size=1), st.integers(0, 10**9), st.floats(0, 1e5))).map(
        tuple
    ),
    latest_path=st.none() | st.text() | st.just(PATH),
    notice=st.none() | st.text(),
    elapsed_s=st.floats(0, 1e8),
)


@given(snapshots, st.integers(1, 300), st.sampled_from([UNICODE, ASCII]))
def test_p2_whatever_happens_there_are_seven_lines_and_none_is_too_wide(
    snapshot: Snapshot, width: int, symbols: object
) -> None:
    """A fixed layout: nothing jumps, nothing wraps, and nothing less than all is 100 %."""
    lines = picture(snapshot, width, symbols)  # type: ignore[arg-type]
    assert len(lines) == 7
    assert all(line.cell_len <= max(width - 1, 20) for line in lines)
    assert "\n" not in "".join(line.plain for line in lines)
    if snapshot.files.done < snapshot.files.total:
        assert "100.0 %" not in lines[2].plain


def test_p2_a_terminal_without_unicode_gets_plain_characters() -> None:
    """LANG=C: every character is ASCII, and what a path has beyond becomes a question mark."""
    assert symbols_for("ascii") is symbols_for("ANSI_X3.4-1968") is ASCII
    assert symbols_for("utf-8") is symbols_for("UTF8") is UNICODE
    shown = text_of(MIDDLE, 80, ASCII)
    assert shown.isascii()
    assert "#" in shown
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, "ascii")
    bar = Bar(Console(file=file, force_terminal=True, width=80, height=24), FakeClock())
    bar.show(replace(MIDDLE, active=(Active("data/münchen.csv", 0, 1.0),)))
    assert b"data/m?nchen.csv" in raw.getvalue()


def test_p2_colours_are_the_terminals_own_and_can_be_turned_off() -> None:
    """NO_COLOR, and palettes dark or light: none but the sixteen colours that people choose themselves."""
    with_colours, without = Screen(80), Screen(80)
    Bar(console_on(with_colours, color_system="truecolor"), FakeClock()).show(MIDDLE)
    Bar(console_on(without, no_color=True), FakeClock()).show(MIDDLE)
    codes = set(re.findall(r"\x1b\[([\d;]*)m", "".join(with_colours.writes)))
    assert {"32", "31"} <= codes
    assert not any("38" in code.split(";") or "48" in code.split(";") for code in codes)
    left = set(re.findall(r"\x1b\[([\d;]*)m", "".join(without.writes)))
    assert not {code for codes in left for code in codes.split(";")} & {str(n) for n in range(30, 50)}
    assert with_colours.text == without.text


def test_p2_at_most_ten_pictures_a_second_each_in_one_write_that_blanks_nothing_first() -> None:
    """No flicker: lines replace themselves, and only what is left over at their ends is erased."""
    screen, clock = Screen(80), FakeClock()
    bar = Bar(console_on(screen), clock)
    for number in range(1_000):
        bar.show(replace(MIDDLE, files=Tally(64_000, number, 0)))
        clock.advance(0.01)
    assert len(screen.writes) == pytest.approx(10 / DRAW_EVERY_S, abs=1)
    assert DRAW_EVERY_S >= 0.1
    assert all(written.endswith("\x1b[J") and written.count("\x1b[J") == 1 for written in screen.writes)
    assert len(screen.lines) == 7
    assert not screen.cursor_shown
    bar.leave()
    assert screen.cursor_shown


def test_p2_a_resize_during_the_run_leaves_no_rests() -> None:
    """Narrower, wider, narrower again: what the terminal has broken anew is drawn over, and what stood above stays."""
    screen, clock = Screen(160), FakeClock()
    screen.write("$ midasdl run\n")
    bar = Bar(console_on(screen), clock)
    for width in (160, 80, 60, 100, 40, 160):
        screen.width = width
        clock.advance(1)
        bar.show(MIDDLE)
        assert screen.text == "$ midasdl run\n" + text_of(MIDDLE, width)


def test_p2_notes_stay_above_the_picture() -> None:
    screen, clock = Screen(80), FakeClock()
    output = Output(verbose=1)
    with Display(output, Mode.BAR, clock, console_on(screen)) as display:
        display.show(MIDDLE)
        display.follow(DownloadFailed(1, "data/a.csv", ErrorClass.TIMEOUT, "late", will_retry=True))
        for _ in range(5):
            display.follow(Waiting("The token is renewed."))
        output.note("Another program keeps the ledger locked.")
        clock.advance(1)
        display.show(END)
    assert screen.text == "\n".join(
        [
            "data/a.csv: late (timeout; will be tried again)",
            "The token is renewed.",
            "Another program keeps the ledger locked.",
            text_of(END, 80),
        ]
    )


def test_p2_a_low_terminal_shows_as_much_as_it_has_room_for() -> None:
    screen = Screen(80)
    console = console_on(screen)
    console._height = 4
    Bar(console, FakeClock()).show(MIDDLE)
    assert screen.text == "\n".join(text_of(MIDDLE, 80).splitlines()[:3])


# --- without a terminal


def day_of_lines(clock: FakeClock, files: int, seconds: int) -> list[str]:
    """What is said in a run of so many seconds that does its files evenly, looked at five times a second."""
    said: list[str] = []
    lines = Lines(said.append, clock)
    for tick in range(seconds):
        done = files * tick // seconds
        lines.show(replace(MIDDLE, files=Tally(files, done, 3), elapsed_s=float(tick)))
        clock.advance(1)
    return said


def test_p4_a_day_in_a_log_is_less_than_100_kb_of_plain_lines(clock: FakeClock) -> None:
    said = day_of_lines(clock, 800_000, 86_400)
    written = "".join(f"{line}\n" for line in said)
    assert 20_000 < len(written.encode()) < 100_000
    assert "\r" not in written
    assert "\x1b" not in written
    assert "ETA 2 h 07 min" in said[-1]


def test_p4_a_line_comes_each_half_minute_or_each_twentieth(clock: FakeClock) -> None:
    """The first hour; a quick job says each 5 %, and nothing in its first five seconds."""
    slow = day_of_lines(clock, 800_000, 600)
    assert len(slow) == pytest.approx(20, abs=2)
    said: list[str] = []
    lines = Lines(said.append, clock)
    for percent in range(101):
        lines.show(replace(MIDDLE, files=Tally(100, percent, 0)))
        clock.advance(2)
    assert len(said) == pytest.approx(200 / 10, abs=3)
    assert said[0].startswith("5 of 100 files done (5.0 %), 0 failed, 3.4 MB/s, ETA")


def test_p4_a_line_tells_what_holds_the_run_up() -> None:
    held_up = replace(MIDDLE, servers=(Server(HOST, 0.25, "CEDA asked to slow down"),))
    assert line_of(held_up).endswith("; asked at 25% of the usual rate: CEDA asked to slow down")


def test_p4_programs_get_a_record_each_second_and_the_last_one(clock: FakeClock) -> None:
    """U3: JSON lines with the schema's version on stdout, at a rate that is bounded."""
    out = io.StringIO()
    with redirect_stdout(out), Display(Output(json_lines=True), Mode.JSON, clock) as display:
        for _ in range(100):
            display.show(MIDDLE)
            clock.advance(0.1)
        display.show(END)
    records = [json.loads(line) for line in out.getvalue().splitlines()]
    assert len(records) == 11
    assert all(record["schema"] == SCHEMA_VERSION and record["kind"] == "progress" for record in records)
    assert (records[0]["files_done"], records[0]["eta_s"], records[0]["eta_confidence"]) == (
        1_234,
        7_632,
        "medium",
    )
    assert records[0]["failures"] == {"not-found": 3}
    assert records[-1]["phase"] == "ended"
    assert set(facts_of(START)) == set(facts_of(MIDDLE))


TTY = Console(file=io.StringIO(), force_terminal=True)
PIPE = Console(file=io.StringIO(), force_terminal=False)


@pytest.mark.parametrize(
    ("mode", "output", "console", "means"),
    [
        (Mode.AUTO, Output(), TTY, Mode.BAR),
        (Mode.AUTO, Output(), PIPE, Mode.LOG),
        (Mode.AUTO, Output(quiet=True), TTY, Mode.NONE),
        (Mode.AUTO, Output(json_lines=True), TTY, Mode.NONE),
        (Mode.LOG, Output(), TTY, Mode.LOG),
        (Mode.BAR, Output(), PIPE, Mode.BAR),
        (Mode.NONE, Output(), TTY, Mode.NONE),
    ],
)
def test_p4_what_auto_means(mode: Mode, output: Output, console: Console, means: Mode) -> None:
    """A bar on a terminal, lines elsewhere, nothing where none is wanted; what is named is done."""
    assert mode_for(mode, output, console) is means


@pytest.mark.parametrize(("variable", "value"), [("FORCE_COLOR", "1"), ("TTY_COMPATIBLE", "1")])
def test_p4_who_says_that_there_is_a_terminal_gets_the_bar(
    variable: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some build servers show colours and are no terminals; rich, which knows them, is asked only where it may be."""
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.delenv("TTY_COMPATIBLE", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert Display(Output(), Mode.AUTO, FakeClock())._bar is None
    monkeypatch.setenv(variable, value)
    assert Display(Output(), Mode.AUTO, FakeClock())._bar is not None
    monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "stderr", None)
    assert Display(Output(), Mode.AUTO, FakeClock())._bar is None, "where it was closed nobody looks at it"


def test_p4_a_dumb_terminal_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ=os.environ)
    assert mode_for(Mode.AUTO, Output(), dumb) is Mode.LOG


def test_p4_none_shows_nothing(clock: FakeClock) -> None:
    screen = Screen(80)
    with Display(Output(), Mode.NONE, clock, console_on(screen)) as display:
        display.show(MIDDLE)
        display.show(END)
    assert screen.writes == []


class Gone(io.StringIO):
    """A terminal that was closed."""

    encoding = "utf-8"

    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")


def test_i8_a_terminal_that_is_gone_takes_nothing_and_hurts_nobody(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I8: writing fails, and the run hears nothing of it."""
    monkeypatch.setattr("sys.stderr", io.StringIO())
    console = Console(file=Gone(), force_terminal=True, width=80, height=24)
    with Display(Output(), Mode.BAR, clock, console) as display:
        display.show(MIDDLE)
        display.follow(Waiting("nobody hears this"))
        clock.advance(1)
        display.show(END)


def test_p4_records_end_with_the_end(clock: FakeClock) -> None:
    said: list[str] = []
    records = Records(lambda kind, facts: said.append(facts["phase"]), clock)
    for snapshot in (START, MIDDLE, END):
        records.show(snapshot)
    assert said == ["warming up", "ended"]


def test_each_word_of_the_workers_is_seen_at_once() -> None:
    """P2: where one of the two had to wait a moment longer than there is, every second picture would be left out."""
    assert DRAW_EVERY_S < SHOWN_EVERY_S < SEND_EVERY_S
