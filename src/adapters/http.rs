//! A server of pages on this machine, for the browser of whoever started it: GET alone, one answer after another.
//!
//! Others on this machine reach the same port, and so does any web page that the browser has open. So nobody is answered
//! who does not know the secret in the address, and none that was asked for by the name of another host: such a page may
//! have its own name lead to this machine (DNS rebinding).

use std::cell::RefCell;
use std::convert::Infallible;
use std::io::{self, Read as _};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::LocalSet;

use crate::adapters::process;

/// Connections at a time; a browser opens six.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is accepted after that went wrong, say for want of file descriptors.
const REST: Duration = Duration::from_millis(200);
/// Bytes of the secret.
const SECRET: usize = 16;
/// What no answer is without: it is for this page alone, and kept nowhere.
const ALWAYS: [(HeaderName, &str); 5] = [
    (header::CACHE_CONTROL, "no-store"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What somebody wants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// The path below the secret, without a slash in front.
    pub path: &'a str,
    query: &'a str,
}

impl<'a> Asked<'a> {
    /// A value of the query; as it is written there.
    pub(crate) fn value(&self, name: &str) -> Option<&'a str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub is_found: bool,
    /// Its content type.
    pub kind: &'static str,
    pub body: Vec<u8>,
    /// Headers of this program's own.
    pub headers: Vec<(&'static str, String)>,
}

impl Answer {
    /// Says in words that there is nothing.
    pub(crate) fn nothing(words: &str) -> Answer {
        Answer { is_found: false, ..Answer::text(format!("{words}\n").into_bytes()) }
    }

    pub(crate) fn text(body: Vec<u8>) -> Answer {
        Answer { is_found: true, kind: "text/plain; charset=utf-8", body, headers: vec![] }
    }

    pub(crate) fn page(page: Vec<u8>) -> Answer {
        Answer { kind: "text/html; charset=utf-8", ..Answer::text(page) }
    }
}

/// A server that has its port.
pub(crate) struct Server {
    runtime: tokio::runtime::Runtime,
    listener: TcpListener,
    address: SocketAddr,
    secret: String,
}

impl Server {
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Server> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind(address))?;
        let address = listener.local_addr()?;
        Ok(Server { runtime, listener, address, secret: secret()? })
    }

    /// What to type into a browser.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/{}/", self.address, self.secret)
    }

    /// Answers for as long as this process lives.
    pub(crate) fn serve(self, answer: impl FnMut(Asked<'_>) -> Answer + 'static) -> ! {
        let Server { runtime, listener, secret, .. } = self;
        let (secret, answer): (Rc<str>, _) = (secret.into(), Rc::new(RefCell::new(answer)));
        let free = Rc::new(Semaphore::new(CONNECTIONS));
        let local = LocalSet::new();
        loop {
            local.block_on(&runtime, async {
                while free.available_permits() == 0 {
                    tokio::time::sleep(REST).await;
                }
                let Ok((stream, _)) = listener.accept().await else { return tokio::time::sleep(REST).await };
                let (place, secret, answer) = (Rc::clone(&free), Rc::clone(&secret), Rc::clone(&answer));
                tokio::task::spawn_local(async move {
                    let _place = place.acquire().await;
                    let service = service_fn(|request: Request<Incoming>| {
                        let response = respond(&request, &secret, &mut *answer.borrow_mut());
                        async move { Ok::<_, Infallible>(response) }
                    });
                    let mut connection = http1::Builder::new();
                    connection.timer(TokioTimer::new()).header_read_timeout(PATIENCE);
                    // Whoever hangs up needs no answer.
                    drop(connection.serve_connection(TokioIo::new(stream), service).await);
                });
            });
        }
    }
}

fn respond(
    request: &Request<Incoming>,
    secret: &str,
    answer: &mut impl FnMut(Asked<'_>) -> Answer,
) -> Response<Full<Bytes>> {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let inside = request.uri().path().strip_prefix('/').and_then(|path| path.split_once('/'));
    let (status, answer) = if request.method() != Method::GET {
        (StatusCode::METHOD_NOT_ALLOWED, Answer::nothing("this server is for reading alone"))
    } else if !host.is_some_and(|host| is_own(host, &process::host())) {
        let words = "this server is asked for by an address, by `localhost`, or by this machine's own name";
        (StatusCode::MISDIRECTED_REQUEST, Answer::nothing(words))
    } else {
        match inside.filter(|(said, _)| is_same(said, secret)) {
            None => (StatusCode::NOT_FOUND, Answer::nothing("open the address that `dvc-fanout report` has printed")),
            Some((_, path)) => {
                let answer = answer(Asked { path, query: request.uri().query().unwrap_or_default() });
                (if answer.is_found { StatusCode::OK } else { StatusCode::NOT_FOUND }, answer)
            }
        }
    };
    let mut response = Response::new(Full::new(Bytes::from(answer.body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(header::ALLOW, HeaderValue::from_static("GET"));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

/// Whether a `Host` header cannot be the name that somebody else has given to this machine: it is an address,
/// `localhost`, or what the machine calls itself. Its port is that of a tunnel, perhaps.
fn is_own(host: &str, machine: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.parse::<IpAddr>().is_ok() || name.eq_ignore_ascii_case("localhost") || name.eq_ignore_ascii_case(machine)
}

/// Compares in a time that tells nothing of where two texts differ.
fn is_same(one: &str, other: &str) -> bool {
    let differing = one.bytes().zip(other.bytes()).fold(0, |differing, (one, other)| differing | (one ^ other));
    one.len() == other.len() && differing == 0
}

/// What nobody guesses, in hexadecimal digits.
fn secret() -> io::Result<String> {
    let mut bytes = [0; SECRET];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(format!("{:032x}", u128::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_an_address_or_this_machine() {
        for host in ["127.0.0.1:80", "127.0.0.1", "[::1]:8000", "10.0.0.7:1", "localhost:9", "LOCALHOST", "Node7:80"] {
            assert!(is_own(host, "node7"), "{host}");
        }
        for host in
            ["evil.example:80", "localhost.evil.example", "node7.evil.example", "", ":80", "127.0.0.1.evil.example:1"]
        {
            assert!(!is_own(host, "node7"), "{host}");
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(is_same("abc", "abc") && !is_same("abc", "abd") && !is_same("ab", "abc") && !is_same("", "abc"));
        let one = secret().expect("made");
        assert!(one.len() == 2 * SECRET && one != secret().expect("made"), "{one}");
    }

    #[test]
    fn values_of_a_query_are_found_by_their_names() {
        let asked = Asked { path: "log", query: "item=3&from=&items=4" };
        let values = ["item", "from", "items", "none"].map(|name| asked.value(name));
        assert_eq!(values, [Some("3"), Some(""), Some("4"), None]);
    }
}
