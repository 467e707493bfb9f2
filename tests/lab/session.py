"""A notebook as people use it: ``make test-lab``, where Chromium is installed.

``make lab`` starts in a scratch copy, for a user who has never used JupyterLab; Chromium, without a window, is clicked
and typed into as a person would.  Notebook 5 runs from the menu at smoke, once as it is and once with another theme.
Pictures of the screen go to ``DUET_SCREENSHOTS`` if that names a folder.
pytest does not collect this file by itself: it takes minutes.
"""

import base64
import contextlib
import csv
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import requests
import websocket
from tests.waiting import wait_for

from duet import paths

KEY, NOTEBOOK = "ctc_chroma", "5_ctc_chroma.ipynb"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="not installed: Chromium"),
    pytest.mark.skipif(shutil.which("make") is None, reason="not installed: make"),
]
WIDTH, HEIGHT = 1400, 1000  # of the window, in pixels
PROGRESS = re.compile(r"\d+/\d+ in \d+:\d\d, \d+:\d\d left")  # as duet.progress prints it


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return listening.getsockname()[1]


def stop(process):
    """End it with all that it started, kernels and their workers too, which have process groups of their own."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = [*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)]
        for each in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        for each in psutil.wait_procs(family, timeout=15)[1]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
    process.wait()


@pytest.fixture(scope="module", autouse=True)
def ended_by_a_signal():
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))  # what is below is stopped
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def lab(workspace, monkeypatch):
    """The address that ``make lab`` prints; what people change and make lies in ``workspace``."""
    shutil.copytree(paths.NOTEBOOKS, workspace / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(paths.ROOT / "Makefile", workspace)
    home = workspace / "home"
    home.mkdir()
    own = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "IPYTHON", "MPL"))}
    own |= {"HOME": str(home), "BROWSER": "true", "JUPYTER_PORT": str(free_port())}
    own |= {"JUPYTER_TOKEN": secrets.token_hex(16), "PYTHONUNBUFFERED": "1"}
    # The set-up is this environment's own: "old" keeps make from installing another one.
    command = ["make", "-o", ".venv/ready", f"PYTHON={sys.executable}", "lab"]
    log = workspace / "lab.log"
    with open(log, "w") as out:
        process = subprocess.Popen(command, cwd=workspace, env=own, stdout=out, stderr=out, start_new_session=True)
    try:

        def address():
            assert process.poll() is None, log.read_text()
            found = re.search(r"http://127\.0\.0\.1:\d+/lab/tree/notebooks\?token=\S+", log.read_text())
            return found and found[0].replace("...", own["JUPYTER_TOKEN"])

        yield wait_for(address, "JupyterLab's address")
    finally:
        stop(process)


class Browser:
    """One tab of a Chromium without a window, over the DevTools protocol."""

    def __init__(self, port, screenshots):
        (tab,) = [each for each in requests.get(f"http://127.0.0.1:{port}/json").json() if each["type"] == "page"]
        self.socket = websocket.create_connection(tab["webSocketDebuggerUrl"], timeout=300, suppress_origin=True)
        self.screenshots, self.sent, self.taken, self.events = screenshots, 0, 0, []
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.sent += 1
        self.socket.send(json.dumps({"id": self.sent, "method": method, "params": parameters}))
        end = time.monotonic() + 300
        while time.monotonic() < end:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.sent:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.events.append(message)
        pytest.fail(f"waited in vain: {method}")

    def ask(self, expression):
        """The value of a JavaScript expression."""
        done = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def click(self, element, times=1):
        """Click the centre of an element, a JavaScript expression, once it is there."""
        box = wait_for(
            lambda: self.ask(
                f"""(() => {{ const e = {element}; if (!e) return null; e.scrollIntoView({{block: "nearest"}});
                const b = e.getBoundingClientRect(); return b.width ? [b.x + b.width / 2, b.y + b.height / 2] : null
                }})()"""
            ),
            element,
        )
        at = {"x": box[0], "y": box[1]}
        self.call("Input.dispatchMouseEvent", type="mouseMoved", **at)
        for count in range(1, times + 1):
            for what in ("mousePressed", "mouseReleased"):
                self.call("Input.dispatchMouseEvent", type=what, button="left", clickCount=count, **at)

    def control(self, letter):
        """Control and a letter."""
        key = {"modifiers": 2, "key": letter, "code": f"Key{letter.upper()}", "windowsVirtualKeyCode": ord(letter) - 32}
        self.call("Input.dispatchKeyEvent", type="rawKeyDown", **key)
        self.call("Input.dispatchKeyEvent", type="keyUp", **key)

    def menu(self, name, command):
        self.click(named(".lm-MenuBar-item", name))
        self.click(f"document.querySelector('.lm-Menu-item[data-command=\"{command}\"]')")

    def picture(self, name):
        self.taken += 1
        self.call("Page.bringToFront")  # without it a tab that has been idle is sometimes never drawn
        data = self.call("Page.captureScreenshot", format="png")["data"]
        (self.screenshots / f"{self.taken:02}-{name}.png").write_bytes(base64.b64decode(data))

    def complaints(self):
        """What the page has complained of so far: errors on its console and exceptions that nobody caught."""
        found = []
        for event in self.events:
            told = event.get("params", {})
            if event.get("method") == "Runtime.consoleAPICalled" and told["type"] in ("error", "assert"):
                found.append(" ".join(str(a.get("value", a.get("description", ""))) for a in told["args"]))
            elif event.get("method") == "Runtime.exceptionThrown":
                thrown = told["exceptionDetails"]
                found.append(thrown.get("exception", {}).get("description", thrown["text"]))
            elif event.get("method") == "Log.entryAdded" and told["entry"]["level"] == "error":
                found.append(f"{told['entry']['text']} {told['entry'].get('url', '')}")
        return found

    def requested(self):
        """Every address that the page asked for."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


def named(selector, text):
    """JavaScript: the first element of a selector whose text is this."""
    return f"[...document.querySelectorAll({selector!r})].find(e => e.textContent.trim() === {text!r})"


@pytest.fixture
def browser(tmp_path):
    screenshots = Path(os.environ.get("DUET_SCREENSHOTS") or tmp_path / "screenshots")
    screenshots.mkdir(parents=True, exist_ok=True)
    profile = tmp_path / "chromium"
    command = [CHROMIUM, "--headless=new", "--remote-debugging-port=0", f"--user-data-dir={profile}", "--no-first-run"]
    command += [f"--window-size={WIDTH},{HEIGHT}", "--disable-gpu", "--disable-software-rasterizer", "about:blank"]
    if hasattr(os, "getuid") and os.getuid() == 0:
        command.insert(1, "--no-sandbox")  # it does not start as root with one
    with open(tmp_path / "chromium.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        said = profile / "DevToolsActivePort"
        wait_for(lambda: said.exists() and said.read_text().count("\n"), "Chromium")
        tab = Browser(int(said.read_text().split()[0]), screenshots)
        yield tab
        tab.socket.close()
    finally:
        stop(process)
        print("pictures of the screen:", screenshots)


CELLS = "[...document.querySelectorAll('.jp-CodeCell')]"
WAITING = f"{CELLS}.filter(cell => cell.querySelector('.jp-InputPrompt').textContent.includes('*'))"
IDLE = f"!{WAITING}.length && document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'"


def replace(browser, old, new):
    """Type a parameter anew: the text of its cell with ``new`` for ``old``."""
    cell = f"{CELLS}.find(cell => cell.querySelector('.cm-content').textContent.includes({old!r}))"
    text = browser.ask(f"{cell}.querySelector('.cm-content').innerText")
    browser.click(f"{cell}.querySelector('.cm-line')")
    browser.control("a")
    browser.call("Input.insertText", text=text.replace(old, new))
    shown = browser.ask(f"{cell.replace(old, new)}.querySelector('.cm-content').innerText")
    assert shown == text.replace(old, new)


def run_all(browser, name):
    """Run > Run All Cells; the lines of progress that were on the screen before the last cell was done."""
    browser.menu("Run", "runmenu:run-all")
    wait_for(lambda: not browser.ask(IDLE), "a running cell")
    began, seen = time.monotonic(), []
    while not browser.ask(IDLE):
        assert time.monotonic() < began + 3600, "the notebook does not come to an end"
        # A person scrolls to the cell that runs, and what it has printed last is then on the screen.
        text = browser.ask(
            f"""(() => {{ const cell = {WAITING}[0];
            if (!cell) return ''; cell.scrollIntoView({{block: 'end'}});
            const shown = [...cell.querySelectorAll('.jp-OutputArea-output')].filter(o => o.checkVisibility());
            return shown.map(o => o.innerText).join('\\n') }})()"""
        )
        found = [line for line in text.splitlines() if PROGRESS.search(line)]
        if found and not seen:
            browser.picture(f"{name}-running")
        seen += [line for line in found if line not in seen]
        time.sleep(0.5)
    print(f"{name}: all cells in {time.monotonic() - began:.0f} s")
    return seen


def pictures(browser):
    """The addresses of all pictures in outputs, cell by cell; each must have been drawn, and inside its cell."""
    shown = browser.ask(
        f"""{CELLS}.map(cell => [...cell.querySelectorAll('.jp-OutputArea-output img')].map(image => {{
            image.scrollIntoView();
            return {{src: image.src, drawn: image.complete && image.naturalWidth > 0,
                     over: image.getBoundingClientRect().right - cell.getBoundingClientRect().right}} }}))"""
    )
    for number, cell in enumerate(shown):
        for image in cell:
            assert image["drawn"] and image["over"] <= 0, (number, image["drawn"], image["over"])
    return [[image["src"] for image in cell] for cell in shown]


def wide(browser):
    """Outputs that have to be scrolled sideways: the number of the code cell, pixels needed, pixels there."""
    return browser.ask(
        f"""{CELLS}.flatMap((cell, number) => [...cell.querySelectorAll('.jp-OutputArea-output')]
            .map(o => [number, o.scrollWidth, o.clientWidth]).filter(([, needs, has]) => needs > has))"""
    )


def scroll_through(browser, name):
    panel = "document.querySelector('.jp-WindowedPanel-outer')"
    browser.ask(f"{panel}.scrollTop = 0")
    while True:
        time.sleep(0.5)
        browser.picture(name)
        before = browser.ask(f"{panel}.scrollTop")
        if browser.ask(f"{panel}.scrollTop += {panel}.clientHeight - 60, {panel}.scrollTop") <= before:
            return


def saved(browser, file):
    """The notebook as Save writes it."""
    before = file.stat().st_mtime_ns
    browser.menu("File", "docmanager:save")
    wait_for(lambda: file.stat().st_mtime_ns != before, "a saved notebook")
    time.sleep(1)
    return nbformat.read(file, as_version=4)


def check_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert None not in [cell.execution_count for cell in code]
    outputs = [output for cell in code for output in cell.outputs]
    assert [output.evalue for output in outputs if output.output_type == "error"] == []
    # Matplotlib tells a new user of it, once.
    warned = [output.text for output in outputs if output.get("name") == "stderr" and "font cache" not in output.text]
    assert warned == []
    return [sum("image/png" in output.get("data", {}) for output in cell.outputs) for cell in code]


def test_a_notebook_run_from_the_menu_and_again_with_another_theme(lab, browser, workspace):
    browser.call("Page.navigate", url=lab)
    decline = named(".jp-toast-button", "No")  # no news, thank you
    browser.click(decline)
    time.sleep(2)
    if browser.ask(f"!!{decline}"):  # it was still sliding in
        browser.click(decline)
    browser.click(named(".jp-DirListing-itemText", NOTEBOOK), times=2)
    file = workspace / "notebooks" / NOTEBOOK
    count = sum(cell.cell_type == "code" for cell in nbformat.read(file, as_version=4).cells)
    drawn = f"{CELLS}.filter(cell => cell.querySelector('.cm-content')).length === {count}"
    wait_for(lambda: browser.ask(f"{drawn} && {IDLE}"), "the notebook and its kernel")
    browser.picture("opened")

    # Once through, with progress.
    seen = run_all(browser, "first")
    print("progress:", *seen, sep="\n  ")
    assert any("epoch 1" in line for line in seen), "no epoch was announced while the notebook ran"
    first = pictures(browser)
    scroll_through(browser, "first")
    print("wider than its cell:", wide(browser))
    assert check_outputs(saved(browser, file)) == [len(cell) for cell in first]

    # One picture a figure on disk, under the names that the notebook gives, and one for each of the two best hits.
    figures = {path.name for path in (workspace / "results" / "smoke" / KEY / "figures").iterdir()}
    promised = set(re.findall(r'\\"figures\\" / \\"(\w+\.png)\\"', (paths.NOTEBOOKS / NOTEBOOK).read_text()))
    assert figures == promised - {"tempo.png"}  # its runs are no part of smoke
    assert sum(map(len, first)) == len(figures) + 2

    # Another theme: what shows the theme and what it finds differ, what does not depend on it stays.
    (listed,) = (workspace / "cache" / "corpora").glob("mtd-*/03_MTD-medium.csv")
    with open(listed, newline="") as rows:
        theme = list(csv.DictReader(rows, delimiter=";"))[-1]["MTDID"]
    replace(browser, 'theme: str = ""  # which', f'theme: str = "{theme}"  # which')
    run_all(browser, "second")
    second = pictures(browser)
    assert check_outputs(saved(browser, file)) == [len(cell) for cell in second]
    changed = [number for number, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    print(f"theme {theme}: other pictures in the code cells", changed)
    for number in changed:
        browser.ask(f"{CELLS}[{number}].scrollIntoView()")
        time.sleep(0.5)
        browser.picture("second")
    whole = nbformat.read(file, as_version=4)
    shows = [n for n, cell in enumerate(c for c in whole.cells if c.cell_type == "code") if "chosen" in cell.source]
    assert {n for n in shows if second[n]} <= set(changed)

    assert browser.complaints() == []
    elsewhere = [url for url in browser.requested() if not url.startswith(("data:", "blob:", lab.split("/lab/")[0]))]
    assert elsewhere == []
