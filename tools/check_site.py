"""Opens every page of a folder in a real browser: nothing missing, no errors, no overflow.

    python tools/check_site.py site          # after `make docs`
    python tools/check_site.py otcache-demo

Each page is opened in a frame as wide as a phone and in one as wide as a screen. Reported are pages
that are wider than their frame, files that are asked for and are not there, links of pages to
files or anchors that are not there, and what stands on the browser's console. Needs chromium.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag, urljoin, urlparse

WIDTHS = (390, 1280)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHECKER = "/--checker--.html"
CONSOLE = re.compile(r"CONSOLE[^\"]*\"(.*)\", source: (\S*)")

PAGE = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><pre id="found"></pre>
<script>
const pages = PAGES, widths = WIDTHS, found = [];
function open(page, width) {
  return new Promise(done => {
    const frame = document.createElement("iframe");
    frame.style.cssText = `width:${width}px;height:900px;border:0`;
    frame.onload = () => setTimeout(() => {
      const wide = frame.contentDocument.documentElement.scrollWidth;
      if (wide > width) found.push([page, width, wide]);
      frame.remove();
      done();
    }, 150);
    frame.src = page;
    document.body.append(frame);
  });
}
(async () => {
  for (const page of pages) for (const width of widths) await open(page, width);
  document.getElementById("found").textContent = "FOUND" + JSON.stringify(found) + "END";
})();
</script>"""


class Served(SimpleHTTPRequestHandler):
    """Serves the folder and the checker, and keeps what was asked for and is not there."""

    def __init__(self, *args: Any, pages: list[str], missing: set[str], **kwargs: Any) -> None:
        self._pages, self._missing = pages, missing
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        if self.path != CHECKER:
            super().do_GET()
            return
        text = PAGE.replace("PAGES", json.dumps(self._pages)).replace("WIDTHS", str([*WIDTHS]))
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(text.encode())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self._missing.add(self.path)
        super().send_error(code, message, explain)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing of what went well."""


class Links(HTMLParser):
    """The addresses that a page links to, and the anchors that it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.anchors: set[str] = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.anchors |= {each for each in (given.get("id"), given.get("name")) if each}
        if tag == "a" and given.get("href"):
            self.targets.append(str(given["href"]))


def dead_links(folder: Path, pages: list[str]) -> Iterator[str]:
    """Yield every link within the folder that leads nowhere."""
    parsed = {page: Links((folder / page).read_text(encoding="utf-8")) for page in pages}
    for page, links in parsed.items():
        for target in links.targets:
            if urlparse(target).scheme:
                continue
            path, anchor = urldefrag(urljoin(f"/{page}", target))
            name = unquote(path).lstrip("/")
            name = f"{name}index.html" if name.endswith("/") or not name else name
            if not (folder / name).exists():
                yield f"{page}: {target} is not there"
            elif name in parsed and unquote(anchor) not in parsed[name].anchors:
                yield f"{page}: {target} has no such anchor"


def browsed(folder: Path, pages: list[str]) -> Iterator[str]:
    """Yield what a browser finds wrong with the pages."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise SystemExit(f"No browser: install one of {', '.join(BROWSERS)}")
    missing: set[str] = set()
    handler = partial(Served, directory=str(folder), pages=pages, missing=missing)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        budget = f"--virtual-time-budget={1000 * len(pages) * len(WIDTHS)}"
        address = f"http://127.0.0.1:{server.server_port}{CHECKER}"
        ended = subprocess.run(
            [browser, *options, budget, "--dump-dom", address],
            capture_output=True,
            text=True,
            check=True,
        )
        server.shutdown()
    told = re.search("FOUND(.*)END</pre>", ended.stdout, re.DOTALL)
    if told is None:
        raise SystemExit(f"The browser did not come to an end:\n{ended.stderr}")
    for page, width, wide in json.loads(told[1]):
        yield f"{page}: {wide} pixels wide in {width}"
    yield from (f"{path} is asked for, and is not there" for path in sorted(missing))
    for message, source in CONSOLE.findall(ended.stderr):
        yield f"console of {source}: {message}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder: Path = parser.parse_args().folder
    pages = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.html"))
    wrong = [*dead_links(folder, pages), *browsed(folder, pages)]
    print("\n".join([*wrong, f"{len(pages)} pages, {len(wrong)} faults"]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
