#!/usr/bin/env python3
"""Write or renew the comment on a pull request (GitHub) or merge request (GitLab).

    comment.py FILE

The job that holds the token runs only this, from the default branch. FILE comes from a job that
runs the branch's code and may hold anything: it is cut to a length that both services accept, and
mentions and GitLab's commands (lines that begin with /) are disabled. Only our own comment, with
the mark, is renewed.
"""

import json
import os
import re
import sys
import urllib.request
from pathlib import Path

MARK = "<!-- stages.report -->"
LONGEST = 60_000  # characters; GitHub takes 65,536


def call(method: str, address: str, body: dict | None = None):
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        address, content, HEADERS | {"Content-Type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def harmless(text: str) -> str:
    """Return at most LONGEST characters of a text, without mentions and GitLab's commands."""
    if len(text) > LONGEST:
        text = text[:LONGEST] + "\n\n(Cut here; the report among the artifacts is whole.)"
    text = re.sub(r"@(?=\w)", "@\u200b", text)
    return re.sub(r"^(\s*)/", "\\1\u200b/", text, flags=re.MULTILINE)


env = os.environ
if "GITHUB_ACTIONS" in env:
    HEADERS = {"Authorization": f"Bearer {env['GH_TOKEN']}"}
    repository = f"{env['GITHUB_API_URL']}/repos/{env['GITHUB_REPOSITORY']}"
    comments, edited, renew = (
        f"{repository}/issues/{env['NUMBER']}/comments",
        f"{repository}/issues/comments",
        "PATCH",
    )

    def is_own(comment: dict) -> bool:
        return comment["user"]["login"] == "github-actions[bot]"

elif env.get("REPO_TOKEN"):
    HEADERS = {"PRIVATE-TOKEN": env["REPO_TOKEN"]}
    project = f"{env['CI_API_V4_URL']}/projects/{env['CI_PROJECT_ID']}"
    comments = edited = f"{project}/merge_requests/{env['CI_MERGE_REQUEST_IID']}/notes"
    renew, me = "PUT", call("GET", f"{env['CI_API_V4_URL']}/user")["id"]

    def is_own(comment: dict) -> bool:
        return comment["author"]["id"] == me

else:
    print("no REPO_TOKEN, as in a fork: no comment; the report is among the artifacts")
    sys.exit()

text = f"{MARK}\n\n{harmless(Path(sys.argv[1]).read_text(encoding='utf-8', errors='replace'))}"
page, found = 0, None
while not found and (some := call("GET", f"{comments}?per_page=100&page={(page := page + 1)}")):
    found = next((one["id"] for one in some if is_own(one) and one["body"].startswith(MARK)), None)
call(renew if found else "POST", f"{edited}/{found}" if found else comments, {"body": text})
