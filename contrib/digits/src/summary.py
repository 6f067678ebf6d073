"""Puts the metrics of all sessions together: their mean and the hardest session, and a table to plot.

usage: summary.py METRICS SUMMARY.json TABLE.csv
"""

import json
import sys
from pathlib import Path

folder, summary, table = (Path(path) for path in sys.argv[1:])
sessions = {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}
images = sum(metrics["images"] for metrics in sessions.values())
correct = sum(metrics["accuracy"] * metrics["images"] for metrics in sessions.values())
hardest = min(sessions, key=lambda name: sessions[name]["accuracy"])
lines = [f"{name},{metrics['accuracy']}" for name, metrics in sessions.items()]
table.write_text("session,accuracy\n" + "\n".join(lines) + "\n")
found = {"sessions": len(sessions), "images": images, "accuracy": round(correct / images, 4), "hardest_session": hardest}
summary.write_text(json.dumps(found, indent=2) + "\n")
