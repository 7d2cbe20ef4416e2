"""The picture of a month that each run draws."""

import base64
from datetime import date
from xml.etree import ElementTree

import pytest

from taxi_assets.charts import trips_per_day_chart
from taxi_assets.trips import TripFile

GREEN = TripFile.of("green", "2020-02")
SVG = "{http://www.w3.org/2000/svg}"


def draw(trips):
    text = trips_per_day_chart(GREEN, trips).removesuffix(")").partition("base64,")[2]
    return ElementTree.fromstring(base64.b64decode(text))


def test_a_bar_for_each_day():
    trips = [(date(2020, 2, day), day * 10) for day in range(1, 30)]
    image = draw(trips)
    bars = image.findall(f"{SVG}rect")
    assert [bar.findtext(f"{SVG}title") for bar in bars] == [f"{day}: {count:,}" for day, count in trips]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[-1] / heights[0] == pytest.approx(29, rel=0.05)
    right = max(float(bar.get("x")) + float(bar.get("width")) for bar in bars)
    assert right <= float(image.get("width"))
    texts = [text.text for text in image.findall(f"{SVG}text")]
    assert "Green taxi trips per day, 2020-02" in texts
    assert "290" in texts


def test_a_month_without_trips():
    assert draw([]).findall(f"{SVG}rect") == []
