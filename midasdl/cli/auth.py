"""`midasdl auth`: obtain, check, show and forget the right to download."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from midasdl.cli.auth_words import accepted, enumeration, lasting, sign_in_facts, status_lines, stored_lines
from midasdl.cli.context import DOTENV, Subparsers, environment, settings_from
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.clock import Clock, SystemClock
from midasdl.errors import ExitCode, MidasdlError, UsageError

if TYPE_CHECKING:
    from midasdl.ceda.credentials import Credentials
    from midasdl.ceda.sign_in import SignIn
    from midasdl.config import Settings

TOKEN_NAMES = ("CEDA_TOKEN", "CEDA_ACCESS_TOKEN")
PAIR_NAMES = ("CEDA_USERNAME", "CEDA_PASSWORD")
NAMES = TOKEN_NAMES + PAIR_NAMES

EXAMPLES = """examples:
  midasdl auth setup
  midasdl auth verify
  midasdl auth status
  midasdl auth clear

An account is free: https://services.ceda.ac.uk/  Credentials are kept in the file .env of this folder, which only you
may read. Environment variables of the same names (CEDA_TOKEN, or CEDA_USERNAME and CEDA_PASSWORD) beat it.
"""

SETUP_EXAMPLES = """examples:
  midasdl auth setup
  midasdl auth setup --token
  midasdl auth setup < user-name-and-password.txt
  pass show ceda-token | midasdl auth setup --token

Secrets are typed, or read from standard input: the user name on the first line and the password on the second, or the
token alone. They are tried at CEDA first; if CEDA does not accept them, nothing is stored.
"""

VERIFY_EXAMPLES = """examples:
  midasdl auth verify
  midasdl auth verify --json

Gets a token, unless one is cached, and reads a small file that CEDA keeps for this. Exit code 3 means that CEDA does
not accept the credentials; the message says why and what helps.
"""

STATUS_EXAMPLES = """examples:
  midasdl auth status
  midasdl auth status --json

Makes no request and shows no values.
"""

CLEAR_EXAMPLES = """examples:
  midasdl auth clear

Takes the credentials out of .env, keeping its other lines, and removes the cached tokens. CEDA is not asked: a token
that was copied elsewhere stays good until it ends.
"""


class DiscreetParser(argparse.ArgumentParser):
    """Does not repeat what stands on the command line: it may be a secret, put there by mistake."""

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Leave nothing unrecognised to the parser above, which would repeat it."""
        options, surplus = super().parse_known_args(*args, **kwargs)
        if surplus:
            _refuse_secrets()
        return options, surplus

    def error(self, message: str) -> NoReturn:
        """Say what is wrong without the words themselves."""
        if "argument" in message and "'" not in message:
            raise UsageError(f"{message[0].upper()}{message[1:]}.", f"See: {self.prog} --help")
        _refuse_secrets()


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "auth",
        parents=[shared],
        help="store, check, show or forget your CEDA credentials",
        description="Store, check, show or forget the credentials for CEDA.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(
        dest="action", metavar="ACTION", title="actions", required=True, parser_class=DiscreetParser
    )
    setup = _add_action(
        actions, shared, "setup", act_setup, "ask for credentials, try them, store them", SETUP_EXAMPLES
    )
    setup.add_argument(
        "--token", action="store_true", help="ask for a token instead of a user name and a password"
    )
    setup.add_argument("--no-verify", action="store_true", help="store without asking CEDA")
    _add_action(actions, shared, "verify", act_verify, "try the credentials at CEDA", VERIFY_EXAMPLES)
    _add_action(actions, shared, "status", act_status, "where credentials come from", STATUS_EXAMPLES)
    _add_action(actions, shared, "clear", act_clear, "remove credentials and tokens", CLEAR_EXAMPLES)


def _add_action(
    actions: Subparsers,
    shared: argparse.ArgumentParser,
    name: str,
    act: Callable[[argparse.Namespace, Output], ExitCode],
    text: str,
    examples: str,
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = actions.add_parser(
        name,
        parents=[shared],
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=examples,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(act=act)
    return parser


def act_setup(options: argparse.Namespace, output: Output) -> ExitCode:
    """Ask for credentials, try them, store them."""
    from midasdl.ceda.dotenv_file import store

    clock = SystemClock()
    values = _ask_for_token() if options.token else _ask_for_pair()
    signed = None if options.no_verify else _try_out(options, output, values, clock)
    stored = store(DOTENV, values, TOKEN_NAMES[1:] if options.token else TOKEN_NAMES)
    beaten_by = [name for name in (TOKEN_NAMES if options.token else NAMES) if os.environ.get(name)]
    facts = sign_in_facts(signed, clock.now_us()) if signed else {}
    output.record(
        "auth-setup",
        {
            "stored": list(values),
            "file": DOTENV.absolute(),
            "created": stored.created,
            "tightened": stored.tightened,
            "removed": stored.dropped,
            "verified": signed is not None,
            **facts,
            "beaten_by": beaten_by,
        },
    )
    for line in [accepted(facts)] if facts else []:
        output.say(line)
    for line in stored_lines(list(values), DOTENV.absolute(), stored):
        output.say(line)
    if beaten_by:
        output.say(f"But {enumeration(beaten_by)} in the environment will be used: {_unset(beaten_by)}")
    return ExitCode.DONE


def act_verify(options: argparse.Namespace, output: Output) -> ExitCode:
    """Try the credentials at CEDA."""
    from midasdl.ceda.credentials import Credentials

    clock = SystemClock()
    everything = environment()
    signed = _sign_in(options, output, Credentials.from_environment(everything), clock, anew=False)
    facts = sign_in_facts(signed, clock.now_us())
    output.record("auth-verify", {**facts, "names": _names_used(everything)})
    output.say(accepted(facts))
    return ExitCode.DONE


def act_status(options: argparse.Namespace, output: Output) -> ExitCode:
    """Say where credentials come from, and how long tokens last; no request, no values."""
    from midasdl.ceda.dotenv_file import is_private, read

    settings = settings_from(options)
    everything, in_file = environment(), read(DOTENV)
    names = _names_used(everything)
    facts: dict[str, Any] = {
        "complete": bool(names),
        "names": names,
        "sources": {
            name: "environment" if name in os.environ else ".env" for name in NAMES if everything.get(name)
        },
        "hidden_by_empty": [name for name in NAMES if in_file.get(name) and not everything[name]],
        "dotenv": {"exists": DOTENV.exists(), "private": is_private(DOTENV) if DOTENV.exists() else None},
        **_token_facts(settings, everything),
    }
    output.record("auth-status", facts)
    for line in status_lines(facts):
        output.say(line)
    return ExitCode.DONE


def act_clear(options: argparse.Namespace, output: Output) -> ExitCode:
    """Take the credentials out of .env and remove the cached tokens."""
    from midasdl.ceda.dotenv_file import remove
    from midasdl.ceda.sign_in import forget_tokens

    settings = settings_from(options)
    removed = remove(DOTENV, NAMES)
    tokens = forget_tokens(settings)
    still_set = [name for name in NAMES if os.environ.get(name)]
    output.record(
        "auth-clear",
        {
            "removed": removed.names,
            "file_removed": removed.file,
            "tokens_removed": tokens,
            "still_set": still_set,
        },
    )
    if removed.names:
        file = ", and the file, in which nothing else was" if removed.file else ""
        output.say(f"Removed {enumeration(removed.names)} from .env{file}.")
    if tokens:
        output.say("Removed the cached token." if tokens == 1 else f"Removed {tokens} cached tokens.")
    if not removed.names and not tokens:
        output.say("There was nothing to remove: no credentials in .env, no cached token.")
    if still_set:
        output.say(f"Still set in the environment: {enumeration(still_set)}. {_unset(still_set)}")
    return ExitCode.DONE


def _ask_for_token() -> dict[str, str]:
    from midasdl.ceda.credentials import TOKEN_PAGE, is_token_text
    from midasdl.cli.ask import ask_hidden

    token = ask_hidden("Token").strip()
    if not is_token_text(token):
        raise UsageError(
            "That is not a token: it has spaces or letters beyond ASCII inside, or nothing at all.",
            f"Copy it again, in one piece, from {TOKEN_PAGE}",
        )
    return {"CEDA_TOKEN": token}


def _ask_for_pair() -> dict[str, str]:
    from midasdl.ceda.dotenv_file import unstorable
    from midasdl.cli.ask import ask, ask_hidden

    values = {"CEDA_USERNAME": ask("User name").strip(), "CEDA_PASSWORD": ask_hidden("Password")}
    for what, value in zip(("user name", "password"), values.values(), strict=True):
        fault = unstorable(value)
        if fault is not None:
            raise UsageError(f"The {what} cannot be stored: {fault}.", "Type it again, without pasting.")
    if ":" in values["CEDA_USERNAME"]:
        raise UsageError(
            "The user name has a colon inside, which none of CEDA's has.",
            "Give the user name first, then the password.",
        )
    return values


def _try_out(options: argparse.Namespace, output: Output, values: Mapping[str, str], clock: Clock) -> SignIn:
    """Sign in with what was typed, by asking the service even where a token is cached."""
    from midasdl.ceda.credentials import Credentials

    try:
        return _sign_in(options, output, Credentials.from_environment(values), clock, anew=True)
    except MidasdlError as error:
        error.message = f"{error.message} Nothing was stored."
        raise


def _sign_in(
    options: argparse.Namespace, output: Output, credentials: Credentials, clock: Clock, *, anew: bool
) -> SignIn:
    from midasdl.ceda.sign_in import sign_in
    from midasdl.cli.passage import passage

    settings = settings_from(options)
    with passage(options, settings, "sign-in", clock) as gate:
        return sign_in(settings, credentials, gate, clock, anew=anew, tell=output.note)


def _names_used(everything: Mapping[str, str]) -> list[str]:
    """The names of the credentials that a run would take."""
    for name in TOKEN_NAMES:
        if everything.get(name, "").strip():
            return [name]
    return list(PAIR_NAMES) if all(everything.get(name) for name in PAIR_NAMES) else []


def _token_facts(settings: Settings, everything: Mapping[str, str]) -> dict[str, Any]:
    """The user's token and the cached one: whether there is one, and when it ends."""
    from midasdl.ceda.connect import token_cache
    from midasdl.ceda.jwt import claims_of

    now_us = SystemClock().now_us()
    given = next((everything[name].strip() for name in TOKEN_NAMES if everything.get(name, "").strip()), None)
    if given is not None:
        claims = claims_of(given)
        return {"given_token": lasting(claims.expires_at if claims else None, now_us), "cached_token": None}
    cached = token_cache(settings, everything.get("CEDA_USERNAME") or None).load()
    return {"given_token": None, "cached_token": cached and lasting(cached.expires_at, now_us)}


def _unset(names: list[str]) -> str:
    return f"Remove from it with: unset {' '.join(names)}"


def _refuse_secrets() -> NoReturn:
    raise UsageError(
        "That cannot be understood. If it is a user name, a password or a token: none of them is taken from the "
        "command line, where every user of this machine can see it and the shell keeps it.",
        "Type it when asked, or give it on standard input: midasdl auth setup --help",
    )
