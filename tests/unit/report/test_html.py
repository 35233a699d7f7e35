"""Parts of the page."""

from __future__ import annotations

from base64 import b64decode

from matplotlib.figure import Figure

from mae_et.report.html import Cell, Section, Table, Value, breakable, embed, render
from tests.support.page import Page


def test_names_are_escaped_and_break_behind_their_words() -> None:
    broken = breakable("<b>_c/d.e=f 0.5-1 2026-11-28_x")
    assert broken == "&lt;b&gt;_<wbr>c/<wbr>d.<wbr>e=<wbr>f 0.5-1 2026-11-28_<wbr>x"


def test_a_chart_has_the_colour_of_the_text_of_a_dark_page() -> None:
    figure = Figure()
    figure.subplots().plot([0, 1], color="#0072B2")
    picture = embed(figure, "a line")
    svg = b64decode(picture.source.partition("base64,")[2]).decode()
    assert "#000000" not in svg
    assert "stroke: currentColor" in svg
    assert "stroke: #0072b2" in svg
    assert "prefers-color-scheme: dark" in svg
    assert "#ffffff" not in svg  # transparent
    assert picture.width == 614  # 6.4 inches


def test_numbers_stand_below_each_other() -> None:
    """What stands behind them has the width of the longest in the column."""
    rows: list[list[Cell]] = [
        ["a", [Value("1.0", " (1)")]],
        ["b", [Value("20.0", " ± 0.5 (3)"), Value("–")]],
    ]
    table = Table(["name", "score"], rows)
    assert (table.numbers, table.spread(-1)) == ({-1}, 10)
    text = render("title", [Section("heading", [table])])
    assert text.count("min-width: 9.0ch") == 3
    page = Page(text)
    assert page.unaligned == []
    assert [row[0] for row in page.rows] == ["name", "a", "b"]
