"""Runs a workflow of GitHub Actions or a pipeline of GitLab CI on this machine, job by job and step by step.

    ci.py github|gitlab FILE ORIGIN FOLDER [NAME=VALUE...]

Commands are real; each job has a clone of ORIGIN and a machine (a folder, a cache) of its own below FOLDER. What the
service itself does is done as its documentation says: expressions, matrices, outputs, artefacts. `pip`, `gh` and `curl` only
write down what they were told. NAME=VALUE is a variable or a secret, or `branch`, `event` and `number`.

Prints a line for each job with how it ended, and exits with 1 where one that counts has failed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

service, file, origin, folder = sys.argv[1:5]
given = dict(pair.split("=", 1) for pair in sys.argv[5:])
branch, event, number = given.pop("branch", "main"), given.pop("event", "manual"), given.pop("number", "")
origin, folder = Path(origin).resolve(), Path(folder).resolve()
document = YAML(typ="safe").load(Path(file).read_text())
artefacts, programs, said = folder / "artefacts", folder / "programs", folder / "said"
for made in (artefacts, programs, said):
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
for name in ("pip", "gh", "curl"):
    program = programs / name
    # A body that is named is kept as well, and so is what comes from standard input.
    program.write_text(f'#!/bin/sh\n{{ echo "$@"; [ -t 0 ] || cat; cat report.md 2>/dev/null || true; }} >> {said}/{name}\n')
    program.chmod(0o755)


class Failed(Exception):
    """A command that ended with this exit code."""


def machine(name):
    """A machine that nothing has run on, with a clone where the service has it."""
    home = folder / "machines" / name
    shutil.rmtree(home, ignore_errors=True)
    (home / "tmp").mkdir(parents=True)
    clone = home / "builds/project"
    subprocess.run(["git", "clone", "--quiet", "--branch", branch, origin, clone], check=True)
    variables = dict(os.environ, CI="true", TMPDIR=str(home / "tmp"), DVC_SITE_CACHE_DIR=str(home / "site-cache"))
    variables["PATH"] = f"{programs}:{variables['PATH']}"
    return clone, variables


def run(script, clone, variables, log):
    """Runs a script as the service does, and returns what it printed."""
    shell = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    ended = subprocess.run(shell, cwd=clone, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                           stdin=subprocess.DEVNULL)
    log.write(ended.stdout)
    log.flush()
    if ended.returncode:
        raise Failed(ended.returncode)


def github():
    contexts = {
        "secrets": given, "inputs": {"targets": given.get("TARGETS", "")},
        "github": {
            "head_ref": branch if event == "pull_request" else "", "ref_name": branch, "token": "token-of-the-workflow",
            "event_name": event, "repository": "team/project",
            "event": {"pull_request": {"number": number, "head": {"repo": {"full_name": "team/project"}}}},
        },
    }
    results = {}

    def value(expression, more):
        known = {**contexts, **more, "needs": results}

        def look_up(found):
            words = found.group(0)
            if words.startswith("'") or words in ("and", "or", "not"):
                return words
            inside = known
            for word in words.split("."):
                inside = inside.get(word, "") if isinstance(inside, dict) else ""
            return repr(inside)

        text = expression.replace("!cancelled()", "'yes'").replace("always()", "'yes'")
        text = text.replace("&&", " and ").replace("||", " or ")
        text = re.sub(r"fromJSON\((.*?)\)", lambda found: f"json_({found.group(1)})", text)
        parts = re.split(r"(json_)", text)
        text = "".join(part if part == "json_" else re.sub(r"'[^']*'|[A-Za-z][\w.-]*", look_up, part) for part in parts)
        return eval(text, {"json_": json.loads})

    def filled(text, more):
        whole = re.fullmatch(r"\$\{\{(.*?)\}\}", str(text).strip())
        if whole:
            return value(whole.group(1), more)
        return re.sub(r"\$\{\{(.*?)\}\}", lambda found: str(value(found.group(1), more)), str(text))

    def settings(mapping, more):
        shown = {True: "true", False: "false"}
        values = {name: filled(text, more) for name, text in (mapping or {}).items() if not isinstance(text, bool)}
        values.update((name, shown[text]) for name, text in (mapping or {}).items() if isinstance(text, bool))
        return {name: str(text) for name, text in values.items()}

    def do(name, job, matrix, total):
        clone, variables = machine(name)
        shutil.rmtree(clone)
        clone.mkdir()
        steps, ended = {}, "success"
        more = {"matrix": matrix, "strategy": {"job-total": total}, "steps": steps}
        top = {**settings(document.get("env"), more), **{key: text for key, text in given.items() if key.isupper()}}
        more["env"] = top
        top.update(settings(job.get("env"), more))
        with open(said / f"{name}.log", "w") as log:
            for number, step in enumerate(job["steps"]):
                condition = str(step.get("if", ""))
                if ended != "success" and "always()" not in condition or condition and not filled(condition, more):
                    continue
                output, summary = folder / "output", said / "summary"
                output.write_text("")
                own = {**variables, **top, **settings(step.get("env"), more)}
                own.update(GITHUB_OUTPUT=str(output), GITHUB_STEP_SUMMARY=str(summary))
                log.write(f"## {step.get('name', step.get('uses'))}\n")
                try:
                    if "run" in step:
                        run(filled(step["run"], more) if "${{" in step["run"] else step["run"], clone, own, log)
                    else:
                        uses(step["uses"].split("@")[0], settings(step.get("with"), more), clone)
                except Failed as failed:
                    log.write(f"## exit code {failed}\n")
                    ended = "failure"
                found = dict(line.split("=", 1) for line in output.read_text().splitlines())
                steps[step.get("id", str(number))] = {"outputs": found}
        print(f"{name}: {ended}")
        return ended, settings(job.get("outputs"), more)

    def uses(action, inputs, clone):
        if action == "actions/checkout":
            subprocess.run(["git", "clone", "--quiet", "--branch", inputs["ref"], origin, clone], check=True)
        elif action == "actions/upload-artifact":
            paths = [clone / path for path in inputs["path"].split()]
            hidden = any(part.startswith(".") for part in inputs["path"].split("/"))
            assert not hidden or inputs.get("include-hidden-files") == "true", inputs
            # A name that is not there is a warning.
            for path in filter(Path.exists, paths):
                # Without the folders that all of it has in common.
                (artefacts / inputs["name"]).mkdir(exist_ok=True)
                shutil.copy(path, artefacts / inputs["name"])
        else:
            assert action == "actions/setup-python", action

    for name, job in document["jobs"].items():
        needed = job.get("needs", [])
        needed = [needed] if isinstance(needed, str) else needed
        condition = str(job.get("if", ""))
        good = all(results[need]["result"] == "success" for need in needed)
        if not good and "cancelled()" not in condition or condition and not filled(condition, {}):
            results[name] = {"result": "skipped", "outputs": {}}
            print(f"{name}: skipped")
            continue
        matrix = [{}]
        if "strategy" in job:
            matrix = [{"shard": shard} for shard in filled(job["strategy"]["matrix"]["shard"], {})]
        ends = [do("-".join([name, *map(str, part.values())]), job, part, len(matrix)) for part in matrix]
        failed = any(ended == "failure" for ended, _ in ends)
        results[name] = {"result": "failure" if failed else "success", "outputs": ends[0][1]}
    return any(result["result"] == "failure" for result in results.values())


def gitlab():
    known, bad = {}, False
    for name, job in document.items():
        if name.startswith(".") or name in ("stages", "workflow", "variables", "default"):
            continue
        job = {**document.get(job.get("extends"), {}), **job}
        for node in range(1, job.get("parallel", 1) + 1):
            shown = f"{name}-{node}" if "parallel" in job else name
            clone, variables = machine(shown)
            # A commit is checked out, no branch.
            subprocess.run(["git", "checkout", "--quiet", "--detach"], cwd=clone, check=True)
            variables.update(document.get("variables", {}), **given, **known)
            variables.update(CI_COMMIT_REF_NAME=branch, CI_PROJECT_URL=str(origin).removesuffix(".git"), CI_PROJECT_ID="7",
                             CI_API_V4_URL="https://gitlab.example/api/v4")
            if event == "merge_request_event":
                variables.update(CI_MERGE_REQUEST_IID=number, CI_MERGE_REQUEST_SOURCE_BRANCH_NAME=branch)
            if "parallel" in job:
                variables.update(CI_NODE_INDEX=str(node), CI_NODE_TOTAL=str(job["parallel"]))
            for need in job.get("needs", []):
                if (artefacts / need).is_dir():
                    shutil.copytree(artefacts / need, clone, dirs_exist_ok=True)
            ended = "success"
            with open(said / f"{shown}.log", "w") as log:
                try:
                    run("\n".join(job["before_script"] + job["script"]), clone, variables, log)
                except Failed as failed:
                    log.write(f"## exit code {failed}\n")
                    ended = "warning" if job.get("allow_failure") else "failure"
                if "after_script" in job:
                    # A shell of its own, whose exit code does not count.
                    try:
                        run("\n".join(job["after_script"]), clone, variables, log)
                    except Failed as failed:
                        log.write(f"## after_script: exit code {failed}\n")
            print(f"{shown}: {ended}")
            bad |= ended == "failure"
            kept = job.get("artifacts", {})
            if ended == "success" or kept.get("when") == "always":
                for path in filter(lambda path: (clone / path).exists(), kept.get("paths", [])):
                    (artefacts / name / path).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(clone / path, artefacts / name / path)
                dotenv = kept.get("reports", {}).get("dotenv")
                if dotenv and (clone / dotenv).exists():
                    known.update(line.split("=", 1) for line in (clone / dotenv).read_text().splitlines())
        if bad:
            break
    return bad


sys.exit(1 if {"github": github, "gitlab": gitlab}[service]() else 0)
