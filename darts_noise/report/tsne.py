"""A map of features: t-SNE of images and of the same images under attack.

Reference:
    [1] van der Maaten and Hinton, Visualizing data using t-SNE, JMLR 9 (2008).
"""

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from darts_noise.report.style import OKABE_ITO, RC, axes_at, write_title

SIDE = 4.6  # inches, of the axes
PERPLEXITY = 30.0
COLOURS = {"as they are": OKABE_ITO["blue"], "under attack": OKABE_ITO["vermillion"]}


def draw_tsne(
    clean: Tensor, changed: Tensor, labels: Tensor, seed: int = 0, title: str | None = None
) -> Figure:
    """Draw the features of images, with and without an attack, in one plane by t-SNE [1].

    Each image is the number of its class. Distances between groups have no meaning.

    Args:
        clean: features (N, D) of the images, N of 2 or more.
        changed: features (N, D) of the same images after an attack.
        labels: the classes (N,), int64.
        seed: seed of t-SNE.
        title: a line above the map.
    """
    import numpy as np  # both imports take a second
    from sklearn.manifold import TSNE

    features = np.concatenate([clean.numpy(), changed.numpy()])
    perplexity = min(PERPLEXITY, (len(features) - 1) / 3)
    places = TSNE(perplexity=perplexity, init="pca", random_state=seed).fit_transform(features)
    parts = dict(zip(COLOURS, np.split(places, 2), strict=True))
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(SIDE + 0.2, SIDE + 0.7))
        axes = axes_at(figure, 0.1, 0.1, SIDE, SIDE)
        write_title(figure, title)
        for name, part in parts.items():
            for label in sorted({*labels.tolist()}):
                x, y = part[(labels == label).numpy()].T
                axes.scatter(x, y, 14, COLOURS[name], marker=f"${label}$", linewidths=0)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
        marks = [Line2D([], [], color=c, marker="s", linestyle="") for c in COLOURS.values()]
        axes.legend(marks, COLOURS, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure
