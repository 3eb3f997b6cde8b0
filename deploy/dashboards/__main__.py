"""`python -m deploy.dashboards`: write the dashboards as Grafana imports them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import LegendPlacement
from grafana_foundation_sdk.models.dashboard import DataSourceRef

from deploy.dashboards.boards import BOARDS, Board, Panel

FOLDER: Final = Path(__file__).parent / "json"
DATA: Final = DataSourceRef(type_val="prometheus", uid="prometheus")


def documents() -> dict[Path, str]:
    """Every dashboard's file with what it should hold."""
    return {FOLDER / f"{board.uid}.json": text_of(board) for board in BOARDS}


def text_of(board: Board) -> str:
    """One dashboard as JSON."""
    built = (
        dashboard.Dashboard(board.title)
        .uid(board.uid)
        .description(board.about)
        .tags(["bridge"])
        .timezone("utc")
        .refresh("30s")
        .time("now-6h", "now")
        .readonly()
    )
    for panel in board.panels:
        built = built.with_panel(_panel(panel))
    return JSONEncoder(sort_keys=True, indent=2).encode(built.build()) + "\n"


def _panel(panel: Panel) -> stat.Panel | timeseries.Panel:
    if panel.figure:
        return _filled(stat.Panel().span(6), panel)
    legend = common.VizLegendOptions().show_legend(True).placement(LegendPlacement.BOTTOM)
    return _filled(timeseries.Panel().span(12).legend(legend), panel)


def _filled(built: stat.Panel | timeseries.Panel, panel: Panel) -> stat.Panel | timeseries.Panel:
    built = built.title(panel.title).description(panel.about).unit(panel.unit).height(8).datasource(DATA)
    for letter, (expression, legend) in zip("ABCDEF", panel.queries, strict=False):
        query = prometheus.Dataquery().ref_id(letter).expr(expression).legend_format(legend)
        built = built.with_target(query)
    return built


def main() -> int:
    """Write what differs."""
    FOLDER.mkdir(exist_ok=True)
    for path, text in documents().items():
        if not path.is_file() or path.read_text("utf-8") != text:
            print(path)
            path.write_text(text, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
