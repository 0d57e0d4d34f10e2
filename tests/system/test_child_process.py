import signal
import sys

from rexnet.system.child_process import run_forwarding


def test_a_signal_reaches_the_run_once() -> None:
    code = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "signal.pause()"
    )
    before = signal.getsignal(signal.SIGTERM)
    assert run_forwarding([sys.executable, "-c", code]) == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_ignored_signal_stays_ignored_as_under_nohup() -> None:
    code = "import os, signal; os.kill(os.getppid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGHUP)"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert run_forwarding([sys.executable, "-c", code]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
