"""The figures, as Markdown for people and as JSON for programs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

from twistedetcd.testing.bench.large import TURN_GOAL_MS, LargeResult
from twistedetcd.testing.bench.measure import CORE_SHARE_MAX, Result, Run
from twistedetcd.testing.bench.rows import Table
from twistedetcd.testing.bench.watching import WatchResult

HEADINGS = (
    "row",
    "work",
    "etcd req/s",
    "ours req/s",
    "ratio",
    "goal",
    "met?",
    "etcd CPU µs",
    "ours CPU µs",
    "generator etcd",
    "generator ours",
)
LARGE_HEADINGS = ("row", "work", "etcd", "ours", "etcd / ours", "longest turn", "goal", "met?")
FAILOVER_HEADINGS = ("row", "work", "etcd", "ours", "etcd / ours", "goal", "met?")
WATCH_HEADINGS = ("row", "work", "etcd", "ours", "times better", "goal", "met?")
NOTES = (
    "Median of all rounds (lowest..highest).  The ratio is ours / etcd of the same round.  CPU µs: CPU time "
    "of the server for each request.  Generator: share of a core that the busiest generator process used; "
    f"that all of them used together.  A row in which one used more than {CORE_SHARE_MAX:.0%} is invalid."
)


def ratios(result: Result) -> list[float]:
    """Ours over etcd's rate, for each round."""
    return [ours.rate / etcd.rate for etcd, ours in zip(result.etcd, result.ours, strict=True)]


def met(result: Result) -> str:
    """Whether the row reaches its goal; a row that does not count reaches nothing."""
    if result.problems:
        return "invalid: generator" if _only_generator(result) else "invalid"
    return "yes" if statistics.median(ratios(result)) >= result.row.goal else "no"


def _only_generator(result: Result) -> bool:
    return all(problem.endswith(": generator") for problem in result.problems)


def tables(results: Sequence[Result]) -> str:
    """All tables that have rows, and below each why a row is invalid."""
    parts = []
    for table in Table:
        own = [result for result in results if result.row.table is table]
        if own:
            lines = [f"## {table.value}", "", *_markdown([HEADINGS, *map(_cells, own)]), ""]
            for result in own:
                lines += [f"- {result.row.name} is invalid: {problem}" for problem in result.problems]
            parts.append("\n".join(lines).rstrip())
    return "\n\n".join([*parts, NOTES])


def large_table(results: Sequence[LargeResult]) -> str:
    """The table about a large store, and below it what each work took."""
    if not results:
        return ""
    lines = [
        "## A store of a million keys",
        "",
        *_markdown([LARGE_HEADINGS, *map(_large_cells, results)]),
        "",
    ]
    lines += [f"- {result.row.name}: {'; '.join(result.notes)}" for result in results if result.notes]
    return "\n".join(lines).rstrip()


def failover_table(results: Sequence[LargeResult]) -> str:
    """The table about the loss of a leader."""
    if not results:
        return ""
    cells = [_failover_cells(result) for result in results]
    return "\n".join(["## The loss of a leader", "", *_markdown([FAILOVER_HEADINGS, *cells])])


def watch_table(results: Sequence[WatchResult]) -> str:
    """The table about watches."""
    if not results:
        return ""
    lines = ["## Watches", "", *_markdown([WATCH_HEADINGS, *map(_watch_cells, results)])]
    for result in results:
        lines += [f"- {result.row.name} is invalid: {problem}" for problem in result.problems]
    return "\n".join(lines)


def _watch_cells(result: WatchResult) -> tuple[str, ...]:
    show = "{:,.0f}".format if result.row.unit == "bytes" else "{:,.2f}".format
    met = result.met
    return (
        result.row.name,
        f"{result.row.work}, {result.row.unit}",
        _spread(result.etcd, show),
        _spread(result.ours, show),
        _spread(result.ratios, "{:.2f}".format),
        "" if result.row.goal is None else f"{result.row.goal:.1f}",
        "" if met is None else "invalid" if result.problems else "yes" if met else "no",
    )


def _large_cells(result: LargeResult) -> tuple[str, ...]:
    turn, goal = result.turn_ms, result.row.goal
    return (
        result.row.name,
        f"{result.row.work}, {result.row.unit}",
        _spread(result.etcd, "{:,.1f}".format),
        _spread(result.ours, "{:,.1f}".format),
        f"{result.ratio:.2f}",
        "" if turn is None else f"{turn:.0f} ms",
        f"{goal:.1f}" if goal is not None else f"{TURN_GOAL_MS:.0f} ms",
        "yes" if result.met else "no",
    )


def _failover_cells(result: LargeResult) -> tuple[str, ...]:
    return (
        result.row.name,
        f"{result.row.work}, {result.row.unit}; median of {len(result.ours)}",
        _spread(result.etcd, "{:,.0f}".format),
        _spread(result.ours, "{:,.0f}".format),
        f"{result.ratio:.2f}",
        f"{result.row.goal:.2f}",
        "yes" if result.met else "no",
    )


def _cells(result: Result) -> tuple[str, ...]:
    etcd, ours = result.etcd, result.ours
    return (
        result.row.name,
        result.row.work,
        _spread([run.rate for run in etcd], rate),
        _spread([run.rate for run in ours], rate),
        _spread(ratios(result), "{:.2f}".format),
        f"{result.row.goal:.1f}",
        met(result),
        _spread([run.server_cpu_microseconds for run in etcd], "{:.1f}".format),
        _spread([run.server_cpu_microseconds for run in ours], "{:.1f}".format),
        _generator(etcd),
        _generator(ours),
    )


def _generator(runs: Sequence[Run]) -> str:
    busiest = max(run.generator_core_share for run in runs)
    together = statistics.median(run.generator_cpu_seconds / run.seconds for run in runs)
    return f"{busiest:.0%}; {together:.0%}"


def rate(value: float) -> str:
    """Requests per second with three digits that mean something."""
    if value < 1000:
        return f"{value:.0f}"
    return f"{value / 1000:.2f} k" if value < 10_000 else f"{value / 1000:.1f} k"


def _spread(values: Sequence[float], show: Callable[[float], str]) -> str:
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))}..{show(max(values))})"


def _markdown(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as lines of one table, the first being its head; columns are aligned for the terminal."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in rows
    ]
    return [lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]]


def machine_lines(facts: dict[str, Any]) -> str:
    """The machine's facts, one a line."""
    return "\n".join(f"- {name.replace('_', ' ')}: {value}" for name, value in facts.items())


def as_json(
    facts: dict[str, Any],
    settings: dict[str, Any],
    results: Sequence[Result],
    large: Sequence[LargeResult] = (),
    watching: Sequence[WatchResult] = (),
    failover: Sequence[LargeResult] = (),
) -> dict[str, Any]:
    """Every figure of every run, for a program to read."""
    return {
        "machine": facts,
        "settings": settings,
        "rows": [
            {
                "name": result.row.name,
                "table": result.row.table.name.lower(),
                "work": result.row.work,
                "connections": result.row.connections,
                "streams": result.row.streams,
                "goal": result.row.goal,
                "met": met(result),
                "problems": result.problems,
                "ratio": statistics.median(ratios(result)),
                "ratios": ratios(result),
                "etcd": [_run(run) for run in result.etcd],
                "ours": [_run(run) for run in result.ours],
            }
            for result in results
        ],
        "large": [_large(result) for result in large],
        "failover": [_large(result) for result in failover],
        "watching": [
            {
                "name": result.row.name,
                "work": result.row.work,
                "unit": result.row.unit,
                "goal": result.row.goal,
                "met": result.met,
                "problems": result.problems,
                "ratios": result.ratios,
                "etcd": result.etcd,
                "ours": result.ours,
            }
            for result in watching
        ],
    }


def _large(result: LargeResult) -> dict[str, Any]:
    return {
        "name": result.row.name,
        "work": result.row.work,
        "unit": result.row.unit,
        "goal": result.row.goal,
        "met": result.met,
        "ratio": result.ratio,
        "etcd": result.etcd,
        "ours": result.ours,
        "longest_turn_ms": result.turn_ms,
        "notes": result.notes,
    }


def _run(run: Run) -> dict[str, Any]:
    return {
        "requests": run.requests,
        "seconds": run.seconds,
        "requests_per_second": run.rate,
        "server_cpu_seconds": run.server_cpu_seconds,
        "server_cpu_microseconds_per_request": run.server_cpu_microseconds,
        "generator_core_share": run.generator_core_share,
        "generator_cpu_seconds": run.generator_cpu_seconds,
        "problems": list(run.problems),
    }
