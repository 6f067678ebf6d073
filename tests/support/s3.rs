//! An S3 server on loopback that keeps what it is given, with buckets of its own for each test, and a proxy that breaks
//! what passes through it.
//!
//! The server is `moto_server` of the virtual environment that DVC lives in: it starts in a second, and `dvc` reaches it as
//! the program does.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::{Project, Ran, tool};

/// How long the server may take to start.
const START: Duration = Duration::from_secs(60);

/// A server; it goes with this.
pub(crate) struct S3 {
    server: Child,
    address: String,
}

impl S3 {
    /// Starts one with the bucket `bucket`; `None` where there is no server.
    pub(crate) fn start() -> Option<S3> {
        let program = tool("moto_server")?;
        let port = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
        let address = format!("127.0.0.1:{port}");
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = S3 { server: command.spawn().expect("started"), address };
        let begun = Instant::now();
        while TcpStream::connect(&server.address).is_err() {
            assert!(begun.elapsed() < START, "the server did not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(server.ask("PUT", "/bucket").starts_with("HTTP/1.1 200"));
        Some(server)
    }

    /// Sends a request, and returns the answer with its head.
    pub(crate) fn ask(&self, method: &str, path: &str) -> String {
        self.send(method, path, b"")
    }

    /// The same with a body.
    pub(crate) fn send(&self, method: &str, path: &str, body: &[u8]) -> String {
        send_to(&self.address, method, path, body)
    }

    /// A proxy that does not list an object before some time has passed since it was first listed.
    pub(crate) fn lagging(&self, lag: Duration) -> Proxy {
        let (address, mut seen) = (self.address.clone(), std::collections::HashMap::new());
        Proxy::start(self, move |method, path| {
            if method != "GET" || !path.contains("list-type=2") {
                return Fate::Passes;
            }
            let answer = send_to(&address, "GET", path, b"");
            let listing = answer.split_once("\r\n\r\n").expect("an answer has a body").1;
            let mut parts = listing.split("<Contents>");
            let mut shown = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                let (object, rest) = part.split_once("</Contents>").expect("it ends");
                let key = object.split(['>', '<']).nth(2).unwrap_or_default().to_owned();
                if seen.entry(key).or_insert_with(Instant::now).elapsed() >= lag {
                    shown.push_str(&format!("<Contents>{object}</Contents>"));
                }
                shown.push_str(rest);
            }
            Fate::Answer(shown)
        })
    }

    /// The keys of all objects.
    pub(crate) fn keys(&self) -> Vec<String> {
        let listing = self.ask("GET", "/bucket?list-type=2");
        let keys = listing.split("<Key>").skip(1).filter_map(|rest| rest.split("</Key>").next());
        keys.map(str::to_owned).collect()
    }

    /// What an object holds, as text.
    pub(crate) fn read(&self, key: &str) -> String {
        let answer = self.ask("GET", &format!("/bucket/{key}"));
        answer.split_once("\r\n\r\n").expect("an answer has a body").1.to_owned()
    }

    /// Where programs reach the server.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives a project a remote in the bucket that only those reach who have credentials in their environment.
    pub(crate) fn add_remote(&self, project: &Project) {
        project.dvc(["remote", "add", "--quiet", "--default", "store", "s3://bucket/remote"]);
        project.dvc(["remote", "modify", "--quiet", "store", "endpointurl", &self.endpoint()]);
        project.commit("remote");
    }

    /// Runs `dvc-fanout` in a project, with credentials for a server.
    pub(crate) fn fanout(&self, project: &Project, arguments: &[&str]) -> Ran {
        Ran::of(command(project, project.root(), &self.endpoint()).args(arguments))
    }
}

/// Sends a request to a server, and returns the answer with its head.
fn send_to(address: &str, method: &str, path: &str, body: &[u8]) -> String {
    let mut line = TcpStream::connect(address).expect("connected");
    // The server wants to know who asks, and believes it.
    let who = "AWS4-HMAC-SHA256 Credential=key/20240101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: {who}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    line.write_all(head.as_bytes()).expect("sent");
    line.write_all(body).expect("sent");
    let mut answer = vec![];
    line.read_to_end(&mut answer).expect("answered");
    String::from_utf8_lossy(&answer).into_owned()
}

/// `dvc-fanout` in a folder, with credentials for what listens at an address.
pub(crate) fn command(project: &Project, folder: &Path, endpoint: &str) -> Command {
    let mut command = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    command.current_dir(folder).env("AWS_ENDPOINT_URL", endpoint);
    command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "s3cr3t-of-the-test");
    command.env("AWS_DEFAULT_REGION", "us-east-1");
    command
}

impl Drop for S3 {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    /// It reaches the server as a request for another path.
    PassesAs(String),
    /// It is answered by this document without having reached the server.
    Answer(String),
    /// It is refused with this document without having reached the server.
    Refused(String),
    /// It is answered by this status without having reached the server.
    Status(u16),
    /// It reaches the server, and the answer is cut off in the middle.
    Cut,
    /// The connection is closed without an answer.
    Hangup,
    /// The answer comes in bits, with so long a pause before each.
    Slow(Duration),
    /// The server's clock is so many seconds ahead.
    Skewed(i64),
}

type Rule = dyn FnMut(&str, &str) -> Fate + Send;

/// Stands between programs and a server.
pub(crate) struct Proxy {
    pub endpoint: String,
    /// What was asked: method and path.
    pub seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Proxy {
    /// Listens for as long as the test runs; `rule` says what becomes of a request by its method and path.
    pub(crate) fn start(server: &S3, rule: impl FnMut(&str, &str) -> Fate + Send + 'static) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let endpoint = format!("http://{}", listener.local_addr().expect("one"));
        let rule: Arc<Mutex<Box<Rule>>> = Arc::new(Mutex::new(Box::new(rule)));
        let (seen, upstream) = (Arc::new(Mutex::new(vec![])), server.address.clone());
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            for line in listener.incoming().flatten() {
                let (rule, all, upstream) = (Arc::clone(&rule), Arc::clone(&all), upstream.clone());
                std::thread::spawn(move || pass(line, &upstream, &rule, &all));
            }
        });
        Proxy { endpoint, seen }
    }
}

/// Passes one request on, as far as it may come, and closes the connection behind it.
fn pass(
    mut line: TcpStream,
    upstream: &str,
    rule: &Mutex<Box<Rule>>,
    seen: &Mutex<Vec<(String, String)>>,
) -> Option<()> {
    let mut head = vec![];
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        line.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut words = text.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let length = text.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    line.read_exact(&mut body).ok()?;
    let fate = rule.lock().ok()?(&method, &path);
    seen.lock().ok()?.push((method.clone(), path.clone()));
    let said = match &fate {
        Fate::Status(status) => Some((*status, String::new())),
        Fate::Answer(document) => Some((200, document.clone())),
        Fate::Refused(document) => Some((403, document.clone())),
        Fate::Passes | Fate::PassesAs(_) | Fate::Cut | Fate::Hangup | Fate::Slow(_) | Fate::Skewed(_) => None,
    };
    if let Some((status, document)) = said {
        let length = document.len();
        let head = format!("HTTP/1.1 {status} Said\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        return line.write_all((head + &document).as_bytes()).ok();
    }
    let text = match &fate {
        Fate::PassesAs(other) => text.replacen(&format!("{method} {path} "), &format!("{method} {other} "), 1),
        _ => text,
    };
    if fate == Fate::Hangup {
        return None;
    }
    let mut server = TcpStream::connect(upstream).ok()?;
    let kept = text.lines().filter(|line| !line.is_empty() && !line.to_lowercase().starts_with("connection:"));
    let head = kept.fold(String::new(), |head, line| head + line + "\r\n") + "Connection: close\r\n\r\n";
    server.write_all(head.as_bytes()).ok()?;
    server.write_all(&body).ok()?;
    let mut answer = vec![];
    server.read_to_end(&mut answer).ok()?;
    if let Fate::Slow(pause) = fate {
        for bit in answer.chunks((answer.len() / 4).max(1)) {
            std::thread::sleep(pause);
            line.write_all(bit).ok()?;
        }
        return Some(());
    }
    if let Fate::Skewed(seconds) = fate {
        answer = skewed(&answer, seconds);
    }
    let end = if fate == Fate::Cut { answer.len() - answer.len().min(20) } else { answer.len() };
    line.write_all(&answer[..end]).ok()
}

/// An answer of a server whose clock is so many seconds ahead.
fn skewed(answer: &[u8], seconds: i64) -> Vec<u8> {
    let at = answer.windows(4).position(|window| window == b"\r\n\r\n").map_or(answer.len(), |at| at + 4);
    let head = String::from_utf8_lossy(&answer[..at]);
    let ahead = jiff::SignedDuration::from_secs(seconds);
    let shifted = |text: &str| {
        let time = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).expect("a date");
        (time + ahead).strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
    };
    let lines = head.split("\r\n").map(|line| match line.split_once(": ") {
        Some((name, date)) if ["date", "last-modified"].contains(&name.to_lowercase().as_str()) => {
            format!("{name}: {}", shifted(date))
        }
        _ => line.to_owned(),
    });
    let head = lines.collect::<Vec<_>>().join("\r\n");
    // Times have one length, so that the length of a listing stays.
    let body = String::from_utf8_lossy(&answer[at..]).into_owned();
    let mut parts = body.split("<LastModified>");
    let mut listing = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (time, rest) = part.split_once('<').expect("it ends");
        let time: jiff::Timestamp = time.parse().expect("a time");
        listing.push_str(&format!("<LastModified>{:.3}<{rest}", time + ahead));
    }
    let body = if listing == body { answer[at..].to_vec() } else { listing.into_bytes() };
    [head.into_bytes(), body].concat()
}
