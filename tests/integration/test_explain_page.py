"""The page of `pyiwarp explain` in a browser: clicks, keys, and no error on the console."""

from __future__ import annotations

import json
import os
import re
import shutil
from html import unescape
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pyiwarp.cli import app
from tests.children import finished

CHROMIUM = shutil.which("chromium")
SIW = Path(__file__).parents[2] / "interop" / "captures" / "error-we-read-bounds-siw-pyiwarp-connects.pcapng"

pytestmark = [
    pytest.mark.tools,
    pytest.mark.skipif(
        CHROMIUM is None and not os.environ.get("CI"),
        reason="chromium (Debian's package of that name) is not installed",
    ),
]

LISTENS = """<script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
console.error = console.warn = (...words) => errors.push(words.join(" "));
</script></head>"""

ACTS = """<script>
const seen = [];
const press = key => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
const note = () => seen.push([
  [...document.querySelectorAll(".message")].findIndex(each => each.getAttribute("aria-current") === "true"),
  document.querySelectorAll("[aria-current=true]").length,
  [...document.querySelectorAll(".octets button[aria-pressed=true]")].map(each => each.title).join(),
  (document.querySelector("#field h2") || {}).textContent || "",
]);
note();
for (const key of ["ArrowDown", "ArrowRight", "ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowUp", "x"]) {
  press(key);
  note();
}
const rows = document.querySelectorAll(".message");
rows[2].click(); note();
document.querySelectorAll(".octets button")[2].click(); note();
rows[rows.length - 1].click(); press("ArrowDown"); press("ArrowRight"); note();
const parts = [...document.querySelectorAll(".message")].map(row => {
  row.click();
  const count = each => document.querySelectorAll("#detail " + each).length;
  return [".end", ".bar", ".figure span", "details"].map(count);
});
const wide = document.documentElement.scrollWidth > innerWidth;
document.title = JSON.stringify({ seen, errors, wide, parts, count: rows.length });
</script></body>"""


@pytest.mark.parametrize("width", [1280, 800, 500])
def test_a_page_is_gone_through_with_keys_and_clicks(tmp_path: Path, width: int) -> None:
    path = tmp_path / "page.html"
    assert CliRunner().invoke(app, ["explain", str(SIW), "--html", str(path)]).exit_code == 0
    page = path.read_text()
    path.write_text(page.replace("</head>", LISTENS, 1).replace("</body>", ACTS, 1))
    quiet = ["--headless", "--disable-gpu", "--no-sandbox", "--disable-background-networking", "--no-first-run"]
    command = [CHROMIUM or "chromium", *quiet, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"]
    done = finished([*command, "--dump-dom", path.as_uri()])
    assert done.returncode == 0, done.stderr
    (title,) = re.findall(r"<title>(.*?)</title>", done.stdout)
    told = json.loads(unescape(title))
    assert told["errors"] == []
    assert told["wide"] is False, "nothing is to be scrolled sideways"
    assert all(ends == 2 for ends, *_ in told["parts"])
    assert sum(boxes > 1 for _, _, boxes, _ in told["parts"]) >= 2
    assert any(bars for _, bars, *_ in told["parts"])
    assert sum(crcs for *_, crcs in told["parts"]) >= 3
    key, flags = "Key", "M, C, R, S"
    assert told["seen"] == [
        [0, 1, key, key],
        [1, 1, key, key],
        [1, 1, flags, flags],
        [1, 1, key, key],
        [1, 1, key, key],
        [0, 1, key, key],
        [0, 1, key, key],
        [0, 1, key, key],
        [2, 1, "ULPDU_Length", "ULPDU_Length"],
        [2, 1, "RV, Opcode", "RV, Opcode"],
        [told["count"] - 1, 1, "", ""],
    ]
