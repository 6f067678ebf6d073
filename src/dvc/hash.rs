//! Hashes of files and directories as DVC computes them; reading is `adapters::hash`.
//!
//! A file's hash is the MD5 of its bytes. A directory's is the MD5 of a JSON text that lists the files below it
//! (see [`directory_text`]) with `.dir` behind it. Entries of DVC 2 use [`HashName::Md5Dos2unix`]: text files are
//! hashed with their CRLF turned into LF (`dvc_data/hashfile/hash.py`, `istextfile.py`).

use std::fmt::{self, Write as _};

use md5::Digest as _;

/// A digest.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Md5([u8; 16]);

impl Md5 {
    /// The digest of a whole text.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Md5(md5::Md5::digest(bytes).into())
    }

    /// Reads 32 lower-case hexadecimal digits; DVC never matches upper-case ones.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Some(byte - b'0'),
            b'a'..=b'f' => Some(byte - b'a' + 10),
            _ => None,
        };
        let pairs: &[[u8; 2]; 16] = text.as_bytes().as_chunks().0.try_into().ok().filter(|_| text.len() == 32)?;
        let mut bytes = [0; 16];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Md5(bytes))
    }
}

impl fmt::Display for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Md5 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How files are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum HashName {
    /// The bytes.
    Md5,
    /// DVC 2: the bytes, or for text the lines with LF ends.
    Md5Dos2unix,
}

impl HashName {
    /// DVC's name of it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            HashName::Md5 => "md5",
            HashName::Md5Dos2unix => "md5-dos2unix",
        }
    }
}

/// What was found at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hashed {
    File {
        md5: Md5,
        size: u64,
        is_exec: bool,
    },
    /// `size` is the sum of the files' sizes.
    Directory {
        md5: Md5,
        size: u64,
        nfiles: u64,
    },
}

impl Hashed {
    pub(crate) fn size(&self) -> u64 {
        match self {
            Hashed::File { size, .. } | Hashed::Directory { size, .. } => *size,
        }
    }

    /// Whether it is a file that somebody may execute.
    pub(crate) fn is_exec(&self) -> bool {
        matches!(self, Hashed::File { is_exec: true, .. })
    }
}

/// Files are hashed in blocks of this size, which matters to [`HashName::Md5Dos2unix`].
pub(crate) const BLOCK: usize = 1 << 20;

/// The hash of a file as its blocks come in.
pub(crate) struct FileHash {
    name: HashName,
    md5: md5::Md5,
}

impl FileHash {
    pub(crate) fn new(name: HashName) -> Self {
        FileHash { name, md5: md5::Md5::new() }
    }

    /// Takes the next block: [`BLOCK`] bytes, fewer only at the end of the file.
    pub(crate) fn update(&mut self, block: &[u8]) {
        if self.name == HashName::Md5 || !is_text(&block[..block.len().min(512)]) {
            self.md5.update(block);
            return;
        }
        let mut rest = block;
        while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
            self.md5.update(&rest[..at]);
            rest = &rest[at + 1..];
        }
        self.md5.update(rest);
    }

    pub(crate) fn finish(self) -> Md5 {
        Md5(self.md5.finalize().into())
    }
}

/// Whether the beginning of a block looks like text: no NUL, at most 30 % outside of printable ASCII and blanks.
pub(crate) fn is_text(beginning: &[u8]) -> bool {
    let is_odd = |byte: &&u8| !matches!(byte, b' '..=b'~' | b'\n' | b'\r' | b'\t' | b'\x0c' | b'\x08');
    !beginning.contains(&0) && beginning.iter().filter(is_odd).count() * 10 <= beginning.len() * 3
}

/// A file below a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Relative to the directory, with `/`.
    pub relpath: String,
    pub md5: Md5,
}

/// The text of a directory's object: its members as JSON, sorted by path.
///
/// ```text
/// [{"md5": "d3b07384d113edec49eaa6238ad5ff00", "relpath": "a/\u00e9"}, …]
/// ```
pub(crate) fn directory_text(members: &mut [Member]) -> String {
    members.sort_by(|a, b| a.relpath.cmp(&b.relpath));
    let mut text = String::with_capacity(members.len() * 80 + 2);
    text.push('[');
    for (position, member) in members.iter().enumerate() {
        text.push_str(if position > 0 { ", " } else { "" });
        text.push_str("{\"md5\": \"");
        text.push_str(&member.md5.to_string());
        text.push_str("\", \"relpath\": ");
        push_json_string(&mut text, &member.relpath);
        text.push('}');
    }
    text.push(']');
    text
}

/// Writes a string as Python's `json.dumps` does: everything outside of ASCII escaped, in UTF-16 units.
pub(crate) fn push_json_string(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            '\x08' => text.push_str("\\b"),
            '\x0c' => text.push_str("\\f"),
            ' '..='~' => text.push(c),
            _ => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(text, "\\u{unit:04x}").expect("a String takes every text");
                }
            }
        }
    }
    text.push('"');
}

/// Reads a directory's object; `None` if it is none (DVC then says the object is corrupted).
pub(crate) fn parse_directory_text(text: &[u8]) -> Option<Vec<Member>> {
    #[derive(serde::Deserialize)]
    struct Entry {
        md5: String,
        relpath: String,
    }
    let entries: Vec<Entry> = serde_json::from_slice(text).ok()?;
    entries.into_iter().map(|entry| Some(Member { md5: Md5::parse(&entry.md5)?, relpath: entry.relpath })).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: HashName, bytes: &[u8], expected: &str) {
        let mut hash = FileHash::new(name);
        bytes.chunks(BLOCK).for_each(|block| hash.update(block));
        assert_eq!(hash.finish().to_string(), expected);
    }

    #[test]
    fn files_hash_as_in_dvc() {
        check(HashName::Md5, b"", "d41d8cd98f00b204e9800998ecf8427e");
        check(HashName::Md5, b"foo\n", "d3b07384d113edec49eaa6238ad5ff00");
        check(HashName::Md5Dos2unix, b"", "d41d8cd98f00b204e9800998ecf8427e");
        check(HashName::Md5Dos2unix, b"foo\r\n", "d3b07384d113edec49eaa6238ad5ff00");
        check(HashName::Md5Dos2unix, b"a\rb\r", "eea524bfa8bb496aaed2fa86a3c54a9e");
        // More than 30 % of it is no text.
        check(HashName::Md5Dos2unix, b"\x01\x02\x03\x04aaaaaaa\r\n", "c4d72c6527c7785b6c1420cbbfb0539e");
        check(HashName::Md5Dos2unix, b"\0\r\n", &Md5::of(b"\0\r\n").to_string());
        check(HashName::Md5Dos2unix, b"\r\r\n\r\n", &Md5::of(b"\r\n\n").to_string());
    }

    #[test]
    fn old_hashes_judge_each_block_by_itself() {
        let mut bytes = vec![b'a'; BLOCK];
        bytes[BLOCK - 1] = b'\r';
        bytes.extend_from_slice(b"\n\r\n");
        let mut expected = bytes.clone();
        expected.remove(BLOCK + 1);
        check(HashName::Md5Dos2unix, &bytes, &Md5::of(&expected).to_string());
    }

    #[test]
    fn a_directory_is_a_json_text() {
        let md5 = Md5::of(b"foo\n");
        let member = |path: &str| Member { relpath: path.into(), md5 };
        let mut members = [member("b/\"\u{7f}\u{e9}\u{1f680}\n"), member("a.x"), member("a/x"), member("a")];
        assert_eq!(
            directory_text(&mut members),
            "[{\"md5\": \"d3b07384d113edec49eaa6238ad5ff00\", \"relpath\": \"a\"}, \
             {\"md5\": \"d3b07384d113edec49eaa6238ad5ff00\", \"relpath\": \"a.x\"}, \
             {\"md5\": \"d3b07384d113edec49eaa6238ad5ff00\", \"relpath\": \"a/x\"}, \
             {\"md5\": \"d3b07384d113edec49eaa6238ad5ff00\", \"relpath\": \"b/\\\"\\u007f\\u00e9\\ud83d\\ude80\\n\"}]"
        );
        assert_eq!(parse_directory_text(directory_text(&mut members).as_bytes()).as_deref(), Some(&members[..]));
        assert_eq!(Md5::of(directory_text(&mut []).as_bytes()).to_string(), "d751713988987e9331980363e24189ce");
        assert_eq!(parse_directory_text(b"{}"), None);
    }

    #[test]
    fn digests_are_read_in_lower_case_only() {
        let md5 = Md5::of(b"");
        assert_eq!(Md5::parse("d41d8cd98f00b204e9800998ecf8427e"), Some(md5));
        assert_eq!(Md5::parse("D41d8cd98f00b204e9800998ecf8427e"), None);
        assert_eq!(Md5::parse("d41d8cd98f00b204e9800998ecf8427"), None);
        assert_eq!(Md5::parse("d41d8cd98f00b204e9800998ecf8427e0"), None);
    }
}
