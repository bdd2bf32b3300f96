"""`midasdl verify`: read again what the ledger calls done."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from midasdl.cli.context import Subparsers, ledger_path, number, plural, settings_from, size
from midasdl.cli.output import Output
from midasdl.cli.wording import HelpFormatter
from midasdl.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from midasdl.ledger.verification import Damage
    from midasdl.verify import Verified, VerifyPlan

EXAMPLES = """examples:
  midasdl verify
  midasdl verify --repair && midasdl run
  midasdl verify --sample 0.05
  midasdl verify --resume
  midasdl verify --resume --repair

Every file that the ledger calls done is read, and its md5 compared with the manifest's. Nothing on disk is changed,
and no request is made; a run may be on. With --repair, what is missing or corrupt is pending again, and the next
'midasdl run' fetches just that; a corrupt file stays until its replacement is there. --resume looks again at what was
found wrong before and then at what was not looked at yet: after a whole verification, that takes seconds.
Files below data/ that no manifest names are told as unknown, and left alone; --sample does not look for them.

exit codes: 0 all is well, or --repair has put back everything that was not; 1 something is missing, corrupt or
unreadable and was not put back; 130, 143 interrupted: what was looked at is recorded, go on with --resume
"""


def add_to(commands: Subparsers, shared: argparse.ArgumentParser) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "verify",
        parents=[shared],
        help="read finished files again and compare them with the manifest",
        description="Read again every file that the ledger calls done, and compare it with the manifest.",
        epilog=EXAMPLES,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--sample", metavar="SHARE", help="look at a random share only: 0.1 or 10%% is every tenth file"
    )
    parser.add_argument("--repair", action="store_true", help="put what is missing or corrupt into the queue")
    parser.add_argument("--resume", action="store_true", help="go on where the last verification stopped")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read (default: 4)")
    parser.set_defaults(act=act)


def act(options: argparse.Namespace, output: Output) -> ExitCode:
    """Verify, and tell what was found."""
    import random

    from midasdl.cli.counting import Counting
    from midasdl.cli.signals import stopping_on_signals
    from midasdl.ledger.ledger import Ledger, data_root_of
    from midasdl.verify import Verifier

    plan = _plan(options, settings_from(options).performance.workers.count)
    with (
        Ledger.open(ledger_path(options), tell=output.note) as ledger,
        Counting(output, "verifying", ledger.clock) as counting,
    ):
        verifier = Verifier(
            ledger,
            data_root_of(ledger),
            plan,
            random.uniform,
            lambda damage: _tell_damage(output, damage),
            lambda path: _tell_unknown(output, path),
            lambda so_far, total: counting.show(so_far.looked_at, total, _trouble(so_far)),
        )
        with stopping_on_signals(verifier, ledger.patience):
            verified = verifier.run()
    _tell(output, verified, plan)
    return exit_code_of(verified, repair=plan.repair)


def _plan(options: argparse.Namespace, workers: int) -> VerifyPlan:
    from midasdl.verify import VerifyPlan

    if options.sample and options.resume:
        raise UsageError(
            "A sample is drawn anew each time: there is nothing to resume.", "Leave out --sample or --resume."
        )
    return VerifyPlan(workers, share_of(options.sample), options.resume, options.repair)


def share_of(text: str | None) -> float:
    """A share as it is typed: ``0.1`` or ``10%``; None is everything.

    Raises
    ------
    UsageError
    """
    if text is None:
        return 1.0
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(
            f"--sample {text} is not a share of the files.", "Type a number above 0 and up to 1, such as 0.1"
        )
    return share


def exit_code_of(verified: Verified, *, repair: bool) -> ExitCode:
    """Interruption first; then whether anything is wrong that will not be fetched."""
    if verified.interrupted_by is not None:
        return ExitCode(verified.interrupted_by)
    left = verified.unreadable if repair else verified.damaged
    return ExitCode.SOME_FAILED if left else ExitCode.DONE


def _tell_damage(output: Output, damage: Damage) -> None:
    facts = {"path": damage.wanted.path, "found": damage.found, "detail": damage.detail}
    output.record("verify-file", {**facts, "md5": damage.wanted.md5})
    output.say(f"{damage.found:<10}  {damage.wanted.path}: {damage.detail}")


def _tell_unknown(output: Output, path: str) -> None:
    from midasdl.look import presentable

    output.record("verify-file", {"path": path, "found": "unknown", "detail": "no manifest names it"})
    output.say(f"{'unknown':<10}  {presentable(path)}: no manifest names it")


def _trouble(so_far: Verified) -> str:
    return f"{number(so_far.damaged)} damaged" if so_far.damaged else ""


def _tell(output: Output, verified: Verified, plan: VerifyPlan) -> None:
    facts = asdict(verified)
    interrupted_by = facts.pop("interrupted_by")
    exit_code = exit_code_of(verified, repair=plan.repair)
    output.record(
        "verify",
        {**facts, "sample": plan.share, "interrupted": interrupted_by is not None, "exit_code": exit_code},
    )
    output.say(
        f"Looked at {number(verified.looked_at)} of {plural(verified.files, 'finished file')}: {number(verified.ok)} "
        f"ok ({size(verified.bytes_ok)}), {number(verified.missing)} missing, {number(verified.corrupt)} corrupt"
        + (f", {number(verified.unreadable)} unreadable" if verified.unreadable else "")
        + (f", {number(verified.unknown)} unknown." if verified.unknown is not None else ".")
    )
    if verified.changed:
        output.say(
            f"{plural(verified.changed, 'file')} changed hands meanwhile and will be checked by the run."
        )
    for line in _advice(verified, plan):
        output.say(line)


def _advice(verified: Verified, plan: VerifyPlan) -> list[str]:
    """What to type next."""
    lines = [] if verified.files else ["Nothing is fetched yet. Next: midasdl run"]
    if verified.put_back:
        lines.append(
            f"{plural(verified.put_back, 'distinct content')} put back into the queue. Next: midasdl run"
        )
    elif verified.missing + verified.corrupt and plan.share < 1:
        lines.append(
            "That was a sample. Look at everything, and put back what is wrong: midasdl verify --repair"
        )
    elif verified.missing + verified.corrupt and not plan.repair:
        lines.append("Put them back into the queue with: midasdl verify --resume --repair")
    if verified.unreadable:
        lines.append("See to the disk, owner and mode of the unreadable files; then: midasdl verify --resume")
    if verified.interrupted_by is not None and plan.share == 1:
        lines.append("Go on with: midasdl verify --resume" + (" --repair" if plan.repair else ""))
    if plan.resume and verified.files and not verified.looked_at and verified.interrupted_by is None:
        lines.append("The last verification came to its end. Begin another with: midasdl verify")
    return lines
