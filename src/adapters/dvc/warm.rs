//! A DVC that is loaded once: most of the CPU time of a `dvc repro` goes into starting Python and importing DVC.
//!
//! A Python program (`process.py`, whose head describes what is said on the sockets), a child of this process,
//! imports DVC and forks a process for each call. That one becomes a child of this process too, since it inherits
//! orphans, and leads a group of its own: it is watched, stopped and outlived like a `dvc` that was started. It waits for
//! a word before it does anything, so that a call that comes to nothing has run nothing, and `dvc` can be started the
//! plain way instead.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::process::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::adapters::fs;
use crate::adapters::process::{self, Program, Running};
use crate::model::nice::Nice;

/// How long loading may take; a network file system under load is slow.
const LOADING: Duration = Duration::from_secs(120);
/// How long a forked process may take to be there.
const FORKING: Duration = Duration::from_secs(30);
/// Bytes of what was said instead of loading that are kept.
const SAID: u64 = 2000;

type Variable = (OsString, OsString);

/// A loaded DVC, or one that is just being loaded.
pub(crate) struct WarmDvc {
    server: Running,
    line: UnixStream,
    /// What the server and DVC print while they load; must stay empty.
    said: PathBuf,
    /// The environment that DVC was loaded in, beyond this process's own.
    environment: Vec<Variable>,
    ready: bool,
}

impl WarmDvc {
    /// Starts to load DVC with the program that runs the script, as it would be in the directory and the environment of
    /// `call`. What is said meanwhile goes to the file `said`.
    pub(crate) fn load(
        script: &Program,
        said: PathBuf,
        call: &Program,
        directory: &Path,
        nice: Option<Nice>,
    ) -> io::Result<WarmDvc> {
        fs::write_plain(&said, b"").map_err(io::Error::other)?;
        let output = fs::append(&said).map_err(io::Error::other)?;
        let mut command = script.clone().arg("serve").arg(std::process::id().to_string());
        command.environment.clone_from(&call.environment);
        let (server, line) = process::start_on_line(&command, directory, &output, nice)?;
        line.set_nonblocking(true)?;
        let line = UnixStream::from_std(line)?;
        Ok(WarmDvc { server, line, said, environment: call.environment.clone(), ready: false })
    }

    /// The process that calls are forked from.
    pub(crate) fn id(&self) -> Option<Pid> {
        self.server.id()
    }

    /// Runs the script with the arguments and the environment of `program`.
    ///
    /// On an error nothing was run. Where this is given up half-way, what it started is among the orphans.
    pub(crate) async fn call(&mut self, program: &Program, directory: &Path, log: &File) -> io::Result<Running> {
        if !self.ready {
            self.ready = self.wait_until_loaded().await?;
        }
        let (ours, theirs) = StdUnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut control = UnixStream::from_std(ours)?;
        self.send(&self.request(program, directory), [log.as_fd(), theirs.as_fd()]).await?;
        drop(theirs);
        let id = within(FORKING, control.read_i32()).await?;
        let child = Pid::from_raw(id).and_then(process::adopted);
        let mut child = child.ok_or_else(|| io::Error::other(format!("process {id} is not a child of this one")))?;
        let told = async {
            control.write_all(b"+").await?;
            control.read_u8().await
        };
        if let Err(error) = within(FORKING, told).await {
            process::stop(&mut child, Duration::ZERO).await;
            return Err(error);
        }
        Ok(child)
    }

    async fn wait_until_loaded(&mut self) -> io::Result<bool> {
        let loaded = within(LOADING, self.line.read_u8()).await;
        let said = fs::read_tail(&self.said, SAID).map_err(io::Error::other)?;
        match loaded {
            Ok(_) if said.is_empty() => Ok(true),
            // It belongs into the log of each call, as a plain `dvc` says it each time.
            Ok(_) => Err(io::Error::other(format!("DVC says while it loads: {}", String::from_utf8_lossy(&said)))),
            Err(error) => Err(io::Error::other(format!("{error}: {}", String::from_utf8_lossy(&said)))),
        }
    }

    /// The bytes that ask for a call.
    fn request(&self, program: &Program, directory: &Path) -> Vec<u8> {
        let mut fields: Vec<Vec<u8>> = vec![directory.as_os_str().as_bytes().to_vec()];
        fields.push(program.arguments.len().to_string().into_bytes());
        fields.extend(program.arguments.iter().map(|argument| argument.as_bytes().to_vec()));
        let gone = self.environment.iter().filter(|(name, _)| !program.environment.iter().any(|(new, _)| new == name));
        fields.extend(gone.map(|(name, _)| name.as_bytes().to_vec()));
        let changed = program.environment.iter().filter(|variable| !self.environment.contains(variable));
        fields.extend(changed.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()));
        let body: Vec<u8> = fields.into_iter().flat_map(|field| [field, vec![0]].concat()).collect();
        let length = u32::try_from(body.len()).expect("a command line is shorter than the kernel's limit of some MiB");
        [&length.to_be_bytes(), body.as_slice()].concat()
    }

    /// Sends bytes and, with the first of them, files.
    async fn send(&mut self, bytes: &[u8], files: [BorrowedFd<'_>; 2]) -> io::Result<()> {
        let sent = self.line.async_io(tokio::io::Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            control.push(SendAncillaryMessage::ScmRights(&files));
            let bytes = [IoSlice::new(bytes)];
            Ok(rustix::net::sendmsg(&self.line, &bytes, &mut control, SendFlags::NOSIGNAL)?)
        });
        let sent = sent.await?;
        self.line.write_all(&bytes[sent..]).await
    }
}

/// Waits for an answer, but not for ever.
async fn within<T>(limit: Duration, answer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}
