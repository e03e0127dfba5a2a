"""The list of sections: a figure is a function and a line."""

from __future__ import annotations

import re
import sys
from types import ModuleType

from markupsafe import Markup

from atlaseg.workflows.report_page import make_page, read_benchmark
from atlaseg.workflows.report_page import page as page_module
from atlaseg.workflows.report_page.blocks import Figure
from atlaseg.workflows.report_page.sections import SECTIONS, Section


def test_names_and_titles_are_told_apart():
    assert len({section.name for section in SECTIONS}) == len({s.link for s in SECTIONS}) == len(SECTIONS)


def test_a_figure_is_a_function_and_a_line(made_benchmark, monkeypatch):
    module = ModuleType("atlaseg.workflows.report_page.my_figure")
    module.figures = lambda context: [
        Figure([Markup("<svg></svg>")] * len(context.benchmark.cases), "Nothing <b>yet</b>.")
    ]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    mine = Section("mine", "Mine", "{metric} of mine", "my_figure:figures")
    monkeypatch.setattr(page_module, "SECTIONS", (*SECTIONS[:2], mine))
    html = make_page(read_benchmark(made_benchmark.out), worst_cases=0).html
    assert '<a href="#mine">Mine</a>' in html
    section = html.partition('<section id="mine">')[2]
    assert "<h2>Dice of mine</h2>" in section
    assert section.count('<div class="panel"><svg></svg></div>') == 6
    number = int(re.search(r"<b>Figure (\d+)\.</b> Nothing &lt;b&gt;yet", section)[1])
    assert number == html.partition('<section id="mine">')[0].count("<b>Figure ") + 1


def test_a_section_without_blocks_is_left_out(make_benchmark):
    made = make_benchmark(methods=(("majority", "majority", {}, 1.0),), probabilities=False)
    html = make_page(read_benchmark(made.write()), worst_cases=0).html
    assert 'id="curves"' not in html
    assert 'href="#curves"' not in html
    assert 'id="significance"' not in html
    assert 'id="methods"' in html
