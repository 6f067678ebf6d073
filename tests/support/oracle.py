"""Answers what real DVC does, one JSON request a line, so that a test pays for starting Python only once.

request   {"root": DIR, "do": "add" | "changed" | "repro" | "keep_going"}
          {"root": DIR, "do": "import", "source": FILE, "out": PATH}
add       {} after `dvc add data`
changed   {"changed": {ADDRESS: bool}} as `dvc repro` decides before anything runs
import    {} after `dvc import-url FILE PATH`
repro     {"events": [[WHAT, ADDRESS]...]} of `dvc repro -P`; WHAT is skipped, restored, run, saved or failed
keep_going  the same of `dvc repro -P --keep-going`
failed    {"error": TEXT} where the project cannot be read or looked at
"""

import json
import logging
import os
import sys

from dvc.repo import Repo

MESSAGES = {
    "Stage '%s' didn't change, skipping": "skipped",
    "'%s' didn't change, skipping": "skipped",
    "Stage '%s' is cached - skipping run, checking out outputs": "restored",
    "Running stage '%s':": "run",
    "Verifying %s in %s%s": "saved",
}


class Events(logging.Handler):
    """Turns DVC's own messages into events."""

    def __init__(self):
        super().__init__(logging.INFO)
        self.events = []

    def emit(self, record):
        if what := MESSAGES.get(record.msg):
            subject = record.args[-1]
            self.events.append([what, getattr(subject, "addressing", subject)])


def add(repo):
    repo.add(["data"])
    return {}


def changed(repo):
    with repo.lock:
        return {"changed": {stage.addressing: stage.changed() for stage in repo.index.stages}}


def import_url(repo, source, out):
    repo.imp_url(source, out)
    return {}


def keep_going(repo):
    return repro(repo, on_error="keep-going")


def repro(repo, **options):
    handler = Events()
    logger = logging.getLogger("dvc")
    logger.addHandler(handler)
    try:
        repo.reproduce(all_pipelines=True, **options)
    except Exception as error:  # whatever stops it: the events up to there count
        stage = getattr(error, "stages", None) or str(error).partition("'")[2].partition("'")[0]
        handler.events.append(["failed", str(stage)])
    finally:
        logger.removeHandler(handler)
    return {"events": handler.events}


ANSWERS = {"add": add, "changed": changed, "import": import_url, "keep_going": keep_going, "repro": repro}


def main():
    answers, sys.stdout = os.fdopen(os.dup(1), "w"), sys.stderr
    os.dup2(2, 1)  # what commands print is no answer
    logging.getLogger("dvc").setLevel(logging.INFO)
    for line in sys.stdin:
        request = json.loads(line)
        os.chdir(request.pop("root"))
        try:
            repo = Repo(".")
            answer = ANSWERS[request.pop("do")](repo, **request)
            repo.close()
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


main()
