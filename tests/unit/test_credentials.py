"""C1, I6: where credentials come from, and secrets that never show."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dotenv import dotenv_values
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from midasdl.ceda.credentials import Credentials, explain_token
from midasdl.ceda.dotenv_file import store
from midasdl.ceda.secret import Secret
from midasdl.cli.context import environment
from midasdl.errors import AuthenticationError
from midasdl.simulator.accounts import write_jwt

PASSWORD = "rain-or-shine-4711"
LOGIN = Credentials(username="researcher", password=Secret(PASSWORD))


def test_i6_a_secret_never_shows_in_any_text(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(PASSWORD)
    credentials = Credentials(token=secret, username="u", password=secret)
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").warning("%s %r %s", secret, secret, credentials)
    shown = [f"{secret}", f"{secret!r}", f"{secret!s}", "%s" % secret, str([secret]), repr({"k": secret})]  # noqa: UP031
    shown += [
        repr(credentials),
        caplog.text,
        repr(replace(credentials, username="v")),
    ]
    assert not [text for text in shown if PASSWORD in text]


def test_i6_a_secret_never_shows_in_a_traceback_with_its_variables() -> None:
    def fails(secret: Secret) -> None:
        raise RuntimeError(f"with {secret}")

    try:
        fails(Secret(PASSWORD))
    except RuntimeError as error:
        told = traceback.TracebackException.from_exception(error, capture_locals=True)
        assert PASSWORD not in "".join(told.format())


def test_i6_a_secret_survives_the_way_to_a_worker_process() -> None:
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(Secret(PASSWORD), protocol)).reveal() == PASSWORD
    assert copy.deepcopy(LOGIN) == LOGIN


def test_i6_a_secret_is_not_json_by_accident() -> None:
    with pytest.raises(TypeError) as raised:
        json.dumps({"password": Secret(PASSWORD)})
    assert PASSWORD not in str(raised.value)


# --- credentials


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"CEDA_TOKEN": " abc\n"}, Credentials(token=Secret("abc"))),
        ({"CEDA_ACCESS_TOKEN": "abc"}, Credentials(token=Secret("abc"))),
        ({"CEDA_TOKEN": "a", "CEDA_USERNAME": "U"}, Credentials(token=Secret("a"), username="U")),
        ({"CEDA_USERNAME": "U", "CEDA_PASSWORD": " p "}, Credentials(username="U", password=Secret(" p "))),
        (
            {"CEDA_TOKEN": " ", "CEDA_USERNAME": "U", "CEDA_PASSWORD": "p"},
            Credentials(None, "U", Secret("p")),
        ),
    ],
)
def test_c1_credentials_come_from_the_environment(environment: dict[str, str], expected: Credentials) -> None:
    assert Credentials.from_environment(environment) == expected


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({}, "no credentials"),
        ({"CEDA_USERNAME": "u"}, "CEDA_PASSWORD is missing"),
        ({"CEDA_PASSWORD": PASSWORD}, "CEDA_USERNAME is missing"),
        ({"CEDA_TOKEN": f"{PASSWORD} {PASSWORD}"}, "CEDA_TOKEN is not a token"),
        ({"CEDA_TOKEN": f"{PASSWORD}\n{PASSWORD}"}, "CEDA_TOKEN is not a token"),
        ({"CEDA_TOKEN": f"{PASSWORD}é"}, "CEDA_TOKEN is not a token"),
    ],
)
def test_c1_missing_or_damaged_credentials_are_named_without_being_shown(
    environment: dict[str, str], words: str
) -> None:
    with pytest.raises(AuthenticationError) as raised:
        Credentials.from_environment(environment)
    assert words in raised.value.message
    assert raised.value.hint
    assert PASSWORD not in f"{raised.value.message}{raised.value.hint}"


# --- .env


@pytest.fixture
def env_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `.env` of the working folder is; the environment has a variable that one could expand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("x", "expanded")
    return tmp_path / ".env"


@pytest.mark.parametrize("value", ["${x}", "a${x}b", "$x", "${x:-y}", "${}", "${x", "a#${x}"])
@pytest.mark.parametrize("quotes", ["", "'", '"'])
def test_c1_a_password_written_into_dotenv_by_hand_is_not_expanded(
    env_file: Path, value: str, quotes: str
) -> None:
    """C1: passwords hold such signs."""
    env_file.write_text(f"CEDA_PASSWORD={quotes}{value}{quotes}\n")
    assert environment()["CEDA_PASSWORD"] == value


SIGNS = st.text(st.sampled_from(list("aB0 \\'\"$#{}:-=!`;&é€")), min_size=1)


@given(password=SIGNS)
@example(password="${:-$}{")
@example(password="a${:-}")
@example(password="$${x}\\")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_c1_what_setup_stores_is_what_commands_read_and_what_other_programs_read(
    env_file: Path, password: str
) -> None:
    """C1: midasdl expands nothing, python-dotenv in other programs does; both find the password that was typed."""
    store(env_file, {"CEDA_PASSWORD": password})
    assert environment()["CEDA_PASSWORD"] == password
    assert dotenv_values(env_file)["CEDA_PASSWORD"] == password


def test_c1_the_environment_beats_dotenv(env_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env_file.write_text("CEDA_USERNAME=a\nCEDA_PASSWORD=b\n")
    monkeypatch.setenv("CEDA_USERNAME", "c")
    assert (environment()["CEDA_USERNAME"], environment()["CEDA_PASSWORD"]) == ("c", "b")


# --- a token of the user's


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": 1_700_000_000}, "it has expired, on 2023-11-14T22:13:20Z"),
        ({"exp": 1_900_000_000}, "it was revoked"),
        ({}, "it was revoked"),
    ],
    ids=["expired", "still-good", "says-nothing"],
)
def test_c3_a_token_that_is_not_accepted_is_explained_by_what_it_says(
    claims: dict[str, Any], words: str
) -> None:
    """C2 C3: the message names the variable, the cause and the commands that help; never the token."""
    token = write_jwt(claims, b"key")
    told = explain_token(token, 1_790_000_000_000_000)
    assert words in told.message
    assert "CEDA_TOKEN" in told.message
    assert "midasdl auth setup --token" in str(told.hint)
    assert token not in f"{told.message}{told.hint}"
