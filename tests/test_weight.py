"""What the page weighs: bytes on the wire, as Chromium counts them. With -rP the figures are printed."""

import pytest
from browser import settled

LIMIT = 400_000      # bytes of a first visit, all that is ours: the page, its modules, its pictures
OF_GRADIO = ("/assets/", "/static/", "/theme.css", "/favicon.ico")


class Wire:
    """Counts what a page receives, by address."""

    def __init__(self, page):
        self.addresses, self.received = {}, {}
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on("Network.requestWillBeSent", self.asked)
        session.on("Network.loadingFinished", self.came)

    def asked(self, event):
        self.addresses[event["requestId"]] = event["request"]["url"]

    def came(self, event):
        self.received[event["requestId"]] = event["encodedDataLength"]

    def bytes(self, base: str) -> tuple[int, int]:
        """Bytes so far that are Gradio's own files, and all others."""
        sizes = {"gradio": 0, "ours": 0}
        for number, size in self.received.items():
            path = self.addresses[number].removeprefix(base)
            sizes["gradio" if path.startswith(OF_GRADIO) else "ours"] += size
        return sizes["gradio"], sizes["ours"]


@pytest.fixture
def opened(server, visit):
    """The page of a first visit, quiet by now, and what it received."""
    page = visit()
    wire = Wire(page)
    page.evaluate("sessionStorage.clear(), indexedDB.deleteDatabase('face-latents')")
    page.context.clear_cookies()
    page.context.new_cdp_session(page).send("Network.clearBrowserCache")
    page.goto("about:blank")
    wire.received.clear()
    page.goto(server.url)
    settled(page)
    page.wait_for_load_state("networkidle")
    page.wait_for_function("[...document.querySelectorAll('.presets img')].every((image) => image.src)")
    return page, wire


def test_a_first_visit_is_light(opened, server):
    _, wire = opened
    gradio, ours = wire.bytes(server.url)
    print(f"first visit: {ours:,} bytes, and {gradio:,} of Gradio's own files")
    assert gradio > 100_000, "nothing was measured"
    assert 30_000 < ours <= LIMIT


def test_explore_is_fetched_when_it_is_opened_and_nothing_twice(opened, server):
    page, wire = opened
    _, before = wire.bytes(server.url)
    page.get_by_role("tab", name="Explore").click()
    page.wait_for_selector("#explore .atlas[aria-busy=false]")
    settled(page, "explore")
    _, after = wire.bytes(server.url)
    print(f"Explore: {after - before:,} bytes")
    assert 20_000 < after - before < LIMIT
    # What the first visit fetched stays in the browser: the modules are not sent again.
    wire.received.clear()
    page.reload()
    settled(page)
    again = [wire.addresses[number] for number, size in wire.received.items() if size > 400]
    assert not any("/modules/" in address for address in again)
