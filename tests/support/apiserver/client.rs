//! A client of few lines, for what tests ask the cluster themselves.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use serde_json::Value;

/// Sends a request and returns the status and the JSON of the answer, `null` if it is none.
pub(crate) fn call(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let (status, length, mut reader) = open(address, method, path, body);
    let mut text = vec![0; length];
    reader.read_exact(&mut text).expect("the answer is whole");
    (status, serde_json::from_slice(&text).unwrap_or_default())
}

/// Starts a watch and returns its events.
pub(crate) fn watch(address: SocketAddr, path: &str) -> impl Iterator<Item = Value> + use<> {
    let (_, _, reader) = open(address, "GET", path, None);
    // The sizes of chunks are no JSON objects.
    let lines = reader.lines().map_while(Result::ok).take_while(|line| line != "0");
    lines.filter_map(|line| serde_json::from_str(&line).ok()).filter(Value::is_object)
}

/// Returns the status, the length of the body if it has one, and what follows the head.
fn open(address: SocketAddr, method: &str, path: &str, body: Option<&Value>) -> (u16, usize, BufReader<TcpStream>) {
    let mut stream = TcpStream::connect(address).expect("the server listens");
    let body = body.map(Value::to_string).unwrap_or_default();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).expect("the server reads");
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).expect("there is an answer");
    let status = line.split_whitespace().nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).expect("there are headers");
        match header.trim_end().split_once(": ") {
            Some(("Content-Length", value)) => length = value.parse().expect("a length"),
            Some(_) => {}
            None => return (status, length, reader),
        }
    }
}
