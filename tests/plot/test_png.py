"""Pictures of a figure that grows."""

import io

import numpy as np
from matplotlib.figure import Figure

from framefold.plot.png import PngWriter


def test_pictures_have_size_colours_and_layout_of_the_figure():
    from PIL import Image

    figure = Figure(figsize=(3, 2), layout="constrained")
    ax = figure.add_subplot()
    ax.imshow(np.zeros((2, 3)), cmap="gray", vmin=-1, vmax=0)  # white
    ax.set_ylabel("far\nfrom\nthe edge")
    layout, dpi = figure.get_layout_engine(), figure.dpi
    render = PngWriter(120)
    made = [render(figure, final) for final in (False, False, False, True)]
    assert figure.get_layout_engine() is layout
    assert figure.dpi == dpi
    assert len(made[-1]) <= len(made[-2])
    for data in made:
        picture = Image.open(io.BytesIO(data))
        assert picture.size == (360, 240)
        assert np.allclose(picture.info["dpi"], 120, atol=0.1)  # whole pixels per metre
    ax.images[0].set_data(-np.ones((2, 3)))  # black
    pixels = np.asarray(Image.open(io.BytesIO(render(figure, False))))
    box = ax.get_window_extent()  # in pixels of the figure, from below
    x, y = (np.array([box.x0 + box.x1, box.y0 + box.y1]) / 2 * 120 / dpi).round().astype(int)
    assert pixels.shape == (240, 360, 3)
    assert pixels[240 - y, x].tolist() == [0, 0, 0]
    assert pixels[1, 1].tolist() == [255, 255, 255]
