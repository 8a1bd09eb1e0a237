"""Every figure has the same bytes for the same data."""

import pytest
from matplotlib import pyplot as plt
from matplotlib.layout_engine import ConstrainedLayoutEngine

from analysis.drawing import style


class Shaking(ConstrainedLayoutEngine):
    """A layout that ends a little aside, as its solver's does from one call to the next."""

    def __init__(self, shift):
        super().__init__()
        self.shift = shift

    def execute(self, fig):
        super().execute(fig)
        for part in fig.subfigs:
            part.bbox_relative.set_points(part.bbox_relative.get_points() * (1 + self.shift))
        for axes in fig.axes:
            bounds = [number * (1 + self.shift) for number in axes.get_position(original=True).bounds]
            axes._set_position(bounds, which="original")


@pytest.mark.parametrize("form", ["svg", "pdf", "png"])
@pytest.mark.parametrize("n_parts", [0, 2])
def test_same_bytes_whatever_the_last_digits_of_the_layout(tmp_path, form, n_parts):
    texts = []
    for shift in (0, 1e-12, 1e-3):
        style.apply()
        figure = plt.figure(figsize=(4, 2))
        figure.set_layout_engine(Shaking(shift))
        for part in figure.subfigures(1, n_parts) if n_parts else [figure]:
            axes = part.subplots(1, 2)
            axes[0].plot([0.1, 0.7], [1.3, 2.9])
            axes[1].set(xlabel="x", ylabel="y")
        style.save(figure, tmp_path / f"{shift}.{form}")
        texts.append((tmp_path / f"{shift}.{form}").read_bytes())
    assert texts[0] == texts[1] != texts[2]
