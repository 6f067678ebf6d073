"""Drives Chromium without a window, as a person would use a page: types, clicks, looks.

    browser.py CHROMIUM PROFILE < steps.json

Steps are a list of objects with one key each: `open` (address), `type` (selector and text), `choose` (selector and value),
`click` (selector), `read` (expression), `until` (expression that becomes true), `make` (a file that others wait for),
`screenshot` (file, and `dark`). Prints a JSON object: what `read` found, in order,
and all that the page complained about.

It speaks Chromium's DevTools protocol over a pair of pipes, messages ending in NUL.
"""

import base64
import fcntl
import json
import os
import subprocess
import sys
import time

chromium, profile = sys.argv[1:]
steps = json.load(sys.stdin)
# Chromium reads commands from file 3 and writes answers to file 4, whatever their numbers are here.
to_read, to_write = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())
from_read, from_write = (fcntl.fcntl(end, fcntl.F_DUPFD, 10) for end in os.pipe())


def connect():
    os.dup2(to_read, 3)
    os.dup2(from_write, 4)


command = [
    chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1800",
    f"--user-data-dir={profile}", "--remote-debugging-pipe",
]
browser = subprocess.Popen(command, preexec_fn=connect, pass_fds=[3, 4], stderr=subprocess.DEVNULL)
os.close(from_write)
complaints, read, session, last = [], [], None, 0
loaded, unread = False, b""


def receive():
    global loaded, unread
    while b"\0" not in unread:
        more = os.read(from_read, 1 << 20)
        assert more, "the browser has ended"
        unread += more
    text, unread = unread.split(b"\0", 1)
    message = json.loads(text)
    method, parameters = message.get("method"), message.get("params", {})
    if method == "Page.loadEventFired":
        loaded = True
    elif method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Page.javascriptDialogOpening"):
        complaints.append(json.dumps(parameters))
    return message


def call(method, **parameters):
    global last
    last += 1
    message = {"id": last, "method": method, "params": parameters}
    if session:
        message["sessionId"] = session
    os.write(to_write, json.dumps(message).encode() + b"\0")
    while True:
        answer = receive()
        if answer.get("id") == last:
            assert "error" not in answer, (method, answer["error"])
            return answer["result"]


def evaluate(expression):
    answer = call("Runtime.evaluate", expression=expression, returnByValue=True)
    assert "exceptionDetails" not in answer, (expression, answer["exceptionDetails"])
    return answer["result"].get("value")


def click(selector):
    place = evaluate(
        f"(() => {{ const found = document.querySelector({json.dumps(selector)});"
        " found.scrollIntoView({block: 'center'}); const box = found.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    for kind in ("mousePressed", "mouseReleased"):
        call("Input.dispatchMouseEvent", type=kind, x=place[0], y=place[1], button="left", clickCount=1)


page = next(target for target in call("Target.getTargets")["targetInfos"] if target["type"] == "page")
session = call("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
for domain in ("Page", "Runtime", "Log"):
    call(f"{domain}.enable")
for step in steps:
    if "open" in step:
        loaded = False
        # Another page first: a change of the fragment alone opens nothing.
        call("Page.navigate", url="about:blank")
        while not loaded:
            receive()
        loaded = False
        call("Page.navigate", url=step["open"])
        while not loaded:
            receive()
    elif "type" in step:
        click(step["type"])
        call("Input.insertText", text=step["text"])
    elif "choose" in step:
        chosen = json.dumps(step["choose"])
        evaluate(f"document.querySelector({chosen}).value = {json.dumps(step['value'])}")
        evaluate(f"document.querySelector({chosen}).dispatchEvent(new Event('change', {{bubbles: true}}))")
    elif "click" in step:
        click(step["click"])
    elif "until" in step:
        limit = time.monotonic() + 60
        while not evaluate(step["until"]):
            assert time.monotonic() < limit, (step["until"], evaluate("document.body.innerText"))
            time.sleep(0.1)
    elif "make" in step:
        open(step["make"], "w").close()
    elif "read" in step:
        read.append(evaluate(step["read"]))
    else:
        scheme = "dark" if step["dark"] else "light"
        call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        picture = call("Page.captureScreenshot")["data"]
        with open(step["screenshot"], "wb") as file:
            file.write(base64.b64decode(picture))
session = None
call("Browser.close")
browser.wait()
json.dump({"read": read, "complaints": complaints}, sys.stdout)
