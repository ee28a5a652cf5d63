"""How figures of the pages look: on no background, in a grey that shows on light and on dark."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

FIGURES = Path(__file__).resolve().parents[1] / "docs" / "figures"
GREY = "#7d828a"


def use_page_style(name: str) -> None:
    """Set matplotlib up for a figure of that name, whose bytes are then the same every time."""
    mpl.rcParams.update(
        {
            "text.color": GREY,
            "axes.labelcolor": GREY,
            "axes.edgecolor": GREY,
            "xtick.color": GREY,
            "ytick.color": GREY,
            "grid.color": GREY,
            "font.size": 10,
            "savefig.transparent": True,
            "svg.fonttype": "none",
            "svg.hashsalt": name,
        }
    )


def save(figure: Figure, name: str) -> None:
    """Write a figure into the pages' folder."""
    figure.savefig(FIGURES / f"{name}.svg", metadata={"Date": None})
