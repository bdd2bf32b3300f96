"""Asking CEDA's token service for a token: one POST, what its answers mean, and when to ask again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import requests
from requests.auth import HTTPBasicAuth

from midasdl.ceda.classify import FOREIGN_ERRORS, classify_exception, classify_status
from midasdl.ceda.credentials import TOKEN_PAGE, Credentials
from midasdl.ceda.network import HELP, PROXY_HELP, proxy_refusal
from midasdl.ceda.persist import Patience
from midasdl.ceda.session import host_of
from midasdl.ceda.tokens import Token, token_from_reply
from midasdl.ceda.verdict import DOWN, Verdict, report_on
from midasdl.clock import Clock
from midasdl.errors import AuthenticationError, MidasdlError, ServerUnavailableError
from midasdl.models import ErrorClass
from midasdl.politeness.lone_gate import Passage

FIRST_BY_HAND = f"make one token by hand at {TOKEN_PAGE}"

AWAY = DOWN | {ErrorClass.THROTTLED}
"""Trouble that says nothing about the account and that a patient run sits out."""

LATER = "Nothing is lost. Try again later; midasdl auth verify tells whether CEDA answers again."


@dataclass(frozen=True, slots=True)
class MintPatience:
    """How long to go on asking.

    Attributes
    ----------
    patience : Patience
        For every kind of trouble that may pass.
    outage_s : float
        Asking goes on for so long, however often it takes, where the service is only away.
    """

    patience: Patience
    outage_s: float = 0.0

    def wait_s(self, failures: int, verdict: Verdict, elapsed_s: float) -> float | None:
        """Seconds until the next request after so many failures in a row, or None where there is to be none."""
        if verdict.error_class in AWAY and elapsed_s < self.outage_s:
            wait_s = self.patience.backoff.wait_s(failures, self.patience.uniform)
            return max(wait_s, verdict.retry_after_s or 0.0)
        return self.patience.wait_s(failures, verdict)


class TokenService:
    """The place that mints tokens.

    Parameters
    ----------
    session : requests.Session
    url : str
    credentials : Credentials
        With a user name and a password.
    gate : Passage
        Every request passes it, hears of pauses from it, and reports to it.
    timeout_s : tuple of float
        For the connection, and for the answer.
    clock : Clock
    patience : MintPatience
    tell : callable
        Takes a sentence for the person who waits.
    """

    def __init__(
        self,
        session: requests.Session,
        url: str,
        credentials: Credentials,
        gate: Passage,
        timeout_s: tuple[float, float],
        clock: Clock,
        patience: MintPatience,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._session = session
        self._url = url
        self._host = host_of(url)
        self._credentials = credentials
        self._gate = gate
        self._timeout_s = timeout_s
        self._clock = clock
        self._patience = patience
        self._tell = tell

    def mint(self) -> Token:
        """Get a new token. CEDA then revokes the older of the two that it keeps: do it rarely.

        Raises
        ------
        AuthenticationError
            The account is not accepted; the message says which of the cases it is.
        ServerUnavailableError
            The service did not answer properly for as long as we were patient.
        StoppedError
            Somebody wanted us to stop while we waited.
        """
        credentials = self._credentials
        if credentials.username is None or credentials.password is None:
            raise AuthenticationError(
                "A new token is needed, but there is no user name and password to get it.",
                "Store them with: midasdl auth setup",
            )
        auth = HTTPBasicAuth(credentials.username.encode(), credentials.password.reveal().encode())
        began_s = self._clock.monotonic()
        failures = 0
        while True:
            answer = self._ask(auth)
            if isinstance(answer, Token):
                return answer
            failures += 1
            wait_s = self._patience.wait_s(failures, answer, self._clock.monotonic() - began_s)
            if wait_s is None:
                raise explain_refusal(answer, credentials.username)
            self._put_off(answer, wait_s)

    def _ask(self, auth: HTTPBasicAuth) -> Token | Verdict:
        """One request, through the gate and reported to it: the token, or why there is none."""
        with self._gate.request(self._host) as ticket:
            began_s = self._clock.monotonic()
            latency_us = None
            try:
                response = self._session.post(
                    self._url,
                    auth=auth,
                    headers={"Accept": "application/json"},
                    timeout=self._timeout_s,
                    allow_redirects=False,
                )
                latency_us = int((self._clock.monotonic() - began_s) * 1e6)
                answer = self._judge(response)
            except FOREIGN_ERRORS as error:
                verdict = classify_exception(error)
                if verdict is None:
                    raise
                answer = verdict
            ticket.report = report_on(None if isinstance(answer, Token) else answer, latency_us)
            return answer

    def _judge(self, response: requests.Response) -> Token | Verdict:
        """Status and type first: an HTML page is no token, and a token with an error is none either."""
        status, now_us = response.status_code, self._clock.now_us()
        is_json = "json" in response.headers.get("Content-Type", "")
        try:
            reply = response.json() if is_json else None
        except ValueError:
            reply = None
        if status in {200, 201} and (token := token_from_reply(reply, now_us)):
            return token
        if status < 400:
            return Verdict(ErrorClass.UNEXPECTED_PAGE, "an answer without a token", status)
        verdict = classify_status(status, response.headers, now_us)
        return verdict or Verdict(ErrorClass.UNEXPECTED_PAGE, "an answer without a token", status)

    def _put_off(self, verdict: Verdict, wait_s: float) -> None:
        """Let nobody ask the service before the wait is over, and say why; the gate does the waiting."""
        why = describe(verdict)
        self._gate.pause(self._host, self._clock.now_us() + int(wait_s * 1e6), why)
        self._tell(f"{why}. It is asked again in {wait_s:.0f} s.")


def describe(verdict: Verdict) -> str:
    """What the service did instead of giving a token."""
    match verdict.http_status:
        case None:
            return f"CEDA's token service cannot be reached. {verdict.message}"
        case 500:
            return (
                "CEDA's token service answered 500, as it does until an account has had its first token "
                f"({FIRST_BY_HAND})"
            )
        case status if verdict.retry_after_s is not None:
            wait_s = f"{verdict.retry_after_s:.0f} s"
            return f"CEDA's token service answered {status} without a token and asked to wait for {wait_s}"
        case status:
            return f"CEDA's token service answered {status} without a token"


def explain_refusal(verdict: Verdict, username: str) -> MidasdlError:
    """Which of the ways not to get a token it is, as the error to raise."""
    name = f"the account '{username}'"
    match verdict.http_status:
        case 401:
            return AuthenticationError(
                f"CEDA does not accept the password of {name} (401).",
                "Check CEDA_USERNAME (capital letters count) and CEDA_PASSWORD, in the environment or .env, or type "
                "them again with: midasdl auth setup",
            )
        case 400:
            return AuthenticationError(
                f"CEDA says that {name} is not set up or is disabled (400).",
                "Complete the account at https://services.ceda.ac.uk/ and see whether it is accepted with: midasdl "
                "auth verify",
            )
        case 403:
            return AuthenticationError(
                f"CEDA could not read the user name and password of {name} (403).",
                "Check CEDA_USERNAME and CEDA_PASSWORD for stray characters, or type them again with: midasdl auth "
                "setup",
            )
        case 407:
            return ServerUnavailableError(f"{proxy_refusal(407)}.", PROXY_HELP)
        case 500:
            return AuthenticationError(
                f"CEDA's token service fails for {name} (500), as it does until an account has had its first token.",
                f"Please {FIRST_BY_HAND}; after that midasdl can get its own, as midasdl auth verify shows.",
            )
        case None:
            return ServerUnavailableError(f"{describe(verdict)}.", HELP.get(verdict.error_class, LATER))
        case _:
            by_hand = "midasdl auth setup --token"
            return ServerUnavailableError(
                f"{describe(verdict)}.", f"{LATER} Or {FIRST_BY_HAND} and store it with: {by_hand}"
            )
