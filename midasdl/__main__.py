"""The command ``midasdl``, also as ``python -m midasdl``."""

import signal
import sys


def run() -> int:
    """Run one command; a Ctrl-C before it listens, or when all is said, leaves no traceback.

    Returns
    -------
    int
        The exit code.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from midasdl.cli.main import main  # noqa: PLC0415 - it takes its time
    from midasdl.cli.output import say_the_last  # noqa: PLC0415

    exit_code = main()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say_the_last()
    return exit_code


if __name__ == "__main__":
    sys.exit(run())
