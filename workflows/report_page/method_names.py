"""Name of a method on the page: its marker, number and label."""

from __future__ import annotations

from markupsafe import Markup

from atlaseg.workflows.report_page.drawing import Canvas
from atlaseg.workflows.report_page.palette import Style

__all__ = ["marked_name", "marker"]


def marker(style: Style) -> Markup:
    """Marker and number."""
    canvas = Canvas(14, 14, style.label)
    canvas.marker(style, 7, 7, 5)
    return Markup('<span class="key">{}<b>{}</b></span>').format(canvas.markup(), style.number)


def marked_name(style: Style) -> Markup:
    """Marker, number and label; the pointer shows the whole name."""
    return Markup('<span class="method" title="{}">{} {}</span>').format(
        style.name, marker(style), style.label
    )
