"""
logs: a member's log lines as etcd writes them, JSON or text, from `--log-level` up.

Twisted's events in, bytes out; ``tap.py`` decides whether they are used at all.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TextIO

from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LogEvent,
    LogLevel,
    LogLevelFilterPredicate,
    eventAsText,
    formatEvent,
    formatEventAsClassicLogText,
)
from zope.interface import implementer

_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
    "dpanic": LogLevel.critical,
    "panic": LogLevel.critical,
    "fatal": LogLevel.critical,
}
_SAID = {"critical": "fatal"}  # the member stops
_FAILED = {"critical": "error"}  # Twisted calls every failure critical, but the member lives on
_CHATTY = "twisted.web.client"  # it tells of each connection that it makes and ends
_NOT_FIELDS = {"format", "isError", "system", "time", "why"}  # what `twisted.python.log` adds to every event


@implementer(ILogObserver)
class _Lines:
    def __init__(self, out: TextIO, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json

    def __call__(self, event: LogEvent) -> None:
        line = as_json_line(event) if self._as_json else formatEventAsClassicLogText(event)
        if line:
            self._out.write(line)
            self._out.flush()


def as_json_line(event: LogEvent) -> str:
    """One event as etcd's logger would write it: level, ts, caller and msg, then the event's own fields."""
    level = event.get("log_level", LogLevel.info).name
    caller = event.get("log_namespace", "")
    when = datetime.fromtimestamp(event["log_time"], UTC)
    if "log_failure" in event:
        message = eventAsText(event, includeTimestamp=False, includeSystem=False)  # with its traceback
        level = _FAILED.get(level, level)
    else:
        message = formatEvent(event)
        level = _SAID.get(level, level)
    line = {
        "level": level,
        "ts": when.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "caller": caller,
        "msg": message,
    }
    if caller.startswith("twisted."):
        return json.dumps(line) + "\n"  # its fields, named for no operator, are in the message
    for name, value in event.items():
        if name.startswith("log_") or name in _NOT_FIELDS or name in line:
            continue
        if isinstance(value, str | int | float):
            line[name] = value
    return json.dumps(line) + "\n"


def observer(out: TextIO, level: str, log_format: str) -> ILogObserver:
    """
    An observer for the whole process.

    Args:
        out: Where lines go, each flushed.
        level: One of etcd's names, ``debug`` to ``fatal``.
        log_format: ``json`` or ``console``.
    """
    lines = _Lines(out, log_format == "json")
    shown = LogLevelFilterPredicate(defaultLogLevel=_LEVELS[level])
    if level == "info":
        shown.setLogLevelForNamespace(_CHATTY, LogLevel.warn)
    return FilteringLogObserver(lines, [shown])
