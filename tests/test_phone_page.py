"""The page where it is narrow: a phone of 390 pixels, and a tablet of 768."""

import pytest
from browser import captioned, pixels, push, settled, upload


@pytest.fixture
def phone(visit):
    return visit(390, 844, has_touch=True)


def box(page, selector):
    """Where an element stands on the screen: left, top, right, bottom."""
    return page.locator(selector).first.evaluate(
        "e => { const { left, top, right, bottom } = e.getBoundingClientRect(); return [left, top, right, bottom]; }")


def test_presets_and_the_first_slider_are_in_sight_on_a_phone(phone):
    stage, presets, slider = (box(phone, selector) for selector in ("#edit .stage", ".presets", "[data-slider=Smiling]"))
    assert presets[1] - stage[3] < 16, "right below the stage"
    assert slider[1] - presets[3] < 48, "and the first slider below them, but for its group's name"
    covered = box(phone, ".effects")[1]
    assert slider[3] <= covered, "all of it above what stands at the bottom"
    assert box(phone, ".viewport")[3] - box(phone, ".viewport")[1] > 300


def test_the_stage_and_the_chips_stay_while_the_sliders_scroll(phone):
    phone.get_by_role("button", name="Face", exact=True).click()
    phone.wait_for_function("() => { const { top } = document.querySelector('[data-group=Face]').getBoundingClientRect();"
                            " return top > 0 && top < 560; }")
    assert abs(box(phone, "#edit .stage")[1]) < 2
    chips, group = box(phone, ".chips"), box(phone, "[data-group=Face]")
    assert 0 <= chips[1] < chips[3] <= group[1] + 2, "the group is not below the chips"
    before = pixels(phone, "edit")
    push(phone, "Young", -0.8)
    assert abs(pixels(phone, "edit") - before).mean() > 1


def test_save_search_and_what_is_said_are_within_reach_on_a_phone(phone):
    phone.evaluate("window.scrollTo(0, 900)")
    left, top, right, bottom = box(phone, "[data-do=save]")
    assert left >= 0 and right <= 390 and top >= 0 and bottom <= 844
    push(phone, "Smiling", 0.8)
    with phone.expect_download() as download:
        phone.locator("[data-do=save]").click()
    assert download.value.suggested_filename.endswith(".png")
    phone.get_by_role("button", name="Find…").click()
    phone.get_by_role("searchbox").fill("gender")
    male = phone.locator("[data-slider=Male]")
    male.wait_for()
    (*_, covered), (_, top, *_) = box(phone, "#edit .stage"), box(phone, "[data-slider=Male]")
    assert covered <= top < 844
    phone.get_by_role("button", name="Find…").click()
    assert phone.locator("[data-slider=Smiling]").is_visible(), "and the others are back"


def test_a_photo_leaves_the_order_of_the_phone_as_it_is(phone, photo):
    upload(phone, photo)
    captioned(phone, "portrait.png")
    assert box(phone, "#edit .stage")[1] < box(phone, ".presets")[1] < box(phone, "[data-slider=Smiling]")[1]
    assert phone.get_by_role("button", name="Forget my photo").is_visible()


@pytest.mark.parametrize("width", [390, 768, 1000])
def test_one_column_without_overprint(visit, width):
    page = visit(width, 1024)
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing hangs over"
    left, _, right, bottom = box(page, "#edit .stage")
    panel = box(page, ".panel")
    assert left == 0 and right == width and panel[1] >= bottom - 1, "the sliders are below the stage, not beside it"
    texts = [box(page, f"#header {part}") for part in ("h1", "small") if page.locator(f"#header {part}").is_visible()]
    texts += [box(page, f"[role=tab]:nth-of-type({i + 1})") for i in range(page.get_by_role("tab").count())]
    for i, a in enumerate(texts):
        for b in texts[i + 1:]:
            assert a[2] <= b[0] + 1 or b[2] <= a[0] + 1 or a[3] <= b[1] + 1 or b[3] <= a[1] + 1, "no text over another"
    for tab in ("Interpolate", "Sample", "Explore", "Make", "Model"):
        page.get_by_role("tab", name=tab, exact=True).click()
        if tab in ("Interpolate", "Sample", "Explore"):
            settled(page, tab.lower())
        page.locator(f"#{tab.lower()} .card").first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, tab
