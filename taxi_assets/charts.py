"""Pictures of the trips, for the UI and for the demo.

Nothing here asks a database: what is drawn is handed in.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_assets.trips import TripFile

if TYPE_CHECKING:
    import pandas as pd

# As the cars are painted, dark enough to be read on white.
PAINT: Mapping[str, str] = {"yellow": "#f2b600", "green": "#4f9d3a"}


def trips_per_day_chart(trip_file: TripFile, trips: Sequence[tuple[date, int]]) -> str:
    """The month's trips for each day, as an image in Markdown.

    Written as SVG by hand: each run draws one, and starting matplotlib takes as long as loading a small month.
    """
    width, height, left, top, bar = 640, 170, 64, 26, 14
    most = max((count for _, count in trips), default=0) or 1
    base, step = height - 18, (width - left - 8) / 31
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" font-family="sans-serif" '
        f'font-size="11" fill="#555">',
        f'<text x="{left}" y="14" font-size="13" fill="#222">{trip_file.color.name.capitalize()} taxi trips per day, '
        f"{trip_file.month}</text>",
        *(
            f'<path d="M{left} {y:.1f}H{width - 8}" stroke="#ddd"/>'
            f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{count:,}</text>'
            for count, y in ((0, base), (most, top))
        ),
    ]
    for day, count in trips:
        x, tall = left + (day.day - 0.5) * step, (base - top) * count / most
        parts.append(
            f'<rect x="{x - bar / 2:.1f}" y="{base - tall:.1f}" width="{bar}" height="{tall:.1f}" '
            f'fill="{_paint(trip_file.color.name)}"><title>{day}: {count:,}</title></rect>'
        )
        if day.day == 1 or day.day % 5 == 0:
            parts.append(f'<text x="{x:.1f}" y="{height - 4}" text-anchor="middle">{day.day}</text>')
    image = base64.b64encode("".join([*parts, "</svg>"]).encode()).decode()
    return f"![trips per day](data:image/svg+xml;base64,{image})"


def write_trips_chart(trips: pd.DataFrame, path: Path) -> None:
    """Draw the trips per day of all colors into one picture.

    Args:
        trips: one row a day, one column a color, numbers of trips.
        path: the PNG to write.
    """
    import pandas as pd
    from matplotlib.dates import ConciseDateFormatter, date2num
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    width, height = 10, 4.5
    figure = Figure(figsize=(width, height))  # not by pyplot, which would keep it and look for a screen
    # Margins in inches: having them computed takes as long as the drawing itself.
    axes = figure.add_axes((0.8 / width, 0.35 / height, 1 - 1.4 / width, 1 - 0.7 / height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    for color in trips.columns:
        counts = trips[color].dropna()
        axes.plot(counts.index, counts, color=_paint(color), linewidth=2)
        axes.annotate(
            f"  {color}", (counts.index[-1], counts.iloc[-1]), va="center", color=_paint(color), weight="bold"
        )
    for saturday in trips.index[pd.DatetimeIndex(trips.index).weekday == 5]:
        axes.axvspan(date2num(saturday) - 0.5, date2num(saturday) + 1.5, color="#f3f3f3", zorder=0)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator(), show_offset=False))
    axes.margins(x=0.01)
    axes.set_ylim(bottom=0)
    axes.set_title(f"Taxi trips per day, {trips.index[0]:%B %Y} to {trips.index[-1]:%B %Y}, weekends grey")
    figure.savefig(path, dpi=110)


def _paint(color: str) -> str:
    return PAINT.get(color, "#555555")
