"""Describes each digit by the directions of its strokes: a histogram of gradients in each cell of the image.

usage: features.py SESSION.csv FEATURES.npy CELL ORIENTATIONS

The image is enlarged first, and seen turned and shifted a little in every way, so that a slanted digit looks like an
upright one.
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np

SIZE = 32  # pixels, enlarged
ANGLES = np.radians((-12, -6, 0, 6, 12))
SHIFTS = (-1.5, 0, 1.5)  # pixels, enlarged


def seen(images, angle, down, right):
    """The images, enlarged, turned and shifted, with what lies between their pixels interpolated."""
    middle = np.arange(SIZE) - (SIZE - 1) / 2
    y, x = np.meshgrid(middle + down, middle + right, indexing="ij")
    rows = (np.cos(angle) * y - np.sin(angle) * x) * 8 / SIZE + 4.5
    columns = (np.sin(angle) * y + np.cos(angle) * x) * 8 / SIZE + 4.5
    rows, columns = np.clip(rows, 0, 9), np.clip(columns, 0, 9)
    top, left = rows.astype(int), columns.astype(int)
    below, aside = rows - top, columns - left
    framed = np.pad(images, ((0, 0), (1, 2), (1, 2)))
    upper = framed[:, top, left] * (1 - aside) + framed[:, top, left + 1] * aside
    lower = framed[:, top + 1, left] * (1 - aside) + framed[:, top + 1, left + 1] * aside
    return upper * (1 - below) + lower * below


def histograms(images, cell, orientations):
    """A row an image: how much of each of its cells points in which direction."""
    down, right = np.gradient(images, axis=(1, 2))
    direction = (np.arctan2(down, right) % np.pi / np.pi * orientations).astype(int) % orientations
    place = np.arange(SIZE) // cell
    across = place[-1] + 1
    cells = np.arange(len(images))[:, None, None] * across**2 + place[:, None] * across + place
    bins = (cells * orientations + direction).ravel()
    counts = np.bincount(bins, np.hypot(down, right).ravel(), len(images) * across**2 * orientations)
    return counts.reshape(len(images), -1)


source, target, cell, orientations = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
images = np.loadtxt(source, delimiter=",")[:, 1:].reshape(-1, 8, 8)
views = [seen(images, *view) for view in product(ANGLES, SHIFTS, SHIFTS)]
features = np.mean([histograms(view, cell, orientations) for view in views], axis=0)
features /= np.linalg.norm(features, axis=1, keepdims=True)
target.parent.mkdir(exist_ok=True)
np.save(target, np.round(features, 6))
