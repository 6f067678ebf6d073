//! The log of an attempt, for what it tells of attempts that left no result.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Bytes of a line that are read at once.
const MAX_LINE: u64 = 1 << 16;

/// The stages whose commands began, by the log of an attempt; none where there is no log.
pub(crate) fn begun(log: &Path) -> io::Result<HashSet<String>> {
    let mut begun = HashSet::new();
    let file = match File::open(log) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(begun),
        file => file?,
    };
    let mut reader = BufReader::new(file);
    let mut line = vec![];
    // A command may print for hours without ever ending a line.
    while (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        let stage = text.trim_end().strip_suffix("':").and_then(|text| Some(text.rsplit_once("Running stage '")?.1));
        begun.extend(stage.map(str::to_owned));
        line.clear();
    }
    Ok(begun)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_whose_commands_began() {
        let log = tempfile::NamedTempFile::new().expect("a file");
        let text = format!(
            "Running stage 'a@1':\n> x\n{}xRunning stage 'p/dvc.yaml:b':\nStage 'c' is cached - skipping run, checking out outputs\n",
            "y".repeat(200_000) + "\n"
        );
        crate::adapters::fs::write_plain(log.path(), text.as_bytes()).expect("written");
        let begun = begun(log.path()).expect("read");
        assert_eq!(begun, HashSet::from(["a@1".to_owned(), "p/dvc.yaml:b".to_owned()]));
        assert!(super::begun(&log.path().with_extension("none")).expect("no error").is_empty());
    }
}
