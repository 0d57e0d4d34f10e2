"""Runs a command as a process of its own that gets the signals of this one."""

import signal
import subprocess
from collections.abc import Sequence
from types import FrameType

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


def run_forwarding(command: Sequence[str]) -> int:
    """Runs a command in its own session, forwards each signal to it once, and returns its exit code.

    Signals that this process ignores, such as SIGHUP under `nohup`, are ignored by the command as well.
    """
    started: list[subprocess.Popen[bytes]] = []

    def forward(number: int, frame: FrameType | None) -> None:
        for process in started:
            process.send_signal(number)

    handled = [number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN]
    handlers = {number: signal.signal(number, forward) for number in handled}
    try:
        started.append(subprocess.Popen(command, start_new_session=True))  # noqa: S603 - our own command
        return started[0].wait()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
