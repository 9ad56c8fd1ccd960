"""
tap: what twistd sees of us, and the one place that touches what belongs to the process.

``twistd etcd FLAGS`` hands the raw flags to ``config.py``.  The garbage collector, the log and the exit
status are set here, because an application that embeds `EtcdService` decides about them itself.
"""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
from collections.abc import Sequence
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.logger import ILogObserver, Logger
from twisted.python.components import Componentized
from twisted.python.failure import Failure
from twisted.python.usage import Options as TwistedOptions

from twistedetcd.config import Answered, Config, parse
from twistedetcd.errors import ConfigError, MemberError, MemberRemovedError, UsageError
from twistedetcd.logs import observer
from twistedetcd.service import EtcdService

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_MAPPED_BYTES_MIN = 8 * 1024 * 1024  # pieces at least so large do go back when they are freed
_KEPT_BYTES_MAX = 64 * 1024 * 1024  # at the end of the heap
_COLLECT_AFTER = 100_000  # allocations: the collector shall not walk a million keys at every turn
_log = Logger()


class Options(TwistedOptions):
    """The flags of ``twistd etcd``; their one parser is `twistedetcd.config.parse`."""

    synopsis = "[etcd's flags; --help lists them]"
    config: Config

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        try:
            self.config = parse(list(options or ()), os.environ, _read_file)
        except Answered as answer:
            sys.stdout.write(answer.text)
            raise SystemExit(0) from None
        except UsageError as error:
            sys.stderr.write(f"{error}\nTry 'twistedetcd --help' for the flags.\n")
            raise SystemExit(2) from None
        except ConfigError as error:
            sys.stderr.write(f"{error}\n")
            raise SystemExit(1) from None


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class CannotStartError(SystemExit, Exception):
    """
    An exit that twistd cleans up after.

    As an exception it makes twistd remove its pid file and tell the shell that waits for a daemon; as an exit
    it ends the process with its status and without a traceback: the log has said why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(1)
        self._reason = reason

    def __str__(self) -> str:
        return self._reason


class MemberProcess(MultiService):
    """
    A process whose purpose is one member: it ends, with status 1, when the member cannot go on.

    One that was removed from its cluster ends with status 0, as etcd's does.

    Args:
        config: The member's.
        own_log: Whether the log is ours to write, as etcd does, or twistd's.
    """

    def __init__(self, config: Config, own_log: bool) -> None:
        super().__init__()
        self._config = config
        self._own_log = own_log
        self._etcd = EtcdService(config, on_fatal=self._failed)
        self._etcd.setServiceParent(self)
        # on_fatal has said everything about a failure to start.
        self._etcd.ready.addCallbacks(self._settled, lambda _: None)

    def setServiceParent(self, parent: Any) -> None:
        super().setServiceParent(parent)
        if self._own_log and isinstance(parent, Componentized):
            out = sys.stdout if "stdout" in self._config.log_outputs else sys.stderr
            parent.setComponent(ILogObserver, observer(out, self._config.log_level, self._config.log_format))

    def startService(self) -> None:
        keep_memory()
        _, files_max = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (files_max, files_max))  # each client needs one
        for warning in self._config.warnings:
            _log.warn("{reason}", reason=warning)  # "warning" means something else to Twisted
        try:
            super().startService()
        except MemberRemovedError as error:
            _log.critical("The member stops: {reason}", reason=error.message)
            self._failed(Failure())
        except MemberError as error:
            _log.critical("The member cannot start: {reason}", reason=str(error))
            raise CannotStartError(str(error)) from None

    def _settled(self, _: None) -> None:
        """What exists now stays: keep the collector away from it."""
        gc.collect()
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER, 50, 50)

    def _failed(self, failure: Failure) -> None:
        from twisted.internet import reactor

        stopping: Any = reactor
        if not failure.check(MemberRemovedError):  # which is as it should be: status 0
            stopping.addSystemEventTrigger("after", "shutdown", _exit_failed)
        stopping.callWhenRunning(stopping.stop)


def keep_memory() -> None:
    """
    Have the C library keep what was freed for what comes next.

    glibc returns large pieces to the kernel at once, which then clears the same pages for every answer: a
    third to a half of what a range of 1,000 keys cost.  Other C libraries do not have this call.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES_MIN)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES_MAX)


def _exit_failed() -> None:
    # twistd ends with status 0 whenever its reactor stopped by itself.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def makeService(options: Options) -> IService:
    """The service that ``twistd etcd`` runs; opens nothing."""
    twistd: Any = options.parent
    in_foreground = twistd is None or bool(twistd["nodaemon"])
    return MemberProcess(options.config, own_log=in_foreground and not (twistd and twistd["logfile"]))


def main() -> None:
    """The console script ``twistedetcd``: ``twistd -n --pidfile= etcd``, with the flags that follow."""
    from twisted.scripts.twistd import run

    sys.argv[1:1] = ["-n", "--pidfile=", "etcd"]
    run()
