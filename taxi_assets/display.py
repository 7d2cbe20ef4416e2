"""What the commands show in a terminal: the progress of a backfill, its outcomes, and the state of all months.

Nothing here loads or asks: what is shown is handed in.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.table import Table
from rich.text import Text

from taxi_assets import backfill
from taxi_assets.status import PartitionStatus, State, spans
from taxi_assets.trips import COLORS

if TYPE_CHECKING:
    from taxi_assets.backup import Backup
    from taxi_assets.backup import Progress as Told

MARKS: Mapping[State, tuple[str, str]] = {
    "loaded": ("■", "green"), "stale": ("◪", "yellow"), "running": ("▶", "blue"), "failed": ("✗", "red"),
    "missing": ("·", "bright_black"),
}  # fmt: skip


def watch(console: Console, running: backfill.Backfill, partitions: int) -> list[backfill.Outcome]:
    """Run a backfill to its end with a line for each partition that is done and the progress of those at work.

    Ctrl-C lets those at work end and begins no more; a second one has them roll back.
    """
    overall = Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("to go"), TimeRemainingColumn(), TextColumn("[red]{task.fields[failed]}"), console=console,
    )  # fmt: skip
    total = overall.add_task("partitions", total=partitions, failed="")
    at_work = Progress(TextColumn("  {task.description}"), console=console)
    tasks: dict[str, TaskID] = {}
    outcomes: list[backfill.Outcome] = []
    with Live(Group(at_work, overall), console=console, transient=True), _stopped_by_signals(running, console):
        for told in running:
            if isinstance(told, backfill.Progress):
                if told.key not in tasks:
                    tasks[told.key] = at_work.add_task("", total=None)
                at_work.update(tasks[told.key], description=f"{_name(told.key)}  {_how_far(told)}")
                continue
            if told.key in tasks:
                at_work.remove_task(tasks.pop(told.key))
            if told.state == "busy":
                continue
            outcomes.append(told)
            failed = sum(outcome.state == "failed" for outcome in outcomes)
            overall.update(total, advance=1, failed=f"{failed} failed" if failed else "")
            console.print(_line(told), soft_wrap=True, highlight=False)
    return outcomes


@contextmanager
def _stopped_by_signals(running: backfill.Backfill, console: Console) -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        running.stop()
        console.print(
            "Stopping: what has begun is brought to its end. Ctrl-C again to undo it."
            if running.stops == 1
            else "Stopping at once: what has begun is rolled back."
        )

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _name(key: str) -> str:
    color, _, month = key.partition("|")
    return f"{color:<{max(map(len, COLORS))}} {month}"


def _how_far(told: backfill.Progress) -> str:
    words = [f"{told.step:<5}"]
    if told.rows is not None:
        words.append(f"{told.rows:,} rows")
    if told.bytes and told.total_bytes:
        words.append(f"{told.bytes / told.total_bytes:.0%}")
    if told.bytes and told.seconds > 0:
        words.append(f"{told.bytes / 1e6 / told.seconds:.0f} MB/s")
    return "  ".join(words)


def _line(outcome: backfill.Outcome) -> Text:
    line = Text(_name(outcome.key))
    if outcome.state == "failed":
        return line.append(f"  failed  {outcome.cause}", style="red")
    if outcome.state == "there already":
        return line.append("  there already, loaded by another backfill")
    return line.append(f"  {outcome.rows:>9,} rows, {outcome.inserted:>9,} inserted  {outcome.seconds:5.1f} s")


def show_plan(console: Console, found: Sequence[PartitionStatus], to_load: Sequence[PartitionStatus]) -> None:
    """What a backfill is about to load, and what it leaves out."""
    for color in COLORS:
        months = [status.trip_file.month for status in to_load if status.trip_file.color.name == color]
        if months:
            console.print(f"{color}: {spans(months)}", soft_wrap=True, highlight=False)
    count = Counter(status.state for status in to_load)
    words = ", ".join(f"{number} {state}" for state, number in count.items())
    console.print(f"{len(to_load)} of {len(found)} partitions to load{words and f' ({words})'}", highlight=False)
    running = [status for status in found if status.state == "running" and status not in to_load]
    if running:
        console.print(f"{len(running)} running elsewhere: left alone")


def show_outcomes(console: Console, outcomes: Sequence[backfill.Outcome], left: int, seconds: float) -> None:
    """The sum of a backfill, and the causes of what failed."""
    count = Counter(outcome.state for outcome in outcomes)
    inserted = sum(outcome.inserted for outcome in outcomes)
    parts = [f"{count['loaded']} loaded ({inserted:,} rows inserted)"]
    parts += [f"{count[state]} {state}" for state in ("there already", "failed") if count[state]]
    parts += [f"{left} not begun"] if left else []
    console.print(f"{', '.join(parts)} in {seconds:.0f} s", highlight=False)
    failures = [outcome for outcome in outcomes if outcome.state == "failed"]
    for outcome in failures if len(outcomes) > 1 else []:
        console.print(_line(outcome), soft_wrap=True, highlight=False)
    if failures or left:
        console.print("To go on, run the same command again: it takes what is missing.", highlight=False)


def show_statuses(console: Console, statuses: Sequence[PartitionStatus], title: str) -> None:
    """A calendar of all months, a legend with numbers, and what failed with its cause."""
    console.print(title, soft_wrap=True, highlight=False)
    console.print(_calendar(statuses))
    count = Counter(status.state for status in statuses)
    legend = Text("  ")
    for state, (mark, style) in MARKS.items():
        legend.append(mark, style=style).append(f" {count[state]} {state}   ")
    console.print(legend)
    for state in ("missing", "stale", "running"):
        for color in COLORS:
            months = [s.trip_file.month for s in statuses if s.state == state and s.trip_file.color.name == color]
            if months:
                console.print(f"{state} {color}: {spans(months)}", soft_wrap=True, highlight=False)
    for status in statuses:
        if status.state == "failed":
            name = _name(status.trip_file.partition_key)
            console.print(Text(f"failed {name}  ").append(status.cause or "", style="red"), soft_wrap=True)


def _calendar(statuses: Sequence[PartitionStatus]) -> Table:
    table = Table("", "", *"JFMAMJJASOND", box=None, padding=(0, 1, 0, 0))
    table.add_column("rows", justify="right")
    for color in COLORS:
        of_color = [status for status in statuses if status.trip_file.color.name == color]
        years = sorted({status.trip_file.month[:4] for status in of_color})
        for year in years:
            of_year = {s.trip_file.month[5:]: s for s in of_color if s.trip_file.month.startswith(year)}
            marks = [MARKS[of_year[f"{n:02}"].state] if f"{n:02}" in of_year else (" ", "") for n in range(1, 13)]
            rows = sum(status.rows or 0 for status in of_year.values())
            table.add_row(
                color if year == years[0] else "", year, *(Text(mark, style=style) for mark, style in marks),
                f"{rows:,}" if rows else "",
            )  # fmt: skip
    return table


def show_months(console: Console, statuses: Sequence[PartitionStatus]) -> None:
    """A line for each partition that is not missing."""
    table = Table("partition", "state", "")
    table.add_column("rows", justify="right")
    for status in statuses:
        there = [word for word in ("fetched", "staged") if getattr(status, word)]
        if status.state != "missing" or there:
            mark, style = MARKS[status.state]
            table.add_row(
                status.trip_file.partition_key, Text(f"{mark} {status.state}", style=style), " ".join(there),
                "" if status.rows is None else f"{status.rows:,}",
            )  # fmt: skip
    console.print(table)


@contextmanager
def progress_bar(console: Console) -> Iterator[Told]:
    """A bar, in a terminal, that is told what is done, and how many bytes of it; it is gone afterwards."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=None)

        def told(what: str, done: int, total: int) -> None:
            if bar.tasks[0].description != what:
                bar.reset(task, description=what)
            bar.update(task, completed=done, total=total)

        yield told


def show_backup(console: Console, begin: str, backup: Backup) -> None:
    """What is in a backup."""
    size = (backup.trips.bytes + backup.history.bytes) / 1e6
    console.print(
        f"{begin}{sum(backup.trips.rows.values()):,} trips of {len(backup.trips.rows)} files and the history of "
        f"{backup.history.rows['runs']:,} runs, {size:,.1f} MB",
        soft_wrap=True, highlight=False, markup=False,
    )  # fmt: skip
