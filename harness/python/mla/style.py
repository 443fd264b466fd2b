"""style.py - how the project's pictures look, for matplotlib."""

# Okabe and Ito's palette without its yellow, which is faint on white; marks differ as well, so that
# no picture depends on colour.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000"]
STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
         "axes.titlesize": 9, "legend.frameon": False, "svg.hashsalt": "mla", "text.parse_math": False,
         "figure.constrained_layout.use": True, "axes.titlelocation": "left"}


def settle(fig):
    """Lays the panels out for good, so that places in pixels hold."""
    fig.get_layout_engine().execute(fig)
    fig.set_layout_engine("none")
