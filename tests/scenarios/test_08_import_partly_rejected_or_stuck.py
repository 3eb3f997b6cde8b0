"""8. An import partly rejected, stuck, or failed: each line gets its own end, and newer quantities are not blocked."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.inventory_publisher import proving
from shared.events.stock import OfferStockConfirmed, OfferStockRejected
from tests.services.inventory_publisher.kit import OUTSIDE, Ground, ground, until

LINES = 10_000
IN_ERROR = 37


async def test_of_10000_lines_37_are_cases_and_all_others_confirmed_after_half_an_hour(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(
        kafka_bootstrap, database_url, tmp_path, oci=False, speed=240.0, offers=LINES - IN_ERROR + 1
    ) as here:
        *skus, newer = here.skus
        missing = [f"MISSING-{n:02d}" for n in range(IN_ERROR)]
        many, other = f"{here.market}-many", f"{here.market}-other"
        await here.control(here.mirakl_url, "PATCH", "/config/alpha", {"running_seconds": 1800})
        await here.map(*((sku, many) for sku in (*skus, *missing)), (newer, other))
        async with here.service():
            await until(lambda: known(here, LINES + 1))
            await here.put(here.level(many, 6, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: imports(here, 1))
            await here.put(here.level(other, 2, here.sometime(-4)), source=OUTSIDE)
            await until(lambda: imports(here, 2))
            assert await here.database.fetchval("SELECT count(*) FROM imports WHERE state = 'submitted'") == 2
            await until(lambda: open_cases(here, {"stock-import-stuck": 1}))
            await until(lambda: here.confirmed({newer: 2}), 90)
            await until(lambda: open_cases(here, {"stock-line-rejected": IN_ERROR}))
        assert await here.database.fetchval("SELECT lines FROM imports ORDER BY id LIMIT 1") == LINES
        assert {here.on_show(sku) for sku in skus} == {6}
        assert len(await here.said(OfferStockConfirmed)) == LINES - IN_ERROR + 1
        refused = await here.said(OfferStockRejected)
        assert sorted(one.shop_sku for one in refused) == missing
        assert {one.outcome for one in refused} == {"refused"}
        assert all("does not exist" in (one.reason or "") for one in refused)


async def test_an_import_that_fails_without_a_report_leaves_its_lines_unknown_and_the_current_state_goes_out(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        sku, other = here.skus[:2]
        product, second = f"{here.market}-A", f"{here.market}-B"
        await here.map((sku, product), (other, second))
        await here.fault(kind="set_value", operation="STO02", path="status", value="FAILED", count=1)
        async with here.service():
            levels = [here.level(product, 3, here.sometime(-5)), here.level(second, 4, here.sometime(-5))]
            await here.put(*levels, source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 3, other: 4}))
        unknown = await here.said(OfferStockRejected)
        assert unknown
        assert {(one.outcome, one.reason) for one in unknown} == {("unknown", None)}
        proven = {one.shop_sku: one.import_id for one in await here.said(OfferStockConfirmed)}
        assert not {(one.shop_sku, one.import_id) for one in unknown} & set(proven.items())
        assert await here.cases(still_open=False) == []


async def test_after_a_lost_answer_the_current_state_goes_out_at_once_and_again_after_the_quiet_period(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product))
        await here.fault(kind="cut_after_effect", operation="STO01", count=1)
        async with here.service():
            await here.put(here.level(product, 3, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 3}))
            await here.put(here.level(product, 2, here.sometime(-4)), source=OUTSIDE)
            await until(lambda: quiet(here, sku))
            await until(lambda: here.confirmed({sku: 2}))
        assert here.calls("STO01") >= 3
        assert (await here.offer(sku))["resend_at"] is None


async def known(here: Ground, count: int) -> bool:
    return bool(await here.database.fetchval("SELECT count(*) = $1 FROM offers", count))


async def imports(here: Ground, count: int) -> bool:
    return bool(
        await here.database.fetchval("SELECT count(*) >= $1 FROM imports WHERE announced = lines AND lines > 0", count)
    )


async def open_cases(here: Ground, wanted: dict[str, int]) -> bool:
    found = list(await here.cases())
    return all(found.count(code) == count for code, count in wanted.items())


async def quiet(here: Ground, sku: str) -> bool:
    return (await here.offer(sku))["resend_at"] is None


async def test_beyond_a_limit_refused_lines_share_one_case_that_ends_with_the_last_of_them(
    kafka_bootstrap: str, database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proving, "MOST_CASES", 2)
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        missing, product = [f"MISSING-{n}" for n in range(4)], f"{here.market}-A"
        await here.map((here.skus[0], product), *((sku, product) for sku in missing))
        async with here.service():
            await until(lambda: known(here, 5))
            await here.put(here.level(product, 3, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: open_cases(here, {"stock-line-rejected": 3}))
            cases = await here.database.fetch("SELECT about FROM cases WHERE about LIKE 'offer/%'")
            of_their_own = {row["about"].rpartition("/")[2] for row in cases}
            assert len(of_their_own) == 2
            # One of the others is not sold any more, then the last of them: nothing is left that the case stands for.
            one, last = sorted(set(missing) - of_their_own)
            await here.unmap(one)
            await here.put(here.level(product, 4, here.sometime(-4)), source=OUTSIDE)
            await until(lambda: here.confirmed({here.skus[0]: 4}))
            assert (await here.cases()).count("stock-line-rejected") > 2
            await here.unmap(last)
            await here.put(here.level(product, 5, here.sometime(-3)), source=OUTSIDE)
            await until(lambda: open_cases(here, {"stock-line-rejected": 2}))


async def test_a_report_that_does_not_name_its_lines_proves_none_of_the_others(
    kafka_bootstrap: str, database_url: str, tmp_path: Path
) -> None:
    async with ground(kafka_bootstrap, database_url, tmp_path, oci=False) as here:
        sku, product = here.skus[0], f"{here.market}-A"
        await here.map((sku, product), ("MISSING", product))
        report = '"line";"error-message"\n"2";"refused"\n'
        await here.fault(kind="status", operation="STO03", status=200, body=report, count=1)
        async with here.service():
            await until(lambda: known(here, 2))
            await here.put(here.level(product, 3, here.sometime(-5)), source=OUTSIDE)
            await until(lambda: here.confirmed({sku: 3}))
            await until(lambda: open_cases(here, {"stock-line-rejected": 1}))
        first, *_ = [one for one in await here.said(OfferStockRejected) if one.shop_sku == sku]
        assert (first.outcome, first.reason) == ("unknown", None)
        [asked] = await here.database.fetch(
            "SELECT closed_at FROM cases WHERE code = 'stock-import-stuck' AND starts_with(about, 'stock-reports/')"
        )
        assert asked["closed_at"] is not None
