"""Runs the `dvc` script as its interpreter would, but beside others that put the same objects into the same cache.

usage: dvc.py SCRIPT run ARGUMENT...
       dvc.py SCRIPT serve WORKER      (standard input: the socket to the worker)

The second loads DVC once and forks a process for each call. It says one byte when DVC is loaded. A request is its
length (4 bytes) and that many bytes: the directory, the number of arguments, the arguments, and changes of the
environment (`NAME=VALUE`, or `NAME` to unset it), each ended by a NUL; with it come the file for stdout and stderr, and
one end of a socket pair. On that one the new process, a child of the worker by then, says its id (4 bytes), waits for a
byte and says one: without them, nothing was run. Anything unusual ends the process where it happens; the worker starts
`dvc` by itself then.
"""

import sys


def begin(script):
    """Makes the module path what it is when the interpreter runs the script itself."""
    from os.path import dirname, realpath

    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        sys.path[0] = dirname(realpath(script))


def keep_objects():
    """Has DVC clone files aside and then put them in their place, as it does when it copies them.

    It clones onto the object's own path: what lies there is emptied, and removed where the file system has no clones.
    That may be the same object, which another DVC has put there since this one looked, and has a hard link to.
    """
    import os

    try:
        import dvc_objects.fs.system as system

        clone = system.reflink
    except (ImportError, AttributeError):
        return

    def reflink(source, target):
        aside = os.path.join(os.path.dirname(target), f".{os.urandom(12).hex()}.tmp")
        clone(source, aside)
        os.replace(aside, target)

    system.reflink = reflink


def show_stage_files():
    """Has commands see the project's own stage files, though DVC is shown others: they take turns in the workspace.

    Where they are is said by the worker, whose `workspace/projection.rs` tells what lies there.
    """
    import os

    aside = os.environb.pop(b"DVC_FANOUT_STAGE_FILES", None)
    if aside is None:
        return
    try:
        import dvc.stage.run as stage_run

        run = stage_run._run
    except (ImportError, AttributeError):
        return
    root, whole, own = os.getcwdb(), os.path.join(aside, b"whole"), os.path.join(aside, b"own")
    with open(os.path.join(aside, b"paths"), "rb") as file:
        paths = file.read().split(b"\0")[:-1]

    def move(path, source, target):
        source, target = os.path.join(source, path), os.path.join(target, path)
        if os.path.lexists(source):
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.rename(source, target)

    def run_among_them(*arguments, **named):
        for path in paths:
            move(path, root, own)
            move(path, whole, root)
        try:
            return run(*arguments, **named)
        finally:
            # A command may have removed the workspace.
            for path in paths if os.path.isdir(root) else []:
                move(path, root, whole)
                move(path, own, root)

    stage_run._run = run_among_them


def name_process():
    """Names the process as the kernel names one that was started from the script."""
    import ctypes
    import os

    set_name = 15
    ctypes.CDLL(None).prctl(set_name, os.path.basename(os.fsencode(SCRIPT)), 0, 0, 0)


# What DVC imports while it reproduces, beside what these import. What a version of DVC does not have, or does not
# need, costs nothing but time.
MODULES = """
    dvc._debug dvc.analytics dvc.cachemgr dvc.cli.parser dvc.config dvc.data_cloud dvc.dirs dvc.lock dvc.repo
    dvc.repo.artifacts dvc.repo.datasets dvc.repo.graph dvc.repo.index dvc.repo.metrics dvc.repo.open_repo
    dvc.repo.params dvc.repo.plots dvc.repo.reproduce dvc.repo.stage dvc.repo.trie dvc.rwlock dvc.scm dvc.stage.run
    dvc.utils.strictyaml dvc_data.hashfile._progress dvc_data.hashfile.db.local dvc_data.hashfile.status
    configobj dulwich.ignore dulwich.index dulwich.worktree fsspec.implementations.memory networkx ruamel.yaml
    ruamel.yaml.mergevalue
""".split()


def load():
    """Imports DVC, and leaves its objects alone: garbage collection would copy the pages that processes share."""
    import gc
    import importlib
    import os

    gc.disable()
    importlib.import_module("dvc.cli")
    for module in MODULES:
        try:
            importlib.import_module(module)
        except ImportError:
            pass
    # DVC keeps the parser of its command line once it is made.
    parser = importlib.import_module("dvc.cli.parser").get_main_parser
    if hasattr(parser, "cache_info"):
        parser()
    refresh = remember()
    refresh()
    # A lock that another thread holds at a fork would be held for ever.
    if len(os.listdir("/proc/self/task")) != 1:
        sys.exit("loading DVC started threads")
    return refresh


# DVC parses a whole params file for each stage that reads it, at about 100 KiB a second, and makes two regular expressions
# of each line of a `.gitignore`, at about 50,000 lines a second. Shorter files, and more of them, are not worth the memory.
LONG_TEXT = 1 << 13
MANY_LINES = 1 << 9
MOST_FILES = 8
MOST_LINES = 1 << 16


def remember():
    """Has long files that a process has read be known to those that are forked later.

    Returns what has to be called before each fork. The text decides: a file that has changed is read again.
    """
    import gc
    import importlib
    import os

    # Processes say in this file, beside this script, what they had to read.
    told = os.path.join(os.path.dirname(os.path.abspath(sys.argv[0])), "read")
    texts, readers = {}, {}

    def tell(kind, path):
        path = os.path.abspath(path)
        if (kind, path) not in texts:
            with open(told, "ab") as file:
                file.write(os.fsencode(f"{kind}:{path}\0"))

    for kind, make, module in (
        ("yaml", parsed_once, "dvc.utils.serialize._yaml"),
        ("lines", compiled_once, "dulwich.ignore"),
    ):
        try:
            readers[kind] = make(importlib.import_module(module), lambda path, kind=kind: tell(kind, path))
        except (ImportError, AttributeError):
            pass

    def refresh():
        try:
            with open(told, "rb") as file:
                lines = file.read().split(b"\0")[:-1]
            os.remove(told)
        except FileNotFoundError:
            lines = []
        for line in lines:
            kind, _, path = os.fsdecode(line).partition(":")
            if len(texts) < MOST_FILES:
                texts.setdefault((kind, path))
        for (kind, path), known in texts.items():
            try:
                with open(path, encoding="utf-8") as file:
                    text = file.read()
                if text != known:
                    texts[kind, path] = text
                    readers[kind](path, text)
            except Exception:
                # Whoever needs the file says what is wrong with it.
                texts[kind, path] = None
        gc.freeze()

    return refresh


def parsed_once(module, tell):
    """Has DVC take YAML files as they were parsed before; returns what parses one for that."""
    import os
    import pickle

    parse = module.parse_yaml
    known = {}

    def parse_yaml(text, path, typ="safe"):
        if typ != "safe" or len(text) < LONG_TEXT:
            return parse(text, path, typ)
        before, data = known.get(os.path.abspath(path), (None, None))
        if before == text:
            return pickle.loads(data)
        tell(path)
        return parse(text, path, typ)

    def read(path, text):
        known[path] = (text, pickle.dumps(parse(text, path)))

    module.parse_yaml = parse_yaml
    return read


def compiled_once(module, tell):
    """Has DVC take the lines of `.gitignore` files as they were compiled before; returns what compiles a file's for that."""
    import functools
    import io

    begin, lines_of = module.IgnoreFilter.__init__, module.read_ignore_patterns
    pattern = functools.lru_cache(MOST_LINES)(module.Pattern)

    def __init__(self, patterns, ignorecase=False, path=None):
        patterns = list(patterns)
        if path and len(patterns) > MANY_LINES:
            tell(path)
        begin(self, patterns, ignorecase, path)

    def read(path, text):
        for line in lines_of(io.BytesIO(text.encode())):
            try:
                pattern(line, False)
            except Exception:
                # Each process says so of the lines that are no pattern.
                pass

    module.Pattern = pattern
    module.IgnoreFilter.__init__ = __init__
    return read


def serve(worker, refresh):
    """Forks a process per request; returns in it, with the arguments of its `dvc`."""
    import os
    import socket

    line = socket.socket(fileno=os.dup(0))
    line.sendall(b"+")
    while True:
        message, fds, _, _ = socket.recv_fds(line, 1 << 16, 2)
        if not message:
            os._exit(0)
        log, control = fds
        while len(message) < 4 or len(message) < 4 + int.from_bytes(message[:4], "big"):
            message += line.recv(1 << 16) or os._exit(0)
        refresh()
        # The process in between ends at once, so that the new one becomes the worker's.
        between = os.fork()
        if between == 0:
            if os.fork() != 0:
                os._exit(0)
            line.close()
            try:
                return become(worker, message[4:].split(b"\0")[:-1], log, socket.socket(fileno=control))
            except Exception:
                os._exit(1)
        os.waitpid(between, 0)
        os.close(log)
        os.close(control)


def become(worker, fields, log, control):
    """Makes this process what a new `dvc` would be, and waits for the worker's word."""
    import ctypes
    import gc
    import os
    import signal
    import time

    directory, count, *rest = fields
    arguments, changes = rest[: int(count)], rest[int(count) :]
    # It belongs to the worker as soon as the process in between has ended.
    for _ in range(10_000):
        if os.getppid() == worker:
            break
        time.sleep(0.001)
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    set_parent_death_signal = 1
    if prctl(set_parent_death_signal, signal.SIGTERM, 0, 0, 0) != 0 or os.getppid() != worker:
        os._exit(1)
    name_process()
    os.setpgid(0, 0)
    os.chdir(directory)
    for change in changes:
        name, has_value, value = change.partition(b"=")
        if has_value:
            os.environb[name] = value
        else:
            os.environb.pop(name, None)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(null)
    os.close(log)
    control.sendall(os.getpid().to_bytes(4, "big"))
    if not control.recv(1):
        os._exit(0)
    gc.enable()
    control.sendall(b"+")
    control.close()
    return [os.fsdecode(argument) for argument in arguments]


def script_module(script):
    """Compiles the script and makes the module that it runs as."""
    from types import ModuleType

    with open(script, "rb") as file:
        code = compile(file.read(), script, "exec")
    module = ModuleType("__main__")
    module.__file__ = script
    sys.modules["__main__"] = module
    return code, module.__dict__


SCRIPT, what, *rest = sys.argv[1:]
begin(SCRIPT)
if what == "serve":
    refresh = load()
    keep_objects()
    rest = serve(int(rest[0]), refresh)
else:
    keep_objects()
    name_process()
show_stage_files()
sys.argv = [SCRIPT, *rest]
exec(*script_module(SCRIPT))
