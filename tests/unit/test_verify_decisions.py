"""S5, S6: what verifying and adopting decide, without a disk."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from midasdl.adopt import Why, spellings, why_not
from midasdl.cli.verify import share_of
from midasdl.errors import UsageError
from midasdl.ledger.verification import Wanted
from midasdl.look import Look, page_in, presentable
from midasdl.simulator.pages import login_page, maintenance_page
from midasdl.verify import Sampler, damage_seen

WANTED = Wanted(1, "data/a.csv", 1, "a" * 32, 1)


@pytest.mark.parametrize(
    ("share", "total", "drawn"),
    [(0.1, 1_000, 100), (0.001, 120, 1), (0.5, 0, 0), (1.0, 7, 7), (0.333, 10, 3)],
)
def test_a_sample_is_a_share_to_the_file(share: float, total: int, drawn: int) -> None:
    """S5: exactly that many, at least one where there is any, whatever the dice say."""
    for seed in range(20):
        sampler = Sampler(share, total, random.Random(seed).uniform)
        assert sum(sampler.takes_next() for _ in range(total)) == sampler.wanted == drawn


def test_a_sample_is_drawn_from_everywhere_alike() -> None:
    """S5: over many samples no file is favoured, neither the first nor the last."""
    counts: Counter[int] = Counter()
    uniform = random.Random(7).uniform
    for _ in range(2_000):
        sampler = Sampler(0.2, 10, uniform)
        counts.update(number for number in range(10) if sampler.takes_next())
    assert min(counts.values()) > 330
    assert max(counts.values()) < 470


@pytest.mark.parametrize(
    ("text", "share"), [(None, 1.0), ("0.1", 0.1), ("10%", 0.1), ("1", 1.0), ("100%", 1.0)]
)
def test_a_share_may_be_a_number_or_per_cent(text: str | None, share: float) -> None:
    """S5 U1: as people type it."""
    assert share_of(text) == pytest.approx(share)


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "nan", "inf", "101%", "", "%"])
def test_what_is_no_share_is_refused(text: str) -> None:
    """S5 U1: with an example of what is one."""
    with pytest.raises(UsageError, match="not a share"):
        share_of(text)


@pytest.mark.parametrize(
    ("look", "found", "detail"),
    [
        (Look(), "missing", "no such file"),
        (Look("b" * 32, 5), "corrupt", "bbbb, not aaaa"),
        (Look("b" * 32, 0), "corrupt", "empty"),
        (Look("b" * 32, 9, page="a web page"), "corrupt", "a web page"),
        (Look(trouble="Input/output error"), "unreadable", "Input/output error"),
    ],
)
def test_damage_is_told_as_what_it_is(look: Look, found: str, detail: str) -> None:
    """S5: missing, corrupt and unreadable want different cures; only the last is not fetched again."""
    damage = damage_seen(WANTED, look)
    assert damage.found == found
    assert detail in damage.detail.replace("b" * 32, "bbbb").replace("a" * 32, "aaaa")
    assert damage.can_be_fetched == (found != "unreadable")


def test_the_names_that_wget_gives_lead_to_those_of_the_manifest() -> None:
    """S6: the query of CEDA's links, and numbers of repeated downloads; a year is not such a number."""
    assert spellings("a_1990.csv") == ("a_1990.csv",)
    assert "a.csv" in spellings("a.csv?download=1")
    assert "a.csv" in spellings("a.csv@download=1")
    assert "a.csv" in spellings("a.csv.12")
    assert "a.csv" in spellings("a.csv?download=1.2")
    assert "a" not in spellings("a.1990")
    assert spellings("caf\udce9.csv") == ()


def test_a_page_is_known_by_how_it_begins() -> None:
    """S6 C3: the login page by its name, others as pages, data as data."""
    assert page_in(login_page("x").encode(), "a.csv") == "CEDA's login page"
    assert page_in(maintenance_page().encode(), "a.csv") == "a web page"
    assert page_in(b"Conventions,G,BADC-CSV,1\n", "a.csv") is None
    assert why_not(Look("b" * 32, 9, page="a web page"), "a.csv")[0] is Why.PAGE
    assert why_not(Look(trouble="Permission denied"), "a.csv") == (Why.UNREADABLE, "Permission denied")


def test_names_from_a_disk_cannot_command_a_terminal() -> None:
    """U1: escapes and undecodable bytes are shown, not sent."""
    assert presentable("data/é\x1b[2J\udce9\n.csv") == r"data/é\x1b[2J\udce9\n.csv"
