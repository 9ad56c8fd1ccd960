"""
Real clients against a running member.

A shell that starts these tests in the background has them ignore SIGINT, which their children would inherit;
yet some tests end a process by it.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
