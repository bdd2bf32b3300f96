"""Accounts and their tokens, without a socket."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midasdl.simulator.accounts import Account, AccountState, Login, TokenStore, read_basic, token_answer

NOON_S = 1_780_000_000.0


def basic(text: str) -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


def claims_of(token: str) -> dict[str, object]:
    payload = token.split(".")[1]
    claims: dict[str, object] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return claims


class TestAccounts:
    @pytest.mark.parametrize(
        ("header", "verdict"),
        [
            (basic("researcher:rain-or-shine"), Login.OK),
            (basic("researcher:wrong"), Login.WRONG_PASSWORD),
            (basic("Researcher:rain-or-shine"), Login.WRONG_PASSWORD),
            (basic("nobody:rain-or-shine"), Login.WRONG_PASSWORD),
            (basic("no colon"), Login.GARBLED),
            ("Basic ~~~", Login.GARBLED),
            ("Basic /w==", Login.GARBLED),
            ("Bearer abc", Login.GARBLED),
            (None, Login.GARBLED),
        ],
    )
    def test_a_login_is_judged_by_its_header(self, header: str | None, verdict: Login) -> None:
        assert Account().login(header) is verdict

    @pytest.mark.parametrize("state", list(AccountState))
    def test_the_state_shows_only_to_who_knows_the_password(self, state: AccountState) -> None:
        account = Account(state=state.value)
        assert account.login(basic("researcher:rain-or-shine")) == state.value
        assert account.login(basic("researcher:guess")) is Login.WRONG_PASSWORD

    @given(st.text(), st.text())
    def test_a_basic_header_gives_back_what_was_put_in(self, user: str, password: str) -> None:
        user = user.replace(":", "")
        assert read_basic(basic(f"{user}:{password}")) == (user, password)

    @given(st.text())
    def test_no_header_however_strange_is_an_exception(self, header: str) -> None:
        read_basic(header)
        read_basic(f"Basic {header}")

    def test_neither_password_nor_token_is_in_a_repr(self) -> None:
        assert "rain-or-shine" not in repr(Account())

    def test_a_third_token_revokes_the_first_and_leaves_the_second(self) -> None:
        store = TokenStore(100.0, b"key", NOON_S)
        first, second, third = (store.mint("u", NOON_S + age).token for age in range(3))
        assert [store.accepts(token, NOON_S + 5) for token in (first, second, third)] == [False, True, True]
        assert [store.label(token) for token in (first, second, third)] == ["token-1", "token-2", "token-3"]
        assert store.label("foreign") == "unknown"
        assert store.label(None) is None

    def test_a_token_ends_with_its_lifetime_and_says_so(self) -> None:
        store = TokenStore(259200.0, b"key", NOON_S)
        token = store.mint("researcher", NOON_S).token
        claims = claims_of(token)
        assert claims["exp"] == NOON_S + 259200
        assert (claims["iat"], claims["sub"]) == (NOON_S, "researcher")
        assert len(str(claims["jti"])) == 36
        assert store.accepts(token, NOON_S + 259199.9)
        assert not store.accepts(token, NOON_S + 259200.0)

    def test_a_token_can_be_made_to_end_early_without_its_claim_knowing(self) -> None:
        store = TokenStore(1000.0, b"key", NOON_S)
        token = store.mint("u", NOON_S).token
        store.expire(token, NOON_S + 1)
        assert not store.accepts(token, NOON_S + 1)
        assert claims_of(token)["exp"] == NOON_S + 1000

    def test_the_answer_tells_the_expiry_of_the_replaced_token_unless_the_account_is_honest(self) -> None:
        store = TokenStore(3600.0, b"key", NOON_S)
        minted = store.mint("u", NOON_S)
        dishonest = token_answer(Account(), minted)
        honest = token_answer(Account(honest_expires=True), minted)
        assert set(dishonest) == {"access_token", "expires"}
        assert dishonest["expires"] == "2026-05-28T18:26:40.000000Z"
        assert honest["expires"] == "2026-05-28T21:26:40.000000Z"

    def test_a_token_can_be_opaque_or_wrapped_in_an_object(self) -> None:
        store = TokenStore(3600.0, b"key", NOON_S)
        opaque = store.mint("u", NOON_S, opaque=True)
        assert "." not in opaque.token
        assert token_answer(Account(token_shape="object"), opaque)["access_token"] == {"token": opaque.token}
        assert store.accepts(opaque.token, NOON_S)
