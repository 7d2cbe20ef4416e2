"""Pictures of the trips, for the UI and for the demo.

Figures are drawn without pyplot, which would keep each figure and look for a screen.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from taxi_assets.trips import TripFile

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# As the cars are painted, dark enough to be read on white.
PAINT: Mapping[str, str] = {"yellow": "#f2b600", "green": "#4f9d3a"}


def trips_per_day_chart(trip_file: TripFile, trips: Sequence[tuple[date, int]]) -> str:
    """The month's trips for each day, as an image in Markdown."""
    figure, axes = _figure(8, 2.2)
    axes.bar([day.day for day, _ in trips], [count for _, count in trips], color=_paint(trip_file.color.name))
    axes.set_xlim(0.4, 31.6)
    axes.set_title(f"{trip_file.color.name.capitalize()} taxi trips per day, {trip_file.month}")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=80)
    return f"![trips per day](data:image/png;base64,{base64.b64encode(image.getvalue()).decode()})"


def write_trips_chart(trips: pd.DataFrame, path: Path) -> None:
    """Draw the trips per day of all colors into one picture.

    Args:
        trips: one row a day, one column a color, numbers of trips.
        path: the PNG to write.
    """
    import pandas as pd
    from matplotlib.dates import ConciseDateFormatter, date2num

    figure, axes = _figure(10, 4.5)
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


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(width, height))
    # Margins in inches: having them computed takes as long as the drawing itself.
    axes = figure.add_axes((0.8 / width, 0.35 / height, 1 - 1.4 / width, 1 - 0.7 / height))
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    return figure, axes
