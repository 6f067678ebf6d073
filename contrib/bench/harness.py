"""What the benchmarks share: generated projects, and whole processes measured by the operating system's own account."""
import os, pathlib, subprocess, sys, time
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent.parent.parent
DVC_YAML = """\
stages:
  extract:
    foreach: ${sessions}
    do:
      cmd: mkdir -p ext && cp raw/${item}.txt ext/${item}.txt
      deps:
      - raw/${item}.txt
      outs:
      - ext/${item}.txt
  measure:
    foreach: ${sessions}
    do:
      cmd: mkdir -p met && wc -c < ext/${item}.txt > met/${item}.json
      deps:
      - ext/${item}.txt
      metrics:
      - met/${item}.json:
          cache: false
  summarize:
    cmd: find met -name '*.json' -exec cat {} + > summary.txt
    deps:
    - met
    outs:
    - summary.txt
"""


def git_and_dvc(root):
    """Makes what is in a folder a project under git and DVC."""
    for command in (["git", "init", "-q"], ["dvc", "init", "-q"], ["git", "add", "-A"],
                    ["git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "-qm", "project"]):
        subprocess.run(command, cwd=root, check=True)


def make_project(root, sessions):
    """Sessions with two trivial stages each and one summary; nothing has been run."""
    (root / "raw").mkdir(parents=True)
    names = [f"s{n:05}" for n in range(sessions)]
    for name in names:
        (root / "raw" / f"{name}.txt").write_text(f"{name}\n" * 10)
    (root / "params.yaml").write_text("sessions:\n" + "".join(f"- {name}\n" for name in names))
    (root / "dvc.yaml").write_text(DVC_YAML)
    git_and_dvc(root)


def make_finished_project(root, keys):
    """The project of `make-project`, under git: keys with two stages each, and nothing to do."""
    subprocess.run([HERE / "contrib/bench/make-project", root, str(keys)], check=True)
    (root / ".dvc/config").unlink()
    cache = root.parent / "cache"
    (root / ".dvc/cache").rename(cache)
    (root / ".dvc").rmdir()
    for folder in ("extract", "train"):
        lines = "".join(f"/{out.name}\n" for out in sorted((root / folder).iterdir()))
        (root / folder / ".gitignore").write_text(lines)
    git_and_dvc(root)
    cache.rename(root / ".dvc/cache")


class Figures(NamedTuple):
    """Seconds of wall time, seconds of CPU time, MiB of the largest process."""

    wall: float
    cpu: float
    peak: float


def measure(command, root):
    """Runs a command to its end, which must be a good one."""
    begin = time.monotonic()
    with open(root.parent / "output", "wb") as output:
        process = subprocess.Popen(command, cwd=root, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - begin
    if status:
        sys.exit(f"{' '.join(command)} failed:\n{(root.parent / 'output').read_text(errors='replace')[-3000:]}")
    return Figures(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def set_up():
    """Puts DVC and a release build on the `PATH`, and has commands run by make's shell, which takes a third of bash's time."""
    venv = subprocess.run([HERE / "contrib/setup-dvc"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    subprocess.run(["cargo", "build", "--locked", "--release", "--quiet"], cwd=HERE, check=True)
    os.environ["PATH"] = f"{HERE / 'target/release'}:{venv}:{os.environ['PATH']}"
    os.environ["DVC_NO_ANALYTICS"] = "1"
    os.environ["SHELL"] = "/bin/sh"


