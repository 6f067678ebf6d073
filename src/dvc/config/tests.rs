use super::*;

fn file(path: &str, dir: &str, text: &str) -> ConfigFile {
    ConfigFile { path: path.into(), dir: dir.into(), text: text.into() }
}

fn load(text: &str) -> Result<DvcConfig, ConfigError> {
    DvcConfig::from_files(&[file(".dvc/config", "/p/.dvc", text)], "/p", &|user| {
        user.is_empty().then(|| "/home/u".to_owned())
    })
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = load(text).err().expect("must be refused");
    assert_eq!(format!("{}: {error}", error.place), expected);
}

/// The value of `db.x.k`, a place where DVC checks nothing.
#[track_caller]
fn value(text: &str, expected: &[&str]) {
    let config = load(&format!("['db \"x\"']\nk = {text}\n")).unwrap_or_else(|error| panic!("{text}: {error}"));
    let Item::Section(db) = &config.merged["db"].item else { panic!("a section") };
    let Item::Section(x) = &db["x"].item else { panic!("a section") };
    let read = match &x["k"].item {
        Item::Text(text) => vec!["text", text],
        Item::List(items) => ["list"].into_iter().chain(items.iter().map(String::as_str)).collect(),
        Item::Section(_) => panic!("a value"),
    };
    assert_eq!(read, expected, "{text}");
}

#[test]
fn values_are_read_as_configobj_reads_them() {
    value("a b", &["text", "a b"]);
    value("", &["text", ""]);
    value("# only a comment", &["text", ""]);
    value("a # comment", &["text", "a"]);
    value("a#b", &["text", "a"]);
    value("'a # b' # comment", &["text", "a # b"]);
    value("\"a, b\"", &["text", "a, b"]);
    value("a \"b\"", &["text", "a \"b\""]);
    value("a,", &["list", "a"]);
    value("a, ", &["list", "a"]);
    value(",", &["list"]);
    value("a, 'b, c' , d", &["list", "a", "b, c", "d"]);
    value("a = b", &["text", "a = b"]);
    value("'''x'y'''", &["text", "x'y"]);
    value("\"\"\"x\n y\"\"\" # comment", &["text", "x\n y"]);
    value("%(j)s/z\nj = w", &["text", "w/z"]);
}

#[test]
fn what_configobj_refuses_is_refused_with_its_line() {
    refused("[core]\nno_scm", ".dvc/config:2: neither a section nor `key = value`");
    refused("[core\n", ".dvc/config:1: neither a section nor `key = value`");
    refused("[[core]\n", ".dvc/config:1: as many `]` are needed as there are `[`");
    refused("[[core]]\n", ".dvc/config:1: the section is nested too deeply");
    refused("[core]\n[core]\n", ".dvc/config:2: `core` is there twice");
    refused("[core]\nremote = a\nremote = b\n", ".dvc/config:3: `remote` is there twice");
    refused("[core]\nremote = 'a\n", ".dvc/config:2: the value has stray quotes or commas");
    refused("[core]\nremote = a,,b\n", ".dvc/config:2: the value has stray quotes or commas");
    refused("[core]\nremote = '''a\n", ".dvc/config:2: the quotes do not end well");
    refused("[core]\nremote = %(x)s\n", ".dvc/config:2: `%(x)s` has no value");
    refused("[core]\nremote = %(remote)s\n", ".dvc/config:2: `%(remote)s` refers to itself");
}

#[test]
fn what_dvc_does_not_know_is_refused() {
    refused("[core]\nno_scm = maybe", ".dvc/config:2: `core.no_scm` must be `true` or `false`, not `maybe`");
    refused("[core]\nnoscm = true", ".dvc/config:2: `core.noscm` is not an option of DVC");
    refused("[cor]\n", ".dvc/config:1: there is no section `cor`");
    refused("a = 1", ".dvc/config:1: `a` stands outside of a section");
    refused("[core]\nremote = a, b", ".dvc/config:2: `core.remote` must be one value, not a list");
    refused("[core]\nchecksum_jobs = 0", ".dvc/config:2: `core.checksum_jobs` must be a number above 0, not `0`");
    refused(
        "[cache]\ntype = reflink, link",
        ".dvc/config:2: `cache.type` knows `reflink`, `hardlink`, `symlink` and `copy`, not `link`",
    );
    refused("['remote \"r\"']\njobs = 2", ".dvc/config:1: remote `r` has no `url`");
    refused("['remote \"r\"']\nurl = foo://x/y", ".dvc/config:1: remote `r` has a `url` of unknown type `foo://`");
    refused("['remote \"r\"']\nurl = x\nuser = y", ".dvc/config:3: `remote \"r\".user` is not an option of DVC");
}

#[test]
fn later_files_win_key_by_key_and_paths_are_relative_to_their_file() {
    let files = [
        file("/etc/xdg/dvc/config", "/etc/xdg/dvc", "[cache]\ndir = ../c\ntype = copy\n[core]\nremote = a"),
        file(".dvc/config", "/p/.dvc", "[cache]\ndir = ../../shared\nshared = Group\n[CORE]\nNO_SCM = True"),
        file(".dvc/config.local", "/p/.dvc", "['remote \"NAS\"']\nurl = ~/nas\n['remote \"s\"']\nurl = s3://b/c\n"),
    ];
    let config = DvcConfig::from_files(&files, "/p", &|user| user.is_empty().then(|| "/home/u".to_owned()))
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.cache_dir, "/shared");
    assert_eq!(config.cache_types, [LinkType::Copy]);
    assert!(config.no_scm && !config.autostage);
    let remotes: Vec<_> = config.remotes.iter().map(|(name, url)| (name.as_str(), url.as_str())).collect();
    assert_eq!(remotes, [("nas", "/home/u/nas"), ("s", "s3://b/c")]);
}

#[test]
fn defaults_are_dvcs() {
    let config = load("").unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.cache_dir, "/p/.dvc/cache");
    assert_eq!(config.cache_types, [LinkType::Reflink, LinkType::Copy]);
    assert_eq!(config.parsing, ParsingConfig::default());
    assert!(!config.no_scm && config.remotes.is_empty());
}

#[test]
fn the_rendered_config_means_the_same_elsewhere() {
    let text = "[core]\nremote = r\n[cache]\ntype = hardlink,copy\n['remote \"r\"']\nurl = ../x y\n['db \"d\"']\npassword = '''a'\"b # c'''\n";
    let first =
        load(text).and_then(|config| config.render_for("/elsewhere/.dvc")).unwrap_or_else(|error| panic!("{error}"));
    let moved = [file("config", "/elsewhere/.dvc", &first)];
    let again = DvcConfig::from_files(&moved, "/elsewhere", &|_| None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(again.cache_dir, "/p/.dvc/cache");
    assert_eq!(again.cache_types, [LinkType::Hardlink, LinkType::Copy]);
    assert_eq!(again.remotes["r"], "/p/x y");
    assert!(first.contains("password = \"\"\"a'\"b # c\"\"\""), "{first}");
    assert_eq!(again.render_for("/p").unwrap_or_else(|error| panic!("{error}")), first);
}

#[test]
fn others_get_no_secrets_and_all_else() {
    let text = "['remote \"r\"']\nurl = s3://b\nsse = aws:kms\nsse_kms_key_id = arn\naccess_key_id = i\nsecret_access_key = s\n";
    let text = load(text).and_then(|config| config.render_for_others()).unwrap_or_else(|error| panic!("{error}"));
    assert!(text.contains("sse = aws:kms\n") && text.contains("sse_kms_key_id = arn\n"), "{text}");
    assert!(!text.contains("access_key"), "{text}");
}

#[test]
fn odd_paths_are_quoted_or_written_from_where_they_are_read() {
    let names = ["C# work", "v1, final", "it's \"x\", #1", "[x]", " b ", "back\\", "two\nlines", "%(x)s"];
    for root in names.map(|name| format!("/a/{name}")) {
        let files = [ConfigFile {
            path: "config".to_owned(),
            dir: format!("{root}/.dvc"),
            text: "['remote \"r\"']\nurl = ../store\n".to_owned(),
        }];
        let config = DvcConfig::from_files(&files, &root, &|_| None).unwrap_or_else(|error| panic!("{error}"));
        let slot = format!("{root}/.dvc/fanout/slots/0/workspace/.dvc");
        let text = config.render_for(&slot).unwrap_or_else(|error| panic!("{root}: {error}"));
        let moved = [ConfigFile { path: "config".to_owned(), dir: slot, text }];
        let again =
            DvcConfig::from_files(&moved, "/elsewhere", &|_| None).unwrap_or_else(|error| panic!("{root}: {error}"));
        assert_eq!(again.cache_dir, format!("{root}/.dvc/cache"));
        assert_eq!(again.remotes["r"], format!("{root}/store"));
        if root.contains('%') {
            let error = config.render_for("/elsewhere/.dvc").unwrap_or_else(|error| error.message);
            assert_eq!(error, "a worker's copy cannot have `url`, which no quotes can write");
        }
    }
}
