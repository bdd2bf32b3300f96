"""C2, I6: the token that all processes share, who mints it, and what was refused."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from midasdl.ceda.credentials import Credentials
from midasdl.ceda.refusals import HOLDS_S
from midasdl.ceda.secret import Secret
from midasdl.ceda.tokens import Token, TokenCache, TokenSource
from midasdl.clock import SystemClock
from midasdl.errors import (
    AuthenticationError,
    MidasdlError,
    ServerUnavailableError,
    StoppedError,
    StorageError,
)
from tests.support.clock import FakeClock

NOW = 1_790_000_000_000_000
DAY_S = 86_400
LOGIN = Credentials(username="researcher", password=Secret("rain-or-shine"))


def token(text: str, lifetime_s: float = 3 * DAY_S, now_us: int = NOW) -> Token:
    return Token(Secret(text), now_us, now_us + int(lifetime_s * 1e6))


# --- the cache


@pytest.fixture
def cache(tmp_path: Path) -> TokenCache:
    return TokenCache(tmp_path / "tokens", "https://here/\nresearcher")


def files(tmp_path: Path, suffix: str = ".json") -> list[Path]:
    return sorted((tmp_path / "tokens").glob(f"*{suffix}"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_i6_the_token_is_readable_by_its_owner_alone(cache: TokenCache, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with cache.locked(SystemClock()):
            cache.store(token("t"))
    finally:
        os.umask(before)
    assert [mode(path) for path in files(tmp_path)] == [0o600]
    assert [mode(path) for path in files(tmp_path, ".lock")] == [0o600]
    assert mode(tmp_path / "tokens") == 0o700


def test_i6_the_folder_of_somebody_else_keeps_its_mode(cache: TokenCache, tmp_path: Path) -> None:
    (tmp_path / "tokens").mkdir(mode=0o755)
    (tmp_path / "tokens").chmod(0o755)
    with cache.locked(SystemClock()):
        cache.store(token("t"))
    assert mode(tmp_path / "tokens") == 0o755
    assert mode(files(tmp_path)[0]) == 0o600


def test_c2_a_cached_token_comes_back_as_it_was(cache: TokenCache) -> None:
    with cache.locked(SystemClock()):
        cache.store(token("first"))
        cache.store(token("second", 60))
    assert cache.load() == token("second", 60)


def test_c2_the_cache_is_replaced_at_once_never_rewritten(
    cache: TokenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that dies while it stores a token leaves the old one."""
    with cache.locked(SystemClock()):
        cache.store(token("old"))

        def dies(*_: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(Path, "replace", dies)
        with pytest.raises(KeyboardInterrupt):
            cache.store(token("new"))
    assert cache.load() == token("old")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"token": "t"}',
        b'{"token": 5, "obtained_at": 1, "expires_at": 2}',
        b'{"token": "", "obtained_at": 1, "expires_at": 2}',
        b'{"token": "a\\nb", "obtained_at": 1, "expires_at": 2}',
        b'{"token": "t", "obtained_at": Infinity, "expires_at": 2}',
        b'{"token": "t", "obtained_at": "x", "expires_at": 2}',
    ],
)
def test_c2_a_damaged_cache_is_as_good_as_none(cache: TokenCache, tmp_path: Path, content: bytes) -> None:
    with cache.locked(SystemClock()):
        cache.store(token("t"))
    files(tmp_path)[0].write_bytes(content)
    assert cache.load() is None
    minted = TokenSource(LOGIN, cache, lambda: token("fresh"), FakeClock()).current()
    assert minted == Secret("fresh")


def test_c2_accounts_do_not_share_a_token(tmp_path: Path) -> None:
    ours, theirs = TokenCache(tmp_path, "https://here/\na"), TokenCache(tmp_path, "https://here/\nA")
    with ours.locked(SystemClock()):
        ours.store(token("t"))
    assert theirs.load() is None


def test_c2_a_folder_that_cannot_be_used_says_which_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError) as raised,
        TokenCache(tmp_path / "file" / "tokens", "x").locked(SystemClock()),
    ):
        pass
    assert str(tmp_path / "file") in raised.value.message
    assert "MIDASDL_STORAGE__TOKEN_CACHE" in str(raised.value.hint)


# --- the source


class Mint:
    """A token service that counts."""

    def __init__(self, clock: FakeClock, lifetime_s: float = 3 * DAY_S) -> None:
        self.count = 0
        self._clock = clock
        self._lifetime_s = lifetime_s

    def __call__(self) -> Token:
        self.count += 1
        return token(f"token-{self.count}", self._lifetime_s, self._clock.now_us())


@pytest.fixture
def mint(clock: FakeClock) -> Mint:
    return Mint(clock)


@pytest.fixture
def source(cache: TokenCache, clock: FakeClock, mint: Mint) -> Callable[[], TokenSource]:
    """Another process's source over the same cache."""
    return lambda: TokenSource(LOGIN, cache, mint, clock)


def test_c2_eight_sources_need_one_mint_and_one_expiry_one_more(
    source: Callable[[], TokenSource], mint: Mint, clock: FakeClock
) -> None:
    sources = [source() for _ in range(8)]
    assert {each.current().reveal() for each in sources} == {"token-1"}
    clock.advance(3 * DAY_S - 59)
    assert {each.current().reveal() for each in sources} == {"token-2"}
    assert mint.count == 2


def test_c2_a_token_that_is_good_is_not_asked_for_again(
    source: Callable[[], TokenSource], mint: Mint, clock: FakeClock
) -> None:
    asked = source()
    for _ in range(100):
        asked.current()
        clock.advance(60)
    assert mint.count == 1
    assert source().current().reveal() == "token-1", "nor by the next run"


def test_c2_a_token_that_many_find_rejected_is_replaced_once(
    source: Callable[[], TokenSource], mint: Mint
) -> None:
    sources = [source() for _ in range(8)]
    rejected = [each.current() for each in sources]
    fresh = [each.replace(old) for each, old in zip(sources, rejected, strict=True)]
    assert {text.reveal() for text in fresh} == {"token-2"}
    assert mint.count == 2
    assert sources[0].current().reveal() == "token-2"


def test_c2_a_late_rejection_of_an_old_token_does_not_replace_the_new_one(
    source: Callable[[], TokenSource], mint: Mint
) -> None:
    early, late = source(), source()
    old = late.current()
    early.replace(early.current())
    early.current()
    assert late.replace(old).reveal() == "token-2"
    assert mint.count == 2


def test_c2_a_token_of_the_users_is_never_replaced_nor_cached(
    cache: TokenCache, mint: Mint, clock: FakeClock
) -> None:
    given_token = Credentials(token=Secret("mine"), username="u", password=Secret("p"))
    asked = TokenSource(given_token, cache, mint, clock)
    assert asked.current().reveal() == "mine"
    with pytest.raises(AuthenticationError) as raised:
        asked.replace(Secret("mine"))
    assert "CEDA_TOKEN" in raised.value.message
    assert "mistyped" in raised.value.message
    assert "https://services.ceda.ac.uk/account/token/" in str(raised.value.hint)
    assert (mint.count, cache.load()) == (0, None)


def test_c2_a_mint_that_fails_leaves_nothing_locked(cache: TokenCache, clock: FakeClock, mint: Mint) -> None:
    def fails() -> Token:
        raise AuthenticationError("wrong password")

    with pytest.raises(AuthenticationError):
        TokenSource(LOGIN, cache, fails, clock).current()
    assert TokenSource(LOGIN, cache, mint, clock).current().reveal() == "token-1"


def test_c2_who_has_waited_for_long_sends_the_token_that_others_got_meanwhile(
    source: Callable[[], TokenSource], mint: Mint, clock: FakeClock
) -> None:
    """C2 C6: without a request; a refusal of one that ended in the meantime says nothing about the account."""
    waiting, other = source(), source()
    old = waiting.current()
    assert (waiting.latest(old), waiting.has_lapsed(old)) == (old, False)
    clock.advance(3 * DAY_S)
    assert (waiting.latest(old), waiting.has_lapsed(old)) == (old, True)
    new = other.current()
    assert waiting.latest(old) == new
    assert (waiting.has_lapsed(old), waiting.has_lapsed(new)) == (True, False)
    assert mint.count == 2


# --- what was refused


class Refusing:
    """A token service that refuses, and counts."""

    def __init__(self, error: MidasdlError) -> None:
        self.count = 0
        self._error = error

    def __call__(self) -> Token:
        self.count += 1
        raise self._error


@pytest.mark.parametrize(
    "error", [AuthenticationError("no", "cure"), ServerUnavailableError("away")], ids=repr
)
def test_c2_c3_what_one_is_refused_the_others_do_not_ask_for(
    cache: TokenCache, clock: FakeClock, error: MidasdlError
) -> None:
    """C2 C3: eight who notice at once and are refused make one request and hear the same."""
    mint = Refusing(error)
    sources = [TokenSource(LOGIN, cache, mint, clock) for _ in range(8)]
    for each in sources:
        clock.advance(1)
        with pytest.raises(type(error)) as raised:
            each.replace(Secret("revoked"))
        assert (raised.value.message, raised.value.hint) == (error.message, error.hint)
    assert mint.count == 1


def test_c2_c3_who_joins_a_run_late_hears_what_the_run_has_heard(cache: TokenCache, clock: FakeClock) -> None:
    """C2 C3: on a slow machine the first worker is refused before the last one has started."""
    mint = Refusing(AuthenticationError("no"))
    began_us = clock.now_us()
    for _ in range(8):
        clock.advance(1)
        with pytest.raises(AuthenticationError):
            TokenSource(LOGIN, cache, mint, clock, since_us=began_us).current()
    assert mint.count == 1


def test_c3_a_refusal_does_not_bind_who_comes_later_nor_another_password_nor_for_long(
    cache: TokenCache, clock: FakeClock
) -> None:
    """C3: who types the command again asks anew, whether the password was corrected or the account was."""
    mint = Refusing(AuthenticationError("no"))
    before, corrected = (
        TokenSource(each, cache, mint, clock) for each in (LOGIN, replace(LOGIN, password=Secret("other")))
    )
    patient = TokenSource(LOGIN, cache, mint, clock)
    for count, source in enumerate((before, corrected), start=1):
        with pytest.raises(AuthenticationError):
            source.current()
        assert mint.count == count
    clock.advance(HOLDS_S + 1)
    with pytest.raises(AuthenticationError):
        patient.current()
    assert mint.count == 3
    clock.advance(1)
    with pytest.raises(AuthenticationError):
        TokenSource(LOGIN, cache, mint, clock).current()
    assert mint.count == 4


def test_c3_a_token_ends_a_refusal(cache: TokenCache, clock: FakeClock, mint: Mint, tmp_path: Path) -> None:
    late = TokenSource(LOGIN, cache, mint, clock)
    with pytest.raises(AuthenticationError):
        TokenSource(LOGIN, cache, Refusing(AuthenticationError("no")), clock).current()
    assert len(files(tmp_path, ".refusal")) == 1
    TokenSource(replace(LOGIN, password=Secret("corrected")), cache, mint, clock).current()
    assert files(tmp_path, ".refusal") == []
    assert late.replace(Secret("token-1")).reveal() == "token-2"


def test_i6_a_refusal_is_private_and_holds_no_password(
    cache: TokenCache, clock: FakeClock, tmp_path: Path
) -> None:
    """I6: neither the password nor a digest that two accounts with the same password would share."""
    notes = []
    for _ in range(2):
        with pytest.raises(AuthenticationError):
            TokenSource(LOGIN, cache, Refusing(AuthenticationError("no")), clock).current()
        clock.advance(1)
        (note,) = files(tmp_path, ".refusal")
        assert mode(note) == 0o600
        notes.append(json.loads(note.read_text()))
    assert "rain-or-shine" not in json.dumps(notes)
    assert notes[0]["proof"] != notes[1]["proof"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"at": "x", "proof": 1}', b"\xff"])
def test_c2_a_damaged_refusal_is_as_good_as_none(
    cache: TokenCache, clock: FakeClock, mint: Mint, tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(AuthenticationError):
        TokenSource(LOGIN, cache, Refusing(AuthenticationError("no")), clock).current()
    files(tmp_path, ".refusal")[0].write_bytes(content)
    assert TokenSource(LOGIN, cache, mint, clock).current().reveal() == "token-1"


def test_w4_who_waits_for_the_lock_can_be_stopped(cache: TokenCache, mint: Mint) -> None:
    """W4 C3: another process may be asking for an hour; this one ends at once."""
    clock = SystemClock()
    with cache.locked(clock), ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(TokenSource(LOGIN, cache, mint, clock).current)
        clock.stop()
        with pytest.raises(StoppedError):
            waiting.result(timeout=30)
    assert mint.count == 0


def test_c3_who_waits_for_the_lock_gives_up_after_its_patience(cache: TokenCache, clock: FakeClock) -> None:
    with (
        cache.locked(clock),
        pytest.raises(ServerUnavailableError, match="for 90 s"),
        cache.locked(clock, patience_s=90),
    ):
        pass
    assert 90 <= sum(clock.waits) < 91
