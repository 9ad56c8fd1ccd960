"""What twistd sees: flags in, a service or an exit status out."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import sys
import threading
from typing import Any

from twisted.application.service import Application, IServiceMaker
from twisted.internet import reactor
from twisted.logger import ILogObserver, LogLevel, capturedLogs
from twisted.plugin import getPlugins
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd import tap
from twistedetcd.errors import MemberError, MemberRemovedError
from twistedetcd.interfaces import IBackendFactory
from twistedetcd.tap import MemberProcess, Options, keep_memory, makeService


class MemoryTests(SynchronousTestCase):
    """What a process does with memory that is free again."""

    def test_kept(self) -> None:
        """The C library is told to keep it; one that cannot be told so is left alone."""
        for library, expected in ((_Library(), 2), (object(), 0)):
            self.patch(ctypes, "CDLL", lambda name, found=library: found)
            keep_memory()
            self.assertEqual(expected, len(getattr(library, "told", ())))


class _Library:
    def __init__(self) -> None:
        self.told: list[tuple[int, int]] = []

    def mallopt(self, parameter: int, value: int) -> int:
        self.told.append((parameter, value))
        return 1


class TapCase(SynchronousTestCase):
    """Keeps what a process would say."""

    def setUp(self) -> None:
        self.out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", self.out)
        self.patch(sys, "stderr", self.err)
        self.patch(os, "environ", {})
        self.directory = self.mktemp()

    def options(self, *flags: str) -> Options:
        """Flags that parse."""
        options = Options()
        options.parseOptions([f"--data-dir={self.directory}", *flags])
        return options


class OptionsTests(TapCase):
    """Exit statuses and texts are etcd's."""

    def ended(self, *flags: str) -> object:
        """The exit status."""
        return self.assertRaises(SystemExit, Options().parseOptions, flags).code

    def test_version(self) -> None:
        """``--version`` prints etcd's lines and is a success."""
        self.assertEqual(0, self.ended("--version"))
        self.assertTrue(self.out.getvalue().startswith("etcd Version: 3.6."), self.out.getvalue())
        self.assertEqual("", self.err.getvalue())

    def test_help(self) -> None:
        """So is ``--help``."""
        self.assertEqual(0, self.ended("--help"))
        self.assertIn("--data-dir", self.out.getvalue())

    def test_bad_flag(self) -> None:
        """A flag that does not exist ends with status 2, and one line that says so."""
        self.assertEqual(2, self.ended("--nonsense"))
        self.assertEqual(
            "flag provided but not defined: -nonsense\nTry 'twistedetcd --help' for the flags.\n",
            self.err.getvalue(),
        )

    def test_bad_combination(self) -> None:
        """Flags that do not go together end with status 1, and one sentence."""
        self.assertEqual(1, self.ended("--heartbeat-interval=500", "--election-timeout=1000"))
        self.assertEqual(1, self.err.getvalue().count("\n"))
        self.assertIn("--election-timeout[1000ms]", self.err.getvalue())

    def test_environment(self) -> None:
        """The process's variables count."""
        os.environ["ETCD_NAME"] = "from-the-environment"
        self.assertEqual("from-the-environment", self.options().config.name)

    def test_file(self) -> None:
        """A configuration file is read from the disk; one that is missing ends with status 1."""
        path = self.mktemp()
        with open(path, "w") as file:
            file.write("name: from-the-file\n")
        options = Options()
        options.parseOptions([f"--config-file={path}"])
        self.assertEqual("from-the-file", options.config.name)
        self.assertEqual(1, self.ended(f"--config-file={path}.not"))
        self.assertIn("cannot read the config file", self.err.getvalue())


class ProcessTests(TapCase):
    """The service that twistd runs."""

    def test_making_opens_nothing(self) -> None:
        """twistd forks after making it: no file, no thread, no timer."""
        calls = reactor.getDelayedCalls()  # type: ignore[attr-defined]
        threads = threading.active_count()
        makeService(self.options())
        self.assertFalse(os.path.exists(self.directory))
        self.assertEqual(threads, threading.active_count())
        self.assertEqual(calls, reactor.getDelayedCalls())  # type: ignore[attr-defined]

    def test_log(self) -> None:
        """In the foreground the log is ours, unless twistd was told of a file; else it is twistd's."""
        for twistd, ours in (
            ({"nodaemon": True, "logfile": None}, True),
            ({"nodaemon": True, "logfile": "x.log"}, False),
            ({"nodaemon": False, "logfile": None}, False),
            (None, True),
        ):
            options = self.options()
            options.parent = twistd
            application = Application("etcd")
            makeService(options).setServiceParent(application)
            self.assertEqual(ours, application.getComponent(ILogObserver) is not None, str(twistd))

    def test_log_output(self) -> None:
        """It goes to the standard error, or where ``--log-outputs`` says."""
        for flags, out, err in (((), "", "x"), (("--log-outputs=stdout",), "x", "")):
            self.setUp()
            application = Application("etcd")
            makeService(self.options("--log-format=console", *flags)).setServiceParent(application)
            observer: Any = application.getComponent(ILogObserver)
            observer({"log_level": LogLevel.info, "log_format": "x", "log_time": 0.0, "log_namespace": "n"})
            self.assertEqual((out, err), (self.out.getvalue()[-2:-1], self.err.getvalue()[-2:-1]))

    def test_cannot_start(self) -> None:
        """One sentence in the log, and status 1; warnings about flags come before it."""
        process = MemberProcess(self.options("--backend=nosql").config, own_log=False)
        process._config = self.options("--max-request-bytes=99999999").config
        with capturedLogs() as events:
            self.assertEqual(1, self.assertRaises(SystemExit, process.startService).code)
        self.assertEqual(
            [LogLevel.warn, LogLevel.critical],
            [event["log_level"] for event in events if event["log_namespace"] == "twistedetcd.tap"],
        )
        self.assertRegex(events[-1]["reason"], "^there is no backend 'nosql'; there are: .*lmdb, memory$")

    def test_cannot_go_on(self) -> None:
        """A member that stops by itself ends the process with status 1, after all has shut down in order."""
        events: list[Any] = []
        self.patch(reactor, "addSystemEventTrigger", lambda *event: events.append(event))
        self.patch(reactor, "callWhenRunning", events.append)
        process = MemberProcess(self.options().config, own_log=False)
        process._etcd._fatal(Failure(MemberError("the disk is full")))
        self.assertEqual([("after", "shutdown", tap._exit_failed), reactor.stop], events)  # type: ignore[attr-defined]
        statuses: list[int] = []
        self.patch(os, "_exit", statuses.append)
        tap._exit_failed()
        self.assertEqual([1], statuses)

    def test_removed(self) -> None:
        """A member that was removed from its cluster ends the process too, with status 0, and says why."""
        events: list[Any] = []
        self.patch(reactor, "addSystemEventTrigger", lambda *event: events.append(event))
        self.patch(reactor, "callWhenRunning", events.append)
        process = MemberProcess(self.options().config, own_log=False)
        with capturedLogs() as logged:
            process._etcd._fatal(Failure(MemberRemovedError()))
        self.assertEqual([reactor.stop], events)  # type: ignore[attr-defined]
        self.assertEqual(
            ["the member has been permanently removed from the cluster"],
            [event["reason"] for event in logged],
        )

    def test_was_removed(self) -> None:
        """So it is with one that knows it when it starts."""
        events: list[Any] = []
        self.patch(reactor, "addSystemEventTrigger", lambda *event: events.append(event))
        self.patch(reactor, "callWhenRunning", events.append)
        process = MemberProcess(self.options().config, own_log=False)

        def start() -> None:
            raise MemberRemovedError

        self.patch(process._etcd, "startService", start)
        with capturedLogs() as logged:
            process.startService()
        self.assertEqual([reactor.stop], events)  # type: ignore[attr-defined]
        self.assertIn("removed from the cluster", str(logged[-1]["reason"]))

    def test_collector(self) -> None:
        """Once ready, the collector leaves alone what stays; not before, since an embedder decides itself."""
        done: list[Any] = []
        for name in ("collect", "freeze", "set_threshold"):
            self.patch(gc, name, lambda *_, name=name: done.append(name))
        process = MemberProcess(self.options().config, own_log=False)
        self.assertEqual([], done)
        process._etcd.ready.callback(None)
        self.assertEqual(["collect", "freeze", "set_threshold"], done)

    def test_console_script(self) -> None:
        """``twistedetcd FLAGS`` is ``twistd -n --pidfile= etcd FLAGS``."""
        ran: list[list[str]] = []
        from twisted.scripts import twistd

        self.patch(twistd, "run", lambda: ran.append(list(sys.argv)))
        self.patch(sys, "argv", ["twistedetcd", "--name=x"])
        tap.main()
        self.assertEqual([["twistedetcd", "-n", "--pidfile=", "etcd", "--name=x"]], ran)


class PluginTests(SynchronousTestCase):
    """Twisted finds us."""

    def test_twistd(self) -> None:
        """``twistd etcd`` exists, and leads to this module."""
        [plugin] = [plugin for plugin in getPlugins(IServiceMaker) if plugin.tapname == "etcd"]
        self.assertIs(makeService, plugin.makeService)
        self.assertIs(Options, plugin.options)

    def test_backends(self) -> None:
        """The engines are there, each with a line of help."""
        found = {plugin.name: plugin.help for plugin in getPlugins(IBackendFactory)}
        self.assertLessEqual({"lmdb", "memory"}, set(found))
        self.assertNotIn("", found.values())
