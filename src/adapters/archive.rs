//! Files and folders on their way to another machine, as a tar archive.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::adapters::fs::{self, At as _, FsError};

/// Bytes that are copied at a time.
const BLOCK: usize = 1 << 16;

/// Packs what lies at paths below a folder, with all that is in it. A link to a file is packed as the file; what is
/// neither file, folder nor link is left out, and so is what is gone.
pub(crate) fn pack<'p>(root: &Path, paths: impl Iterator<Item = &'p str>, to: &Path) -> Result<(), FsError> {
    let mut paths = paths;
    fs::write_by(to, |file| {
        let mut archive = tar::Builder::new(file);
        paths.try_for_each(|path| add(&mut archive, root, Path::new(path)))?;
        archive.finish()
    })
}

fn add(archive: &mut tar::Builder<&mut dyn io::Write>, root: &Path, path: &Path) -> io::Result<()> {
    let at = root.join(path);
    let Ok(found) = at.symlink_metadata() else { return Ok(()) };
    if at.is_file() {
        return archive.append_file(path, &mut File::open(&at)?);
    }
    if found.is_symlink() {
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&found);
        header.set_size(0);
        return archive.append_link(&mut header, path, std::fs::read_link(&at)?);
    }
    if !found.is_dir() {
        return Ok(());
    }
    archive.append_dir(path, &at)?;
    let mut names: Vec<_> = at.read_dir()?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<_>>()?;
    names.sort_unstable_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
    names.iter().try_for_each(|name| add(archive, root, &path.join(name)))
}

/// Unpacks an archive below a folder; nothing comes out of it that leads elsewhere.
pub(crate) fn unpack(archive: &Path, to: &Path) -> Result<(), FsError> {
    fs::create_dir(to)?;
    let mut opened = tar::Archive::new(File::open(archive).at("read", archive)?);
    opened.set_preserve_permissions(true);
    opened.set_preserve_mtime(false);
    opened.unpack(to).at("unpack", archive)
}

/// Splits a file into those that it was made of, each with its size; what is missing at its end is missing in them.
pub(crate) fn split<'p>(file: &Path, parts: impl Iterator<Item = (&'p Path, u64)>) -> Result<(), FsError> {
    let mut from = File::open(file).at("read", file)?;
    let mut block = vec![0; BLOCK];
    for (part, size) in parts {
        write_in_place(part, |to| {
            let mut left = size;
            while left > 0 {
                let wanted = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
                let read = from.read(&mut block[..wanted])?;
                if read == 0 {
                    break;
                }
                to.write_all(&block[..read])?;
                left -= read as u64;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Writes a file where nobody else can see a half of it.
#[expect(clippy::disallowed_methods, reason = "an adapter that writes files")]
fn write_in_place(path: &Path, fill: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<(), FsError> {
    let mut file = io::BufWriter::new(File::create(path).at("write", path)?);
    fill(&mut file).and_then(|()| io::Write::flush(&mut file)).at("write", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_out_the_same() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::write(&from.join("a/run.sh"), b"#!").expect("written");
        fs::set_executable(&from.join("a/run.sh"), true).expect("set");
        fs::create_dir(&from.join("a/empty")).expect("made");
        fs::symlink("run.sh", &from.join("a/link")).expect("made");
        fs::symlink("nowhere", &from.join("dangling")).expect("made");
        let archive = dir.path().join("archive");
        pack(&from, ["a", "dangling", "gone"].into_iter(), &archive).expect("packed");
        unpack(&archive, &to).expect("unpacked");
        assert_eq!(fs::read(&to.join("a/link")).expect("read"), b"#!");
        let mode = |folder: &Path| fs::mode(&folder.join("a/run.sh")).expect("read");
        assert_eq!((mode(&to), mode(&to) & 0o100), (mode(&from), 0o100));
        assert!(to.join("a/empty").is_dir() && to.join("dangling").is_symlink());
    }

    #[test]
    fn a_file_that_was_cut_is_cut_in_its_last_parts() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let whole = dir.path().join("whole");
        fs::write(&whole, b"12345").expect("written");
        let parts = [dir.path().join("x"), dir.path().join("y"), dir.path().join("z")];
        let sizes = [2, 9, 1];
        split(&whole, parts.iter().map(AsRef::as_ref).zip(sizes)).expect("split");
        let read = |path: &std::path::PathBuf| fs::read(path).expect("read");
        assert_eq!(parts.each_ref().map(read), [b"12".to_vec(), b"345".to_vec(), vec![]]);
    }
}
