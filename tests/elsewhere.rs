//! Deps outside of the file system: URLs, remotes and datasets, which only DVC can look at.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use crate::support::same::{assert_clean, assert_same};
use crate::support::{Project, Ran};

/// A server of the files in a folder, with an `ETag` for each content.
struct Server {
    folder: tempfile::TempDir,
    address: String,
}

impl Server {
    fn new() -> Server {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let root = folder.path().to_owned();
        // It ends with the process of the tests.
        std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer(stream, &root))));
        Server { folder, address }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).expect("written");
    }
}

fn answer(mut stream: std::net::TcpStream, root: &Path) -> std::io::Result<()> {
    let mut request = vec![];
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte)? == 1 {
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).into_owned();
    let mut words = request.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let file: PathBuf = root.join(path.trim_start_matches('/'));
    let Ok(body) = std::fs::read(&file) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    };
    let tag = body.iter().fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(*byte));
    let length = body.len();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nETag: \"{tag:x}\"\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes())?;
    if method == "HEAD" { Ok(()) } else { stream.write_all(&body) }
}

/// Two projects of the same making, to be run by `dvc repro` and by `dvc-fanout run`.
fn both(make: &dyn Fn(&Project)) -> (Project, Project) {
    let made = || {
        let project = Project::without_init();
        make(&project);
        project.commit("one");
        project
    };
    (made(), made())
}

#[track_caller]
fn round(projects: &(Project, Project), what: &str) -> Ran {
    let (serial, fanned) = projects;
    serial.dvc(["repro"]);
    let ran = fanned.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(0), "{what}: {ran:#?}");
    assert_same(serial, fanned, what);
    assert_clean(fanned, &[]);
    ran
}

fn pipeline(project: &Project, address: &str) {
    let text = format!(
        "stages:
  get:
    cmd: cp served/raw.txt raw.out
    deps: [{address}/raw.txt]
    outs: [raw.out]
  work:
    foreach: [a, b]
    do:
      cmd: cat raw.out in-${{item}}.txt > ${{item}}.out
      deps: [raw.out, \"in-${{item}}.txt\"]
      outs: [\"${{item}}.out\"]
  mapped:
    foreach: [a, b]
    do:
      cmd: cp served/${{item}}.csv ${{item}}.copy
      deps: [\"{address}/${{item}}.csv\"]
      outs: [\"${{item}}.copy\"]
  alone:
    foreach: [c, d]
    do:
      cmd: cat in-${{item}}.txt > alone-${{item}}.out
      deps: [\"in-${{item}}.txt\"]
      outs: [\"alone-${{item}}.out\"]
"
    );
    project.write("dvc.yaml", &text);
    for name in ["in-a.txt", "in-b.txt", "in-c.txt", "in-d.txt", "served/raw.txt", "served/a.csv", "served/b.csv"] {
        project.write(name, &format!("{name}\n"));
    }
}

#[test]
fn deps_by_url_are_looked_at_by_dvc_and_the_rest_runs() {
    let server = Server::new();
    for name in ["raw.txt", "a.csv", "b.csv"] {
        server.write(name, "1\n");
    }
    let projects = both(&|project| pipeline(project, &server.address));
    round(&projects, "new");
    // Neither what the URLs hold has changed nor anything else.
    assert!(round(&projects, "unchanged").stdout.contains("nothing to do"));
    for project in [&projects.0, &projects.1] {
        project.write("in-a.txt", "more\n");
    }
    let ran = round(&projects, "a stage beside and one below");
    assert!(ran.stderr.contains("1 work item in"), "{ran:#?}");
    server.write("b.csv", "2\n");
    let ran = round(&projects, "one of the mapped");
    assert!(ran.stderr.contains("1 work item in"), "{ran:#?}");
    let changed = projects.1.fanout(["stages", "--changed"]).succeeded();
    assert_eq!(changed.trim(), "7 stages are unchanged");
}

#[test]
fn a_server_that_is_down_stops_only_what_needs_it() {
    let server = Server::new();
    for name in ["raw.txt", "a.csv", "b.csv"] {
        server.write(name, "1\n");
    }
    let projects = both(&|project| pipeline(project, &server.address));
    round(&projects, "new");
    let project = &projects.1;
    for name in ["raw.txt", "a.csv", "b.csv"] {
        std::fs::remove_file(server.folder.path().join(name)).expect("removed");
    }
    project.write("in-c.txt", "more\n");
    let ran = project.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    assert_eq!(project.read("alone-c.out"), "more\n", "{ran:#?}");
}

#[test]
fn deps_in_a_remote_that_is_a_folder_are_compared_here() {
    let server = tempfile::tempdir().expect("a temporary directory");
    let folder = server.path();
    std::fs::create_dir(folder.join("d")).expect("made");
    std::fs::write(folder.join("d/x"), "1\n").expect("written");
    let projects = both(&|project| {
        let remote = format!("['remote \"disk\"']\n    url = {}\n", folder.display());
        project.write(".dvc/config", &remote);
        project.write("in-a.txt", "a\n");
        project.write("in-b.txt", "b\n");
        let text = "stages:\n  use:\n    foreach: [a, b]\n    do:\n      cmd: cat in-${item}.txt > ${item}.out\n      deps: [\"in-${item}.txt\", remote://disk/d]\n      outs: [\"${item}.out\"]\n";
        project.write("dvc.yaml", text);
    });
    round(&projects, "new");
    assert!(round(&projects, "unchanged").stdout.contains("nothing to do"));
    std::fs::write(folder.join("d/x"), "2\n").expect("written");
    assert!(round(&projects, "changed").stderr.contains("2 work items in"));
}

#[test]
fn datasets_are_known_to_the_stages_that_read_them() {
    let registry = Project::empty();
    registry.write("data/a", "v1\n");
    registry.dvc(["add", "--quiet", "data"]);
    registry.commit("data");
    let url = registry.root().display().to_string();
    let projects = both(&|project| {
        // Defined in one file and read in another; a lock file of its own says which version it is.
        project.write(
            "registry/dvc.yaml",
            &format!("datasets:\n- name: common\n  type: dvc\n  url: {url}\n  path: data\n"),
        );
        let text = "stages:\n  use:\n    foreach: [a, b]\n    do:\n      cmd: cat in-${item}.txt > ${item}.out\n      deps: [\"in-${item}.txt\", ds://common]\n      outs: [\"${item}.out\"]\n";
        project.write("dvc.yaml", text);
        project.write("in-a.txt", "a\n");
        project.write("in-b.txt", "b\n");
        project.dvc(["dataset", "update", "common"]);
    });
    round(&projects, "new");
    assert!(round(&projects, "unchanged").stdout.contains("nothing to do"));
    for project in [&projects.0, &projects.1] {
        project.write("in-b.txt", "more\n");
    }
    assert!(round(&projects, "one changed").stderr.contains("1 work item in"));
}
