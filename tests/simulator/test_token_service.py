"""The token service over real sockets: two tokens per account, revocation, and its ways to refuse."""

from __future__ import annotations

import base64
import json
import time

import pytest
import requests

from midasdl.errors import ConfigurationError
from midasdl.simulator import Account
from tests.simulator.talk import (
    CONTENTS,
    SOCKET_TIMEOUT_S,
    Connect,
    FakeClock,
    Start,
    mint,
)


class TestTokenService:
    def test_a_login_gives_exactly_a_jwt_and_an_expiry_and_the_jwt_opens_files(
        self, start: Start, connect: Connect
    ) -> None:
        simulator = start()
        response = mint(simulator)
        answer = response.json()
        assert (response.status_code, set(answer)) == (200, {"access_token", "expires"})
        header, payload, signature = answer["access_token"].split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        assert {"exp", "iat", "jti", "sub"} <= set(claims)
        assert claims["exp"] - claims["iat"] in (259200, 259199)
        assert json.loads(base64.urlsafe_b64decode(header + "=="))["alg"] == "RS256"
        assert len(base64.urlsafe_b64decode(signature + "==")) == 256
        client = connect(simulator)
        assert client.get(Authorization=f"Bearer {answer['access_token']}") == (200, CONTENTS)

    def test_the_expiry_of_the_first_answer_lies_in_the_past_as_ceda_s_can(self, start: Start) -> None:
        assert mint(start()).json()["expires"] < time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())

    @pytest.mark.parametrize(
        ("state", "status", "words"),
        [
            ("not-set-up", 400, "invalid_grant"),
            ("disabled", 400, "invalid_grant"),
            ("no-stored-token", 500, "<html"),
        ],
    )
    def test_an_account_in_trouble_gets_no_token(
        self, start: Start, state: str, status: int, words: str
    ) -> None:
        simulator = start()
        simulator.set_account_state(state)
        response = mint(simulator)
        assert response.status_code == status
        assert words in response.text

    def test_a_wrong_password_and_a_wrong_case_of_the_name_are_401(self, start: Start) -> None:
        simulator = start(account=Account("Ada", "x"))
        answers = [mint(simulator, "Ada", "y"), mint(simulator, "ada", "x")]
        expected = {"error": "invalid_grant", "error_description": "Invalid user credentials"}
        assert [(answer.status_code, answer.json()) for answer in answers] == [(401, expected)] * 2
        assert mint(simulator, "Ada", "x").status_code == 200

    def test_garbled_credentials_are_403_and_get_is_405(self, start: Start) -> None:
        simulator = start()
        garbled = requests.post(
            simulator.token_url, headers={"Authorization": "Basic ~"}, timeout=SOCKET_TIMEOUT_S
        )
        got = requests.get(simulator.token_url, timeout=SOCKET_TIMEOUT_S)
        assert (garbled.status_code, list(garbled.json())) == (403, ["detail"])
        assert (got.status_code, got.headers["Allow"]) == (405, "POST, OPTIONS")

    def test_an_unknown_state_is_refused_by_name(self, start: Start) -> None:
        with pytest.raises(ConfigurationError, match="asleep"):
            start().set_account_state("asleep")

    def test_the_third_token_revokes_the_first(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        second, third = (mint(simulator).json()["access_token"] for _ in range(2))
        assert client.get()[0] == 302
        assert [client.get(Authorization=f"Bearer {token}")[0] for token in (second, third)] == [200, 200]
        tokens = [record.token for record in simulator.requests if record.route == "download"]
        assert tokens == ["token-1", "token-2", "token-3"]

    def test_a_token_lapses_in_the_middle_of_a_connection(self, start: Start, connect: Connect) -> None:
        clock = FakeClock()
        client = connect(start(clock=clock, token_lifetime_s=100))
        clock.now_s += 99.9
        assert client.get()[0] == 200
        clock.now_s += 0.2
        assert client.get()[0] == 302

    def test_every_token_can_be_revoked_at_once(self, start: Start, connect: Connect) -> None:
        simulator = start()
        client = connect(simulator)
        simulator.revoke_tokens()
        assert client.get()[0] == 302
        client.headers["Authorization"] = f"Bearer {simulator.mint_token()}"
        assert client.get()[0] == 200
