//! As much of HTTP/1.1 as a Kubernetes client uses: kept-alive connections, bodies with a length, chunked streams.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use serde_json::Value;

use super::{Cluster, api};

/// The API server's limit of a request's body.
const MAX_BODY: usize = 3 * 1024 * 1024;

pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.query(name), Some("true" | "1"))
    }
}

/// An answer that is not a stream.
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn json(status: u16, body: &Value) -> Self {
        let headers = vec![("Content-Type", "application/json".to_owned())];
        Response { status, headers, body: body.to_string().into_bytes() }
    }

    pub(super) fn text(status: u16, body: Vec<u8>) -> Self {
        Response { status, headers: vec![("Content-Type", "text/plain".to_owned())], body }
    }
}

type WriteStream = Box<dyn FnOnce(&mut Chunks) -> io::Result<bool>>;

/// What a request is answered with.
pub(super) enum Answer {
    Whole(Response),
    /// A body without a known end; the function writes it until it is over. `false` leaves out the regular end, as a
    /// connection does that is cut.
    Stream(WriteStream),
    /// The connection is closed without an answer.
    HangUp,
}

/// Writes a chunked body.
pub(super) struct Chunks(TcpStream);

impl Chunks {
    pub(super) fn send(&mut self, data: &[u8]) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let mut chunk = format!("{:x}\r\n", data.len()).into_bytes();
        chunk.extend_from_slice(data);
        chunk.extend_from_slice(b"\r\n");
        self.0.write_all(&chunk)
    }
}

/// Accepts connections until the cluster stops; a thread for each.
pub(super) fn serve(listener: &TcpListener, cluster: &Arc<Cluster>) {
    for connection in listener.incoming() {
        if cluster.is_stopped() {
            return;
        }
        let (Ok(connection), cluster) = (connection, Arc::clone(cluster)) else { continue };
        // A client that goes away in the middle is no fault of the server.
        thread::spawn(move || drop(talk(connection, &cluster)));
    }
}

fn talk(connection: TcpStream, cluster: &Arc<Cluster>) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    while let Some(request) = read_request(&mut reader)? {
        match api::answer(cluster, &request) {
            Answer::Whole(response) => write_response(&mut writer, &response)?,
            Answer::Stream(stream) => {
                writer.write_all(
                    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
                )?;
                if !stream(&mut Chunks(writer.try_clone()?))? {
                    return writer.shutdown(std::net::Shutdown::Both);
                }
                writer.write_all(b"0\r\n\r\n")?;
            }
            Answer::HangUp => return writer.shutdown(std::net::Shutdown::Both),
        }
    }
    Ok(())
}

fn read_request(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut length = 0;
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        match header.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let query = query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key), decode(value))
    });
    Ok(Some(Request { method, path: decode(path), query: query.collect(), body }))
}

/// Whether a body is more than the server reads.
pub(super) fn is_too_large(request: &Request) -> bool {
    request.body.len() > MAX_BODY
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write_response(writer: &mut TcpStream, response: &Response) -> io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\n", response.status);
    for (name, value) in &response.headers {
        head += &[name, ": ", value, "\r\n"].concat();
    }
    if response.status != 204 {
        head += &["Content-Length: ", &response.body.len().to_string(), "\r\n"].concat();
    }
    head.push_str("\r\n");
    let mut whole = head.into_bytes();
    whole.extend_from_slice(&response.body);
    writer.write_all(&whole)
}
