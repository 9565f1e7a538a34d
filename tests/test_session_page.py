"""Nothing is lost: what a reload, a restart of the server, the browser's Back, or a broken connection must leave as it was."""

import json
from urllib.parse import quote

import numpy as np
import pytest
from browser import Server, Visitors, captioned, pixels, push, set_slider, settled, state, upload
from PIL import Image
from skimage.data import astronaut

from betavae import Editor, Recipe


@pytest.fixture(scope="module")
def editor() -> Editor:
    return Editor.from_pretrained(device="cpu")


@pytest.fixture
def portrait_file(tmp_path):
    path = tmp_path / "me.png"
    Image.fromarray(astronaut()).save(path)
    return path


def opened(page, path) -> None:
    upload(page, path)
    captioned(page, path.name)
    page.wait_for_function("!document.querySelector('#edit .views').hidden")
    settled(page)


def own(editor, name: str) -> dict:
    """A direction of the visitor's own, as the tab Make gives it to the page."""
    vector = editor.directions["Smiling"].vector
    return {"name": name, "label": name, "primary": True, "vector": vector.tolist(), "weights": vector.tolist(),
            "quantiles": [i / 25 - 2 for i in range(101)], "low": -1.9, "high": 1.9, "unit": "strength", "per_strength": 1}


def kept(page) -> dict:
    """What the browser's database holds by now: what was asked to be kept before has been written."""
    return page.evaluate("""async () => {
        const open = indexedDB.open("face-latents");
        await new Promise((resolve) => (open.onsuccess = resolve));
        const all = open.result.transaction("parts").objectStore("parts").getAll();
        await new Promise((resolve) => (all.onsuccess = resolve));
        return Object.fromEntries(all.result.map(({ part, value }) => [part, value instanceof File ? value.name : value]));
    }""")


def strengths(page) -> dict:
    return page.evaluate("""() => Object.fromEntries([...document.querySelectorAll('#edit .slider input[type=range]')]
        .filter((input) => Number(input.value)).map((input) => [input.dataset.name, Number(input.value)]))""")


def same_again(page, editor) -> None:
    """The photo, its edit, the steps and the visitor's own slider are there, and go on working."""
    settled(page)
    page.wait_for_selector("[data-slider=Mine]")
    assert strengths(page) == {"Smiling": -1.5, "Mine": 1.0}
    assert page.locator(".steps li").count() == 4
    assert page.locator(".photo-box img").get_attribute("alt") == "me.png"


@pytest.mark.parametrize("how", ["reload", "back"])
def test_photo_edit_steps_and_own_sliders_survive(visit, editor, portrait_file, tmp_path, how):
    page = visit()
    opened(page, portrait_file)
    assert state(page, "state.addDirection(argument)", own(editor, "Mine"))
    set_slider(page, "Smiling", -1.5)
    set_slider(page, "Mine", 1)
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
    before, address = pixels(page, "edit"), page.url
    if how == "reload":
        page.reload()
    else:
        page.goto("about:blank")
        page.go_back()
    captioned(page, "me.png")
    same_again(page, editor)
    assert page.url == address
    page.wait_for_function("document.querySelector('#edit [data-canvas=edit]').width === 1024")
    assert np.abs(pixels(page, "edit") - before).max() <= 2
    # The file itself is there too: what is saved is the photo's own.
    with page.expect_download() as download:
        page.click("#edit [data-do=save]")
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "me-edited.png" and Image.open(file).size == (512, 512)
    page.keyboard.press("Control+z")
    settled(page)
    assert strengths(page) == {"Smiling": -1.5}


def test_a_forgotten_photo_is_gone_from_the_browser_and_the_filmstrip(visit, portrait_file):
    page = visit()
    first = page.locator("#edit .status").inner_text()
    opened(page, portrait_file)
    push(page, "Smiling", 0.5)
    assert any(part.startswith("photo ") for part in kept(page))
    page.click("[data-do=forget]")
    captioned(page, first)
    page.wait_for_function("document.querySelectorAll('.steps li').length === 1")
    page.reload()
    captioned(page, first)
    left = kept(page)
    assert set(left) == {"edit"} and "me.png" not in json.dumps(left)


def test_a_new_tab_goes_on_with_what_was_left_last_and_another_model_does_not(visit, portrait_file):
    page = visit()
    opened(page, portrait_file)
    smile = push(page, "Smiling", 0.5)
    kept(page)
    other = page.context.new_page()
    other.goto(page.url.partition("#")[0])
    captioned(other, "me.png")
    assert strengths(other) == {"Smiling": smile}
    push(other, "Smiling", 0)
    page.reload()
    captioned(page, "me.png")
    assert strengths(page) == {"Smiling": smile}, "each tab has its own"
    other.goto(page.url.partition("#")[0] + "model/one/")
    settled(other)
    assert other.locator(".photo-box img").is_hidden()


def test_a_duplicated_tab_has_a_copy_of_its_own(visit):
    page = visit()
    smile = push(page, "Smiling", 0.5)
    assert kept(page)["edit"]
    with page.expect_popup() as opened:  # such a tab starts with the session storage of its opener, as a duplicate does
        page.evaluate("window.open(location.href)")
    other = opened.value
    settled(other)
    other.wait_for_function("document.querySelectorAll('.steps li').length === 2")
    assert strengths(other) == {"Smiling": smile}
    push(other, "Smiling", 0)
    kept(other)
    for tab, wanted in ((page, {"Smiling": smile}), (other, {})):
        tab.reload()
        settled(tab)
        tab.wait_for_selector(".steps li")
        assert strengths(tab) == wanted
    assert len({tab.evaluate("sessionStorage['face-latents.tab']") for tab in (page, other)}) == 2


def test_an_edit_goes_to_another_face_only_if_asked(visit, editor, portrait_file, server):
    recipe = json.loads(Recipe(editor.hash, {"Smiling": 1.0}).to_json())
    page = visit(address="/#recipe=" + quote(json.dumps(recipe)))
    asks = page.locator(".asks")
    asks.get_by_text("holds an edit and no face").wait_for()
    assert strengths(page) == {}
    opened(page, portrait_file)  # the link waits for the photo that it is meant for
    assert strengths(page) == {} and asks.is_visible()
    asks.get_by_role("button", name="Use it on this face").click()
    captioned(page, "me.png, edited by a link")
    assert strengths(page) == {"Smiling": 1.0} and asks.is_hidden()
    # A second photo comes as it is, and the edit can be taken along.
    again = portrait_file.with_name("again.png")
    Image.fromarray(astronaut()[:, ::-1]).save(again)
    opened(page, again)
    assert strengths(page) == {}
    asks.get_by_role("button", name="Use it here too").click()
    page.wait_for_function("Number(document.querySelector('[data-name=Smiling]').value) === 1")
    captioned(page, "again.png")
    asks.wait_for(state="hidden")


def test_every_tab_reconnects_by_itself(browser, tmp_path, portrait_file):
    server = Server(tmp_path / "log")
    visitors = Visitors(server, browser)
    with server:
        page = visitors()
        opened(page, portrait_file)
        page.click("[data-view=model]")
        settled(page)
        before = pixels(page, "edit")
        for tab, ready in (("Interpolate", ".strip canvas"), ("Sample", ".faces img"), ("Explore", ".row canvas")):
            page.get_by_role("tab", name=tab).click()
            page.wait_for_selector(f"#{tab.lower()} {ready}")
            settled(page, tab.lower())
        sampled = page.locator("#sample .faces img").first.get_attribute("src")
        between = pixels(page, "edit")
    # The server is away.
    page.get_by_role("tab", name="Explore").click()
    page.locator("#explore [data-z]").first.press("End")
    page.get_by_role("tab", name="Sample").click()
    page.fill("#seed", "77")
    page.locator("#sample .status", has_text="The connection was lost.").wait_for()
    page.get_by_role("tab", name="Edit").click()
    push(page, "Smiling", 0.7)
    page.locator("#edit .offline").wait_for()
    # What is on the stage is not the edit, and is not saved as if it were.
    page.click("#edit [data-do=save]")
    page.get_by_text("has not come yet").wait_for()
    assert np.array_equal(pixels(page, "edit"), before) and np.array_equal(between, before)
    with server:
        page.locator("#edit .offline").wait_for(state="hidden")
        settled(page)
        assert not np.array_equal(pixels(page, "edit"), before)
        with page.expect_download():
            page.click("#edit [data-do=save]")
        page.get_by_role("tab", name="Sample").click()
        page.get_by_text("seed 77").wait_for()
        assert page.locator("#sample .faces img").first.get_attribute("src") != sampled
        page.get_by_role("tab", name="Explore").click()
        settled(page, "explore")
        assert not page.locator("#explore .status.wrong").is_visible()
        page.reload()
        captioned(page, "me.png")
        assert set(strengths(page)) == {"Smiling"}
        # The browser itself writes of what it could not reach.
        visitors.wrong = [text for text in visitors.wrong if "ERR_CONNECTION_REFUSED" not in text]
        visitors.leave()


def test_retry_draws_again_even_when_the_side_effects_were_lost_last(visit):
    page = visit()
    before = pixels(page, "edit")
    cut = {"on": True}

    def pass_or_cut(route):
        route.abort() if cut["on"] else route.continue_()

    page.route("**/component_server/", pass_or_cut)
    page.route("**/connection.js", pass_or_cut)
    push(page, "Smiling", 0.7)
    page.locator("#edit .offline").wait_for()
    assert np.array_equal(pixels(page, "edit"), before)
    cut["on"] = False
    page.locator("#edit .offline button").click()
    page.locator("#edit .offline").wait_for(state="hidden")
    settled(page)
    assert not np.array_equal(pixels(page, "edit"), before)
    page.locator(".effects .quiet").filter(has_text="changed").wait_for()

    # The browser itself writes of what was cut.
    visit.wrong = [text for text in visit.wrong if "ERR_FAILED" not in text]
