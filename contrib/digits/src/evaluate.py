"""Reads each digit of a session by those of the others that look most like it, and counts how many are read correctly.

usage: evaluate.py SESSION.csv FEATURES.npy METRICS.json NEIGHBOURS
"""

import json
import sys
from pathlib import Path

import numpy as np

session, features, target, neighbours = sys.argv[1], sys.argv[2], Path(sys.argv[3]), int(sys.argv[4])
truth = np.loadtxt(session, delimiter=",")[:, 0].astype(int)
features = np.load(features)
likeness = features @ features.T
np.fill_diagonal(likeness, -1)
nearest = truth[np.argsort(-likeness, axis=1, kind="stable")[:, :neighbours]]
votes = (nearest[:, :, None] == np.arange(10)).sum(axis=1)
correct = votes.argmax(axis=1) == truth
# How far chance alone may have moved it: the accuracy of sessions drawn from this one again and again.
drawn = np.random.default_rng(0).integers(len(truth), size=(20_000, len(truth)))
low, high = np.quantile(correct[drawn].mean(axis=1), (0.025, 0.975))
metrics = {
    "images": len(truth),
    "accuracy": round(float(correct.mean()), 4),
    "interval": [round(float(low), 4), round(float(high), 4)],
    "hardest_digit": int(np.argmin([correct[truth == digit].mean() for digit in range(10)])),
}
target.parent.mkdir(exist_ok=True)
target.write_text(json.dumps(metrics) + "\n")
print(f"{metrics['accuracy']:.1%} of {len(truth)} digits were read correctly; {metrics['hardest_digit']} was the hardest")
