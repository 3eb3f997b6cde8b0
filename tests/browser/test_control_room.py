"""The control room's pages in a real browser: they fit, can be read and reached, and keep fresh."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect

from services.control_room.links import case_url
from services.control_room.pages import Room
from shared.events.cases import CaseClosed
from tests.kit.flow import NOW
from tests.kit.pages import PASSWORD, Teller, asked, captured, project, received, stale_source, unmapped_sku

SKU_CASE = "/cases/unmapped-sku/worten-pt/W-58213377-A/SOCKS-6PACK"
CASES = (
    asked("order-cancelled-while-shipped", "order/worten-pt/W-1"),
    asked("product-incomplete", "category/worten-pt/2034/mugs-and-cups-of-a-rather-long-name"),
    asked("product-incomplete", "attribute/worten-pt/2034/a_rather_long_field_code_of_the_operator"),
    asked("ledger-type-unknown", "transaction-type/worten-pt/A_RATHER_LONG_TYPE_OF_A_TRANSACTION"),
)
"""Cases with forms that the day does not need."""
PAGES = {
    **{case.case_id: case_url(case.case_id) for case in CASES},
    "flow": "/",
    "cases": "/cases",
    "cases closed": "/cases?closed=1",
    "unmapped sku": SKU_CASE,
    "unmapped carrier": "/cases/unmapped-carrier/bq-uk/dpd%20uk",
    "mass zero": "/cases/mass-zero/shop/worten-pt/2034",
    "lost answer": "/cases/obligation-unknown/order/worten-pt/W-58213009-A/1187",
    "orders": "/orders",
    "order": "/orders/worten-pt/W-58213377-A",
    "order held": "/orders/bq-uk/B-77100-A",
    "offers": "/offers",
    "offer": "/offer?marketplace=worten-pt&shop=2034&sku=DESK-1",
    "products refused": "/offers?show=products",
    "skus": "/mappings/sku",
    "carriers": "/mappings/carrier",
    "categories": "/mappings/category",
    "attributes": "/mappings/attribute",
    "accounts": "/mappings/account",
    "carrier": "/mapping/carrier?marketplace=worten-pt&left=dpd",
    "rules": "/rules",
    "rule": "/rule?marketplace=worten-pt&shop=*&rule=stock-buffer",
    "payouts": "/payouts",
    "payout": "/payouts/bq-uk/c-0590",
    "suspense": "/payouts?show=suspense",
    "dead letters": "/dead-letters",
    "audit": "/audit",
}
DESKTOP, PHONE = (1360, 900), (375, 812)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("dark", "light")

LOOK = """() => {
  const found = [];
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) found.push(`scrolls sideways by ${root.scrollWidth - root.clientWidth}`);
  if (document.querySelectorAll("h1").length !== 1) found.push("needs one h1");
  for (const field of document.querySelectorAll("input:not([type=hidden]), select, textarea"))
    if (!field.labels || !field.labels.length) found.push(`no label: ${field.name}`);
  const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) found.push(`twice: #${id}`);
  const rgb = (text) => { const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number); return [r, g, b, a]; };
  const light = ([r, g, b]) => {
    const linear = (v) => (v / 255 <= 0.03928 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4);
    const [x, y, z] = [r, g, b].map(linear);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const behind = (one) => {
    for (let up = one; up; up = up.parentElement) {
      const colour = rgb(getComputedStyle(up).backgroundColor);
      if (colour[3] === 1) return colour;
    }
    return [255, 255, 255, 1];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility()) continue;
    if (one.closest("script, .unseen, svg, option")) continue;
    const [a, b] = [light(rgb(getComputedStyle(one).color)), light(behind(one))].sort((x, y) => y - x);
    const contrast = (a + 0.05) / (b + 0.05);
    if (contrast < 4.5) found.push(`contrast ${contrast.toFixed(1)}: ${walker.currentNode.data.trim().slice(0, 30)}`);
  }
  return found;
}"""
"""What is wrong with a page, in words: width, headings, labels, ids, and the contrast WCAG 2 asks for (4.5)."""


@asynccontextmanager
async def visiting(
    browser: Browser,
    address: str,
    size: tuple[int, int] = DESKTOP,
    *,
    login: str = "ada",
    script: bool = True,
) -> AsyncIterator[Page]:
    """A page of somebody who has signed in; what the browser complains of fails the test."""
    context = await browser.new_context(
        base_url=address,
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=script,
    )
    context.set_default_timeout(60_000)
    complaints: list[str] = []
    page = await context.new_page()
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    await page.goto("/sign-in")
    await page.fill("[name=login]", login)
    await page.fill("[name=password]", PASSWORD)
    await page.press("[name=password]", "Enter")
    await page.wait_for_url(f"{address}/")
    yield page
    await context.close()
    assert complaints == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_every_page_fits_its_screen_and_can_be_read_in_light_and_dark(
    browser: Browser, address: str, room: Room, size: tuple[int, int], tmp_path: Path
) -> None:
    async with room.database.transaction() as rows:
        await project(rows, [received(case, 1) for case in CASES])
    wrong = {}
    async with visiting(browser, address, size) as page:
        for name, path in PAGES.items():
            answer = await page.goto(path)
            assert answer is not None
            assert answer.status == 200, path
            for scheme in SCHEMES:
                await page.emulate_media(color_scheme=scheme)
                if found := await page.evaluate(LOOK):
                    wrong[name, scheme] = found
        await page.goto("/")
        picture = await page.screenshot(path=tmp_path / "flow.png", full_page=True)
        assert len(picture) > 20_000
    assert wrong == {}


async def test_a_case_is_put_right_with_the_keyboard_alone(browser: Browser, address: str, room: Room) -> None:
    async with visiting(browser, address, login="olga") as page:
        await page.keyboard.press("Tab")
        await expect(page.locator(":focus")).to_have_text("Skip to content")
        await page.keyboard.press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await tab_to(page, "SOCKS-6PACK is not mapped to an SFCC product")
        await page.keyboard.press("Enter")
        await page.wait_for_url(f"**{SKU_CASE}")
        await tab_to(page, "", name="right")
        await page.keyboard.type("SOCKS-SINGLE")
        assert await outline_of_focus(page) != "none"
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        await expect(page.get_by_role("status").first).to_contain_text("SOCKS-6PACK is mapped to SOCKS-SINGLE")
    assert await room.database.fetchval('SELECT "right" FROM mapping_versions WHERE "left" = $1', "SOCKS-6PACK") == (
        "SOCKS-SINGLE"
    )


async def test_everything_that_can_be_clicked_can_be_reached_by_tab_and_shows_it(
    browser: Browser, address: str
) -> None:
    async with visiting(browser, address, login="olga") as page:
        # The marks that this test leaves would look to the script like a page that has changed.
        await page.route("**/room.js*", lambda route: route.fulfill(body="", content_type="text/javascript"))
        for path in ("/", SKU_CASE, "/mappings/carrier"):
            await page.goto(path)
            wanted: int = await page.evaluate(
                """() => new Set([...document.querySelectorAll("a[href], button, summary, select, textarea, input")]
                    .filter((one) => one.type !== "hidden" && one.checkVisibility())
                    .map((one) => one.type === "radio" ? one.name : one)).size"""
            )
            reached = set()
            for _ in range(wanted + 5):
                await page.keyboard.press("Tab")
                reached.add(
                    await page.evaluate(
                        """() => { const one = document.activeElement; if (!one || one === document.body) return "";
                            one.dataset.reached ||= String(Math.random());
                            return one.type === "radio" ? one.name : one.dataset.reached; }"""
                    )
                )
                if await page.evaluate("document.activeElement !== document.body"):
                    assert await outline_of_focus(page) != "none"
            assert len(reached - {""}) == wanted, path


async def test_pages_keep_fresh_by_themselves_and_leave_alone_what_somebody_types(
    browser: Browser, address: str, room: Room
) -> None:
    async with visiting(browser, address, login="olga") as page:
        await page.goto("/cases")
        await expect(page.locator("#menu-cases")).to_contain_text("6")
        await page.fill("[name=q]", "half a wor")
        teller = Teller.new()
        unmapped_sku(teller, captured("W-77-A", NOW - timedelta(hours=1)), "BRAND-NEW", timedelta(minutes=5))
        async with room.database.transaction() as rows:
            await project(rows, teller.told)

        await expect(page.get_by_role("link", name="BRAND-NEW is not mapped to an SFCC product")).to_be_visible(
            timeout=60_000
        )
        await expect(page.locator("#menu-cases")).to_contain_text("7")
        assert await page.input_value("[name=q]") == "half a wor"


async def test_a_banner_comes_and_goes_with_a_stale_source_of_stock(browser: Browser, address: str, room: Room) -> None:
    opened = stale_source(NOW)
    closed = CaseClosed(case_id=opened.case_id, code=opened.code, outcome="cause-fixed", closed_at=NOW)
    async with visiting(browser, address, PHONE) as page:
        await page.goto("/offers")
        async with room.database.transaction() as rows:
            await project(rows, [received(opened, 1)])
        await expect(page.locator("#degraded")).to_contain_text("Stock of oci/group/eu-warehouses is stale.")
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme)
            assert await page.evaluate(LOOK) == []
        async with room.database.transaction() as rows:
            await project(rows, [received(closed, 2)])
        await expect(page.locator("#degraded")).to_be_empty()


async def test_a_case_that_closes_while_somebody_looks_takes_its_form_away(
    browser: Browser, address: str, room: Room
) -> None:
    async with visiting(browser, address, login="olga") as page:
        await page.goto(SKU_CASE)
        await page.fill("#map [name=right]", "half typed")
        await page.locator("h1").click()
        for _ in range(2):  # The page was read again, and what came of it is done with.
            await page.wait_for_event("response", lambda answer: answer.request.resource_type == "fetch")
        assert await page.input_value("#map [name=right]") == "half typed"
        case_id = SKU_CASE.removeprefix("/cases/")
        closed = CaseClosed(case_id=case_id, code="unmapped-sku", outcome="cause-fixed", closed_at=NOW)
        async with room.database.transaction() as rows:
            await project(rows, [received(closed, 9, NOW)])

        await expect(page.locator("#map")).to_have_count(0)
        await expect(page.locator("#case-head")).to_contain_text("closed: cause fixed")


async def test_everything_works_without_a_script(browser: Browser, address: str, room: Room) -> None:
    async with visiting(browser, address, PHONE, login="olga", script=False) as page:
        await page.goto(SKU_CASE)
        await page.fill("#map [name=right]", "SOCKS-SINGLE")
        await page.click("#map button")
        await expect(page.locator(".said").first).to_contain_text("SOCKS-6PACK is mapped to SOCKS-SINGLE")


async def tab_to(page: Page, text: str, *, name: str | None = None) -> None:
    """Press Tab until the element with this text or name has the focus."""
    for _ in range(80):
        await page.keyboard.press("Tab")
        focus: dict[str, Any] = await page.evaluate(
            "() => ({text: document.activeElement.textContent.trim(), name: document.activeElement.name || ''})"
        )
        if (name is not None and focus["name"] == name) or (name is None and focus["text"] == text):
            return
    raise AssertionError(f"Tab never came to {name or text!r}")


async def outline_of_focus(page: Page) -> str:
    """How the focused element shows that it is."""
    style: str = await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    return style
