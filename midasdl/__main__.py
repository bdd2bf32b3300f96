"""The command ``midasdl``, also as ``python -m midasdl``."""

import atexit
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def command() -> NoReturn:
    """Run one command and end the process at once, without taking apart what it has imported.

    Notes
    -----
    Crash safety: whatever has to be kept was closed when the command returned. What libraries have to do at the end
    is done, such as removing multiprocessing's sockets, and what is said may still be held back and is sent on its
    way.
    """
    exit_code = run()
    atexit._run_exitfuncs()  # noqa: SLF001 - what Python itself calls, before it begins to take things apart
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # closed, gone, or never there
            stream.flush()
    os._exit(exit_code)


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
    command()
