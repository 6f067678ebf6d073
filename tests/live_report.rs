//! `report --serve`: a page that stays up to date, for whoever knows its address.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::json;

use crate::report::browse;
use crate::runs::wait_until;
use crate::support::{Project, say, tool};

/// A `report --serve` that ends with the test.
struct Served {
    child: Child,
    url: String,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().expect("it may be ended");
        self.child.wait().expect("ended");
    }
}

impl Served {
    fn of(project: &Project) -> Served {
        let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
        command.args(["report", "--serve"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("started");
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut url).expect("read");
        Served { child, url: url.trim().to_owned() }
    }

    fn address(&self) -> SocketAddr {
        self.url.split('/').nth(2).expect("an address").parse().expect("an address")
    }

    /// The path of the page.
    fn path(&self) -> String {
        format!("/{}/", self.url.split('/').nth(3).expect("a secret"))
    }

    /// Asks as a browser does, for a host; returns the whole answer.
    fn ask(&self, method: &str, path: &str, host: &str) -> String {
        let mut stream = TcpStream::connect(self.address()).expect("it listens");
        write!(stream, "{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n").expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("read");
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask("GET", path, "localhost:80")
    }
}

/// A project whose sessions say who they are and wait for a gate, and the way to that.
fn gated() -> (Project, String) {
    let project = Project::from_fixture("sessions");
    let gate = project.path("../gate").display().to_string();
    let command =
        format!("cmd: echo hello from ${{item}}; while [ ! -e {gate} ]; do sleep 0.05; done; mkdir -p work &&");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
    project.commit("gated");
    (project, gate)
}

#[test]
fn the_page_is_for_reading_and_for_whoever_knows_its_address() {
    let project = Project::from_fixture("sessions");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", "cmd: echo hello from ${item}; mkdir -p work &&");
    project.fanout(["run", "-j", "2"]).succeeded();
    let served = Served::of(&project);
    assert!(served.address().ip().is_loopback(), "{}", served.url);
    let path = served.path();
    let page = served.get(&path);
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains(" data-live="), "{page}");
    assert!(page.contains("cache-control: no-store\r\n") && page.contains("5 work items succeeded"), "{page}");
    let log = served.get(&format!("{path}log?item=0"));
    assert!(log.contains("\nhello from s1\n") && log.contains("x-attempt: 1\r\n"), "{log}");
    let next = log.lines().find_map(|line| line.strip_prefix("x-next: ")).expect("it says so");
    let rest = served.get(&format!("{path}log?item=0&attempt=1&from={next}"));
    assert!(rest.starts_with("HTTP/1.1 200 OK\r\n") && rest.ends_with("\r\n\r\n"), "{rest}");
    let again = served.get(&format!("{path}log?item=0&attempt=0&from={next}"));
    assert!(again.contains("\nhello from s1\n"), "another attempt is shown from its beginning: {again}");

    let status = |answer: &str| answer.split(' ').nth(1).expect("a status").to_owned();
    for unknown in ["/", "/favicon.ico", "/0123456789abcdef0123456789abcdef/", "/x/log?item=0"] {
        assert_eq!(status(&served.get(unknown)), "404", "{unknown}");
    }
    for nothing in ["log?item=", "log?item=-1", "log", "dvc.yaml", "../dvc.yaml", "%2e%2e/dvc.yaml"] {
        assert_eq!(status(&served.get(&format!("{path}{nothing}"))), "404", "{nothing}");
    }
    assert_eq!(status(&served.get(&format!("{path}log?item=99999"))), "200", "no work item, no log");
    for host in ["evil.example", "127.0.0.1.evil.example:80", ""] {
        let answer = served.ask("GET", &path, host);
        assert!(status(&answer) == "421" && !answer.contains("succeeded"), "{host}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "HEAD"] {
        let answer = served.ask(method, &path, "localhost");
        assert!(status(&answer) == "405" && answer.contains("allow: GET\r\n"), "{method}: {answer}");
    }
}

#[test]
fn an_address_that_cannot_be_served_at_is_told() {
    let project = Project::from_fixture("sessions");
    project.fanout(["plan"]).succeeded();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = taken.local_addr().expect("it has one").port();
    let ran = project.fanout(["report", &format!("--serve={port}")]);
    assert_eq!(ran.code, Some(5), "{ran:#?}");
    assert!(ran.stderr.starts_with(&format!("error: cannot serve at 127.0.0.1:{port}\n")), "{ran:#?}");
    for (value, code) in [("--serve=somewhere", 2), ("--serve=localhost:80", 2)] {
        let ran = project.fanout(["report", value]);
        assert!(ran.code == Some(code) && ran.stderr.contains("as in 127.0.0.1:8000"), "{ran:#?}");
    }
    let ran = Project::from_fixture("sessions").fanout(["report", "--serve"]);
    assert!(ran.code != Some(0) && ran.stdout.is_empty(), "there is no run: {ran:#?}");
}

#[test]
fn a_run_is_watched_in_a_browser_to_its_end() {
    let Some(chromium) = tool("chromium") else { return };
    let (project, gate) = gated();
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let mut run = run.args(["run", "-j", "2"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let state = || project.fanout(["status"]).stdout;
    wait_until(&state, &|| state().contains("running"));
    let served = Served::of(&project);
    let picture = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).display().to_string();
    let seen = browse(
        &project,
        &chromium,
        &json!([
            {"open": served.url},
            {"until": "document.querySelectorAll('.row .running').length === 2"},
            {"click": ".row:nth-child(1)"},
            {"until": "document.querySelector('#detail pre').textContent.includes('hello from s1')"},
            {"until": "!document.querySelector('#timeline').hidden"},
            {"read": "document.querySelector('.counts .running b').textContent"},
            {"screenshot": picture("live-light.png"), "dark": false},
            {"screenshot": picture("live-dark.png"), "dark": true},
            {"type": "#items input", "text": "s"},
            {"make": gate},
            {"until": "document.querySelector('header p').innerText.startsWith('5 work items succeeded')"},
            {"read": "document.querySelector('#items input').value + document.querySelector('#detail h2').textContent"},
            {"until": "document.querySelector('#detail pre').textContent.includes('hello from s1')"},
            {"read": "document.querySelectorAll('.row .running').length"},
            {"read": "document.querySelector('#away').hidden"},
            {"screenshot": picture("live-ended.png"), "dark": false},
        ]),
    );
    assert!(run.wait().expect("ended").success());
    assert_eq!(seen["complaints"], json!([]));
    assert_eq!(seen["read"], json!(["2", "ss1", 0, true]));
}

#[test]
fn ten_thousand_work_items_are_looked_at_while_the_page_is_fetched_again_and_again() {
    let Some(chromium) = tool("chromium") else { return };
    let project = Project::empty();
    let keys: Vec<String> = (0..10_000).map(|key| format!("s{key:05}")).collect();
    project.write("params.yaml", &format!("keys: [{}]\n", keys.join(", ")));
    project.write(
        "dvc.yaml",
        "stages:\n  make:\n    foreach: ${keys}\n    do:\n      cmd: echo ${item} > ${item}\n      outs: ['${item}']\n",
    );
    project.fanout(["plan"]).succeeded();
    let served = Served::of(&project);
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("live-large.png").display().to_string();
    let seen = browse(
        &project,
        &chromium,
        &json!([
            {"open": served.url},
            {"read": "document.querySelector('#items output').textContent"},
            {"type": "#items input", "text": "s0999"},
            {"read": "document.querySelector('#told').dataset.seen = 'before'"},
            // What has not changed stays.
            {"until": "document.documentElement.dataset.refreshedInMs"},
            {"read": "Number(document.documentElement.dataset.refreshedInMs)"},
            {"read": "document.querySelector('#told').dataset.seen"},
            {"read": "document.querySelector('#items output').textContent"},
            {"read": "document.querySelectorAll('.row').length < 100"},
            {"screenshot": picture, "dark": false},
        ]),
    );
    assert_eq!(seen["complaints"], json!([]));
    let mut read = seen["read"].as_array().expect("a list").clone();
    say(&format!("10,000 work items are fetched again in {} ms", read.remove(2)));
    assert_eq!(json!(read), json!(["10,000 of 10,000", "before", "before", "10 of 10,000", true]));
}
