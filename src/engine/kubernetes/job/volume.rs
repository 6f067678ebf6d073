//! Volumes of a pod, in a one-line spelling.
//!
//! | spelling | volume |
//! |---|---|
//! | `pvc:NAME[/SUBPATH]:MOUNT[:ro]` | an existing claim |
//! | `new:CLASS:SIZE:MOUNT` | a claim made for the run from a storage class; `CLASS` may be empty |
//! | `nfs:SERVER:PATH:MOUNT[:ro]` | an NFS export |
//! | `hostPath:PATH[:MOUNT][:ro]` | a folder of the node |
//! | `emptyDir:MOUNT[:SIZE]` | scratch space of one pod |

use crate::model::quantity::{Quantity, QuantityError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Volume {
    pub source: Source,
    /// Where pods see it; absolute.
    pub mount: String,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Claim { name: String, sub_path: Option<String> },
    NewClaim { storage_class: Option<String>, size: Quantity },
    Nfs { server: String, path: String },
    HostPath { path: String },
    EmptyDir { size: Option<Quantity> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum VolumeError {
    #[error(
        "volume `{0}` is none of `pvc:NAME[/SUBPATH]:MOUNT[:ro]`, `new:CLASS:SIZE:MOUNT`, `nfs:SERVER:PATH:MOUNT[:ro]`, `hostPath:PATH[:MOUNT][:ro]`, `emptyDir:MOUNT[:SIZE]`"
    )]
    Shape(String),
    #[error("volume `{volume}`: `{path}` is not an absolute path without `..` and `:`")]
    Path { volume: String, path: String },
    #[error("volume `{volume}`")]
    Size { volume: String, source: QuantityError },
}

impl Volume {
    /// Whether a claim is made for it.
    pub(crate) fn is_made(&self) -> bool {
        matches!(self.source, Source::NewClaim { .. })
    }

    pub(crate) fn parse(text: &str) -> Result<Self, VolumeError> {
        let shape = || VolumeError::Shape(text.to_owned());
        let size =
            |size: &str| Quantity::parse(size).map_err(|source| VolumeError::Size { volume: text.to_owned(), source });
        let (body, read_only) = match text.strip_suffix(":ro") {
            Some(body) => (body, true),
            None => (text, false),
        };
        let parts: Vec<&str> = body.split(':').collect();
        let (source, mount) = match parts[..] {
            ["pvc", claim, mount] => {
                let (name, sub_path) = match claim.split_once('/') {
                    Some((name, sub_path)) => (name, Some(sub_path.to_owned())),
                    None => (claim, None),
                };
                (Source::Claim { name: name.to_owned(), sub_path }, mount)
            }
            ["new", class, amount, mount] if !read_only => {
                let storage_class = Some(class).filter(|class| !class.is_empty()).map(str::to_owned);
                (Source::NewClaim { storage_class, size: size(amount)? }, mount)
            }
            ["nfs", server, path, mount] => {
                (Source::Nfs { server: server.to_owned(), path: absolute(text, path)? }, mount)
            }
            ["hostPath", path] => (Source::HostPath { path: absolute(text, path)? }, path),
            ["hostPath", path, mount] => (Source::HostPath { path: absolute(text, path)? }, mount),
            ["emptyDir", mount] if !read_only => (Source::EmptyDir { size: None }, mount),
            ["emptyDir", mount, amount] if !read_only => (Source::EmptyDir { size: Some(size(amount)?) }, mount),
            _ => return Err(shape()),
        };
        Ok(Volume { source, mount: absolute(text, mount)?, read_only })
    }
}

/// Checks a path as the API server does: mount paths must not contain `:`, host paths no `..`.
fn absolute(volume: &str, path: &str) -> Result<String, VolumeError> {
    let fine = path.starts_with('/') && !path.contains(':') && path.split('/').all(|part| part != "..");
    fine.then(|| path.to_owned()).ok_or_else(|| VolumeError::Path { volume: volume.to_owned(), path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, source: Source, mount: &str, read_only: bool) {
        let expected = Volume { source, mount: mount.to_owned(), read_only };
        assert_eq!(Volume::parse(text), Ok(expected), "{text}");
    }

    #[test]
    fn every_spelling_is_read() {
        let claim = |name: &str, sub_path: Option<&str>| Source::Claim {
            name: name.to_owned(),
            sub_path: sub_path.map(str::to_owned),
        };
        let size = || Quantity::parse("5Gi").expect("a quantity");
        check("pvc:data:/data", claim("data", None), "/data", false);
        check("pvc:data/a/b:/data:ro", claim("data", Some("a/b")), "/data", true);
        let made = |class: Option<&str>| Source::NewClaim { storage_class: class.map(str::to_owned), size: size() };
        check("new:fast:5Gi:/data", made(Some("fast")), "/data", false);
        check("new::5Gi:/data", made(None), "/data", false);
        let nfs = Source::Nfs { server: "nas.example".to_owned(), path: "/export".to_owned() };
        check("nfs:nas.example:/export:/mnt/nas:ro", nfs, "/mnt/nas", true);
        let host = || Source::HostPath { path: "/srv/data".to_owned() };
        check("hostPath:/srv/data", host(), "/srv/data", false);
        check("hostPath:/srv/data:/data", host(), "/data", false);
        check("emptyDir:/scratch:5Gi", Source::EmptyDir { size: Some(size()) }, "/scratch", false);
    }

    #[test]
    fn what_the_server_would_refuse_is_refused() {
        for wrong in [
            "",
            "data:/data",
            "pvc:data",
            "nfs:nas:export:/mnt",
            "hostPath:/a/../b",
            "hostPath:data",
            "pvc:data:data",
            "new:fast:5GB:/data",
        ] {
            assert!(Volume::parse(wrong).is_err(), "{wrong}");
        }
    }
}
