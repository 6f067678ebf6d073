"""Runs `dvc` for the tests of one process. Loading DVC takes longer than most of what they ask of it, so it is loaded once,
and each call is done in a fork, whose arguments, environment, folder and output are those of a `dvc` of its own.

usage: dvc_server.py SOCKET

It says `ready` when it listens, and ends with its standard input; then SOCKET and its folder go. A connection is one call: it sends a line of JSON,
{"arguments": [TEXT...], "folder": DIR, "environment": {NAME: VALUE}, "stdout": FILE, "stderr": FILE}, and gets a line with the exit code.
"""

import atexit
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback

# Does a bit of everything in a project of its own, and names the modules that were needed.
PROBE = """
import contextlib, io, json, pathlib, subprocess, sys
from dvc.cli import main
subprocess.run(["git", "init", "--quiet"], check=True)
stages = {"made": {"cmd": "cp in out", "deps": ["in"], "outs": ["out"]}}
pathlib.Path("dvc.yaml").write_text(json.dumps({"stages": stages}))
pathlib.Path("in").write_text("in")
with contextlib.redirect_stdout(io.StringIO()):
    for call in ["init -q", "repro -q", "status", "repro --dry", "commit -f", "add -q in", "checkout", "gc -w -f"]:
        main(call.split())
print(json.dumps([name for name in sys.modules if name != "__main__"]))
"""


def load():
    """Loads what DVC will need, without doing anything of it here."""
    with tempfile.TemporaryDirectory() as folder:
        own = {name: folder for name in ("HOME", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR", "DVC_SITE_CACHE_DIR")}
        probe = subprocess.run([sys.executable, "-c", PROBE], cwd=folder, env={**os.environ, **own}, check=True,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for name in json.loads(probe.stdout.splitlines()[-1]):
        try:
            importlib.import_module(name)
        except ImportError:
            # Made while DVC ran.
            pass
    gc.freeze()


def call(arguments):
    """Does what the program `dvc` does, and returns its exit code."""
    from dvc.cli import main

    sys.argv = ["dvc", *arguments]
    try:
        return main(arguments) or 0
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1


def serve(connection):
    """Does one call, in a fork."""
    asked = json.loads(connection.makefile().readline())
    for number in (signal.SIGCHLD, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL if number == signal.SIGCHLD else signal.default_int_handler)
    for fd, path, flags in ((0, os.devnull, os.O_RDONLY), (1, asked["stdout"], os.O_WRONLY), (2, asked["stderr"], os.O_WRONLY)):
        os.dup2(os.open(path, flags), fd)
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    code = call(asked["arguments"])
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(f"{code}\n".encode())


def main():
    load()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(sys.argv[1])
    listening.listen(64)
    os.chdir("/")
    # Nobody waits for forks.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    print("ready", flush=True)
    while sys.stdin not in select.select([listening, sys.stdin], [], [])[0]:
        connection, _ = listening.accept()
        if os.fork() == 0:
            listening.close()
            try:
                serve(connection)
            finally:
                os._exit(0)
        connection.close()
    # The folder was made for the socket alone.
    os.unlink(sys.argv[1])
    os.rmdir(os.path.dirname(sys.argv[1]))


main()
