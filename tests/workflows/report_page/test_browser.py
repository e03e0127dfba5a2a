"""The page in a real browser, from disk: no errors, no requests, no script, and it fits a phone."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from atlaseg.workflows.report import Report

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Visit:
    """What a browser saw of a page."""

    console: list[str]
    requests: list[str]
    dom: str


class Browser:
    """Headless Chromium with a profile of its own and no way to the network."""

    def __init__(self, program: str, folder: Path) -> None:
        self.program, self.folder = program, folder

    def visit(self, page: Path, *flags: str) -> Visit:
        log = self.folder / "network.json"
        words = [
            *(
                self.program,
                "--headless",
                "--disable-gpu",
                "--no-first-run",
                "--disable-background-networking",
            ),
            *("--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND"),
            *(
                f"--user-data-dir={self.folder / 'profile'}",
                "--enable-logging=stderr",
                f"--log-net-log={log}",
            ),
            # the sandbox does not start as root, as in a container
            *(["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []),
            *(*flags, "--dump-dom", page.as_uri()),
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=True)
        console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
        return Visit(console, _requests(log), done.stdout)


def _requests(log: Path) -> list[str]:
    """Addresses that the page asked for; the browser's own requests have no origin."""
    content = json.loads(log.read_text(encoding="utf-8"))
    kind = content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    jobs: list[dict[str, Any]] = [e.get("params", {}) for e in content["events"] if e["type"] == kind]
    return [str(job["url"]) for job in jobs if job.get("initiator", "not an origin") != "not an origin"]


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    found = next((program for name in NAMES if (program := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no headless browser: none of {', '.join(NAMES)} is installed (Debian: chromium)")
    return Browser(found, tmp_path)


@pytest.fixture
def without_policy(tmp_path: Path):
    """A copy of a page without its content security policy, which would hide what it forbids."""

    def strip(page: Path) -> Path:
        text, count = re.subn(
            r"<meta http-equiv=.Content-Security-Policy.[^>]*>", "", page.read_text(encoding="utf-8")
        )
        assert count == 1
        bare = tmp_path / "bare.html"
        bare.write_text(text, encoding="utf-8")
        return bare

    return strip


def test_the_browser_tells_errors_and_requests(browser, tmp_path):
    page = tmp_path / "bad.html"
    page.write_text('<img src="http://example.invalid/x.png"><script>console.error("seen")</script>')
    visit = browser.visit(page)
    assert "seen" in visit.console[0]
    assert visit.requests == ["http://example.invalid/x.png"]


@pytest.mark.thorough
def test_no_errors_and_no_requests(browser, made_benchmark, without_policy, tmp_path):
    page = tmp_path / "report.html"
    assert Report(made_benchmark.out, page).run() == 0
    visit = browser.visit(page)
    assert visit.console == []
    assert visit.requests == []
    assert visit.dom.count("<svg") == page.read_text(encoding="utf-8").count("<svg") > 20
    bare = browser.visit(without_policy(page))
    assert bare.console == []
    assert bare.requests == []


@pytest.mark.thorough
def test_names_run_no_script(browser, hostile_benchmark, without_policy, tmp_path):
    page = tmp_path / "report.html"
    assert Report(hostile_benchmark.out, page).run() == 0
    visit = browser.visit(without_policy(page))
    assert visit.console == []
    assert visit.requests == []
    assert "<script" not in visit.dom
    assert "<img" not in visit.dom
    assert html.escape("<script>alert(4)</script>") in visit.dom


@pytest.mark.thorough
@pytest.mark.parametrize("width", [420, 1280])
def test_nothing_is_wider_than_the_window(browser, made_benchmark, tmp_path, width):
    page = tmp_path / "report.html"
    Report(made_benchmark.out, page).run()
    # windows of a headless browser have a least width, frames have none
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="report.html" style="width:{width}px;height:900px;border:0"></iframe><script>'
        "const frame = document.querySelector('iframe'); frame.onload = () => {"
        "const root = frame.contentDocument.documentElement;"
        "document.title = `${root.scrollWidth} of ${root.clientWidth}` };</script>"
    )
    visit = browser.visit(frame, "--allow-file-access-from-files", "--hide-scrollbars")
    assert f"<title>{width} of {width}</title>" in visit.dom
