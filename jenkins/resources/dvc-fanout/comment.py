"""Posts a Markdown file as a comment on the pull request PULL_REQUEST (GitHub) or merge request (GitLab).

The token comes from PULL_REQUEST_TOKEN. Whoever starts a build types the address, so the token only goes to the host
that PULL_REQUEST_HOST names.
"""

import json
import os
import re
import sys
import urllib.parse
import urllib.request


def request(link, trusted, token, body):
    """The request that posts `body` at the pull request with this link, which is one of the trusted host."""
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
    if host != trusted:
        sys.exit(f"error: `{link}` is not at `{trusted}`, the only host that gets the token (pullRequestHost)")
    headers["Content-Type"] = "application/json"
    return urllib.request.Request(address, json.dumps({"body": body}).encode(), headers)


with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
link, host, token = (os.environ[f"PULL_REQUEST{part}"] for part in ("", "_HOST", "_TOKEN"))
with urllib.request.urlopen(request(link, host, token, text), timeout=60):
    pass
