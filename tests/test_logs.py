"""Log lines as etcd writes them."""

from __future__ import annotations

import io
import json
from typing import Any

from twisted.logger import LegacyLogObserverWrapper, Logger, LogLevel, LogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from twistedetcd.logs import as_json_line, observer


class LinesTests(SynchronousTestCase):
    """One event, one line."""

    def setUp(self) -> None:
        self.out = io.StringIO()

    def logger(self, level: str = "info", log_format: str = "json") -> Logger:
        """A logger whose events go through the observer only."""
        return Logger("room.module", observer=LogPublisher(observer(self.out, level, log_format)))

    def lines(self) -> list[dict[str, Any]]:
        """What was written, parsed."""
        return [json.loads(line) for line in self.out.getvalue().splitlines()]

    def test_json(self) -> None:
        """Level, time, caller and message first, in that order, then the fields that text can hold."""
        self.logger().info("put {key} in {seconds}", key="a", seconds=0.5, many=3, good=True, other=object())
        [line] = self.lines()
        self.assertEqual(["level", "ts", "caller", "msg", "key", "seconds", "many", "good"], list(line))
        self.assertEqual(
            ["info", "room.module", "put a in 0.5"], [line["level"], line["caller"], line["msg"]]
        )
        self.assertRegex(line["ts"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")

    def test_time(self) -> None:
        """Times are in UTC, to the microsecond."""
        line = as_json_line({"log_time": 1700000000.25, "log_level": LogLevel.info, "log_format": "x"})
        self.assertEqual("2023-11-14T22:13:20.250000Z", json.loads(line)["ts"])

    def test_own_names(self) -> None:
        """A field cannot overwrite what the line itself says."""
        self.logger().info("text", msg="other", ts="other", caller="other")
        [line] = self.lines()
        self.assertEqual(["info", "room.module", "text"], [line["level"], line["caller"], line["msg"]])

    def test_levels(self) -> None:
        """Each level shows itself and what is above it; critical is called fatal, as etcd does."""
        expected = {
            "debug": ["debug", "info", "warn", "error", "fatal"],
            "info": ["info", "warn", "error", "fatal"],
            "warn": ["warn", "error", "fatal"],
            "error": ["error", "fatal"],
            "dpanic": ["fatal"],
            "panic": ["fatal"],
            "fatal": ["fatal"],
        }
        for level, shown in expected.items():
            self.out = io.StringIO()
            logger = self.logger(level)
            for emit in (logger.debug, logger.info, logger.warn, logger.error, logger.critical):
                emit("x")
            self.assertEqual(shown, [line["level"] for line in self.lines()], level)

    def test_failure(self) -> None:
        """A failure comes with its traceback, in the message of one line."""
        try:
            raise ZeroDivisionError("by nought")
        except ZeroDivisionError:
            self.logger().failure("It broke", Failure())
        [line] = self.lines()
        self.assertEqual("error", line["level"])  # fatal is what stops the member
        self.assertTrue(line["msg"].startswith("It broke\nTraceback"), line["msg"])
        self.assertIn("ZeroDivisionError: by nought", line["msg"])

    def test_twisteds_own_events(self) -> None:
        """What Twisted says of itself is in the message; its fields are not repeated."""
        publisher = LogPublisher(observer(self.out, "info", "json"))
        Logger("twisted.scripts.x", observer=publisher).info("twistd {version} starting up", version="26")
        [line] = self.lines()
        self.assertEqual({"level", "ts", "caller", "msg"}, set(line))
        self.assertEqual("twistd 26 starting up", line["msg"])

    def test_connections_of_twisted(self) -> None:
        """That a client of Twisted's made a connection is told only to who wants to know everything."""
        told = {}
        for level in ("debug", "info", "error"):
            self.out = io.StringIO()
            publisher = LogPublisher(observer(self.out, level, "json"))
            log = Logger("twisted.web.client._HTTP11ClientFactory", observer=publisher)
            log.info("Starting factory")
            log.error("Something else")
            told[level] = len(self.lines())
        self.assertEqual({"debug": 2, "info": 1, "error": 1}, told)

    def test_console(self) -> None:
        """Text for people: one line with time and room."""
        self.logger(log_format="console").info("hello {name}", name="you")
        self.assertRegex(self.out.getvalue(), r"^\d{4}-\S+ \[room\.module#info\] hello you\n$")

    def test_legacy_events(self) -> None:
        """What observers of Twisted's older kind add to an event is not among its fields."""
        older_first = LogPublisher(
            LegacyLogObserverWrapper(lambda event: None), observer(self.out, "info", "json")
        )
        Logger("room", observer=older_first).info("it {what}", what="starts")
        [line] = self.lines()
        self.assertEqual({"level", "ts", "caller", "msg", "what"}, set(line))
        self.assertEqual("it starts", line["msg"])

    def test_flushed(self) -> None:
        """Each line leaves at once, since the next one may be the last."""
        flushed: list[str] = []
        self.out.flush = lambda: flushed.append(self.out.getvalue())  # type: ignore[method-assign]
        self.logger().info("one")
        self.assertEqual([self.out.getvalue()], flushed)
