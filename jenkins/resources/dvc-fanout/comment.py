"""Posts a Markdown file as a comment on the pull request PULL_REQUEST (GitHub) or merge request (GitLab).

The token comes from PULL_REQUEST_TOKEN and goes nowhere but to the server of that address.
"""

import json
import os
import re
import sys
import urllib.parse
import urllib.request


def request(link, token, body):
    """The request that posts `body` at the pull request with this link."""
    github = re.fullmatch(r"https://([^/]+)/([^/]+/[^/]+)/pull/(\d+)/?", link)
    if github:
        host, repository, number = github.groups()
        api = "https://api.github.com" if host == "github.com" else f"https://{host}/api/v3"
        address = f"{api}/repos/{repository}/issues/{number}/comments"
        headers = {"Authorization": f"Bearer {token}"}
    else:
        gitlab = re.fullmatch(r"https://([^/]+)/(.+)/-/merge_requests/(\d+)/?", link)
        if not gitlab:
            sys.exit(f"error: `{link}` is no link to a pull request of GitHub or a merge request of GitLab")
        host, project, number = gitlab.groups()
        project = urllib.parse.quote(project, safe="")
        address = f"https://{host}/api/v4/projects/{project}/merge_requests/{number}/notes"
        headers = {"PRIVATE-TOKEN": token}
    headers["Content-Type"] = "application/json"
    return urllib.request.Request(address, json.dumps({"body": body}).encode(), headers)


with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
with urllib.request.urlopen(request(os.environ["PULL_REQUEST"], os.environ["PULL_REQUEST_TOKEN"], text), timeout=60):
    pass
