"""Cuts the 1,797 handwritten digits that scikit-learn ships into sessions, in the order in which they were collected.

usage: sessions.py FOLDER SESSION...

Each session is a table: a digit a row, first which one it is, then its 8 x 8 pixels.
"""

import sys
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

folder, names = Path(sys.argv[1]), sys.argv[2:]
digits = np.loadtxt(str(distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")), int, delimiter=",")
folder.mkdir(exist_ok=True)
for name, rows in zip(names, np.array_split(np.roll(digits, 1, axis=1), len(names))):
    np.savetxt(folder / f"{name}.csv", rows, fmt="%d", delimiter=",")
