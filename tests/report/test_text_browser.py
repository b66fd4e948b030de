"""A text study's page in a real browser: measure, boundary and arms are switched, and nothing leaves it."""

import pytest
from tests.report.browser import CHROMIUM, Browser
from tests.report.fabricate_text import text_store
from tests.report.test_text_report import scores

from stillmark.report.write import conclude

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium"),
]
MARKS = "document.querySelectorAll('#chart g[data-arm] use').length"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    text_store(folder, scores).close()
    conclude(folder, is_changed=True)
    browser = Browser(tmp_path_factory.mktemp("profile"))
    browser.width(1200)
    browser.open(folder / "report.html")
    yield browser
    browser.close()


def choose(page, name, value):
    page.run(f"document.querySelector('#{name} input[value={value}]').click()")


def test_it_draws_and_nothing_leaves_it(page):
    assert page.errors == []
    assert all(address.startswith("file:") for address in page.requests)
    assert page.run(MARKS) == 2 * 4 + 2  # checkpoints of two arms, and their names
    assert page.run("document.querySelector('#chart .level') !== null")  # the teacher, at no compute
    assert page.run("document.querySelector('#boundary input:checked').value") == "generation"


def test_measures_and_boundaries_are_switched(page):
    choose(page, "measure", "kl_per_token")
    assert page.run("document.querySelector('#chart svg').getAttribute('aria-label')").startswith(
        "KL to the teacher"
    )
    choose(page, "boundary", "everything")
    assert "unknown under this boundary" in page.run("document.querySelector('#chart').textContent")
    assert page.run(MARKS) == 0
    choose(page, "boundary", "student")
    assert page.run(MARKS) == 10
    choose(page, "across", "tokens")
    assert page.run("document.querySelector('#boundary').disabled")
    assert "training tokens" in page.run("document.querySelector('#chart').textContent")
    choose(page, "across", "flops")
    choose(page, "measure", "bits_per_byte")


def test_arms_are_hidden_and_points_are_spoken(page):
    page.run("document.querySelector('#filters input[value=distilled]').click()")
    assert page.run(MARKS) == 5
    page.run("document.querySelector('#filters input[value=distilled]').click()")
    press = "document.querySelector('#chart svg').dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))"
    page.run(press)
    spoken = page.run("document.querySelector('#spoken').textContent")
    assert "bits per byte" in spoken
    assert "boundary student" in spoken
    assert page.errors == []


def test_a_narrow_screen_does_not_scroll_sideways(page):
    page.width(380)
    assert page.run("document.documentElement.scrollWidth") <= 380
    page.width(1200)
