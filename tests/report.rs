//! What `report` says and `finalize` leaves, taken by the readers that it is for: a JUnit schema, a browser, people.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Project, Ran, say, tool};

/// Text that breaks out of a page or document that does not escape it.
const HOSTILE: &str = "</script><img src=x onerror=alert(1)>]]>&";

/// A run with a session that failed and whose log is hostile, and the folder of its reports.
fn failed_run() -> (Project, PathBuf) {
    let project = Project::from_fixture("sessions");
    let command = format!("cmd: \"if [ ${{item}} = s3 ]; then echo '{HOSTILE}'; exit 7; fi; mkdir -p work &&");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
    project.edit("dvc.yaml", "> work/${item}.txt", "> work/${item}.txt\"");
    project.commit("s3 fails");
    let ran = project.fanout(["run", "-j", "2"]);
    assert_eq!(ran.code, Some(1), "{ran:#?}");
    let run = std::fs::read_dir(project.path(".dvc/fanout/runs")).expect("listed").next().expect("a run");
    let folder = run.expect("listed").path().join("report");
    (project, folder)
}

#[test]
fn a_run_with_a_failure_is_told_in_every_form() {
    let (project, folder) = failed_run();
    let report = |format: &str| project.fanout(["report", "--format", format]).succeeded();

    let text = report("text");
    for line in [
        "3 of 5 work items succeeded, 1 failed, 1 skipped",
        "extract: 3 ran, 1 failed of 4 stages",
        "why: new",
        "failed: s3 (stage `extract@s3`",
    ] {
        assert!(text.contains(line), "`{line}` in {text}");
    }
    let json: serde_json::Value = serde_json::from_str(&report("json")).expect("a document");
    assert_eq!(json["counts"]["failed"], 1);
    assert_eq!(json["provenance"]["executors"], serde_json::json!({ "native": 7, "dvc": {}, "check": 0 }));
    assert_eq!(json["provenance"]["commit"].as_str().map(str::len), Some(40));
    assert_eq!(json["ended"], true);
    let tail = json["work_items"][2]["tail"].as_array().expect("a log");
    assert!(tail.iter().any(|line| line == HOSTILE), "{tail:?}");
    assert!(report("markdown").contains("<details><summary>failed: <code>s3</code></summary>"));
    assert!(report("prometheus").contains("dvc_fanout_work_items{project=\"project\",outcome=\"failed\"} 1\n"));

    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/junit.py");
    let checked = Ran::of(project.command("python3").arg(script).arg(folder.join("junit.xml"))).succeeded();
    assert_eq!(checked, "map s1 passed\nmap s2 passed\nmap s3 failure\nmap s4 passed\nshared summary skipped\n");

    for (name, format) in [("report.md", "markdown"), ("junit.xml", "junit"), ("report.html", "html")] {
        assert_eq!(std::fs::read_to_string(folder.join(name)).expect("finalize left it"), report(format), "{name}");
    }
    let out = project.path("../elsewhere.prom");
    project.fanout(["report", "--format", "prometheus", "--output", out.to_str().expect("it is UTF-8")]).succeeded();
    assert_eq!(
        std::fs::read_to_string(out).expect("written"),
        std::fs::read_to_string(folder.join("metrics.prom")).expect("finalize left it")
    );
    let refused = project.fanout(["plan", "--format", "html"]);
    assert!(
        refused.code == Some(2) && refused.stderr.contains("[possible values: text, json, mermaid, dot]"),
        "{refused:#?}"
    );

    let reader = "import sys; from prometheus_client.parser import text_string_to_metric_families as read; \
                  print(len(list(read(sys.stdin.read()))))";
    if Ran::of(project.command("python3").args(["-c", "import prometheus_client"])).code == Some(0) {
        let metrics = std::fs::File::open(folder.join("metrics.prom")).expect("finalize left it");
        let families = Ran::of(project.command("python3").args(["-c", reader]).stdin(metrics)).succeeded();
        assert_eq!(families, "10\n");
    } else {
        assert!(
            std::env::var_os("CI").is_none(),
            "python3 must have prometheus_client (contrib/setup-tools installs it)"
        );
    }
}

#[test]
fn a_work_item_that_runs_is_not_told_as_failed() {
    let project = Project::from_fixture("sessions");
    let [began, gate] = ["../began", "../gate"].map(|file| project.path(file).display().to_string());
    let command = format!("cmd: touch {began}; while [ ! -e {gate} ]; do sleep 0.05; done; mkdir -p work &&");
    project.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
    project.commit("gated");
    let mut run = project.command(env!("CARGO_BIN_EXE_dvc-fanout"));
    let mut run = run.args(["run", "-j", "1"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
    let limit = Instant::now() + Duration::from_mins(1);
    while !Path::new(&began).exists() {
        assert!(Instant::now() < limit, "no stage began");
        std::thread::sleep(Duration::from_millis(50));
    }
    let counts = || {
        let report = project.fanout(["report", "--format", "json"]).succeeded();
        serde_json::from_str::<serde_json::Value>(&report).expect("a document")["counts"].clone()
    };
    assert_eq!(counts(), json!({"succeeded": 0, "failed": 0, "skipped": 0, "not_run": 5}));
    let is_opened_anew = || {
        let page = project.fanout(["report", "--format", "html"]).succeeded();
        page.contains("<meta http-equiv=\"refresh\" content=\"5\">")
    };
    assert!(is_opened_anew());
    std::fs::write(&gate, "").expect("written");
    assert!(run.wait().expect("ended").success());
    assert_eq!(counts(), json!({"succeeded": 5, "failed": 0, "skipped": 0, "not_run": 0}));
    assert!(!is_opened_anew());
}

#[test]
fn the_page_opens_filters_and_sorts_ten_thousand_work_items_in_a_browser() {
    let Some(chromium) = tool("chromium") else { return };
    let (project, folder) = failed_run();
    let page = std::fs::read_to_string(folder.join("report.html")).expect("finalize left it");
    std::fs::write(folder.join("large.html"), inflated(&page, 10_000)).expect("written");
    let address = |page: &str| format!("file://{}", folder.join(page).display());
    let picture = |name: &str| Path::new(env!("CARGO_TARGET_TMPDIR")).join(name).display().to_string();
    let count = "document.querySelector('#items output').textContent";
    let rows = "[...document.querySelectorAll('.row')].map((row) => Number(row.dataset.index))";
    let by_name = json!({"click": "#items .head button:nth-child(2)"});
    let seen = browse(
        &project,
        &chromium,
        &json!([
            {"open": address("report.html")},
            {"click": ".row:nth-child(3)"},
            {"read": "document.querySelector('#detail pre').textContent"},
            {"screenshot": picture("report-light.png"), "dark": false},
            {"screenshot": picture("report-dark.png"), "dark": true},
            {"open": address("large.html")},
            {"read": "Number(document.documentElement.dataset.readyAfterMs)"},
            {"read": count},
            {"type": "#items input", "text": "S3 again"},
            {"choose": "#items select", "value": "failed"},
            by_name,
            by_name,
            {"read": count},
            {"read": rows},
            {"read": "document.images.length + document.scripts.length"},
            {"screenshot": picture("report-large.png"), "dark": false},
            // A view can be passed on.
            {"open": address("large.html#outcome=skipped&sort=-index")},
            {"read": rows},
        ]),
    );
    assert_eq!(seen["complaints"], json!([]));
    let [tail, ready, all, filtered, sorted, elements, passed_on] = seen["read"].as_array().expect("a list").as_slice()
    else {
        panic!("{seen}");
    };
    assert!(tail.as_str().is_some_and(|tail| tail.lines().any(|line| line == HOSTILE)), "{tail}");
    assert_eq!(elements, 2, "nothing but the page's own data and script");
    say(&format!("10,000 work items open in {ready} ms"));
    assert!(ready.as_u64().is_some(), "{seen}");
    assert_eq!((all, filtered), (&json!("10,000 of 10,000"), &json!("2,000 of 10,000")));
    let sorted = sorted.as_array().expect("a list");
    assert_eq!(sorted[..2], [9997, 9992], "by number, downwards");
    assert!(sorted.len() < 100, "only rows in sight exist, not {}", sorted.len());
    assert_eq!(passed_on[0], 9999);
}

/// Takes these steps in a browser without a window, and returns what `tests/support/browser.py` saw.
pub(crate) fn browse(project: &Project, chromium: &Path, steps: &serde_json::Value) -> serde_json::Value {
    std::fs::write(project.path("../steps.json"), steps.to_string()).expect("written");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/browser.py");
    let mut command = project.command("python3");
    command.arg(script).arg(chromium).arg(project.path("../profile"));
    command.stdin(std::fs::File::open(project.path("../steps.json")).expect("written"));
    let seen = Ran::of(&mut command).succeeded();
    for step in steps.as_array().expect("a list").iter().filter_map(|step| step["screenshot"].as_str()) {
        say(&format!("screenshot: {step}"));
    }
    serde_json::from_str(&seen).expect("it is JSON")
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    let (_, rest) = text.split_once(before).expect("it begins");
    rest.split_once(after).expect("it ends").0
}

/// A page whose work items are repeated until there are so many, each with a name of its own.
fn inflated(page: &str, number: usize) -> String {
    let data = between(page, "id=\"data\">", "</script>");
    let mut report: serde_json::Value = serde_json::from_str(data).expect("it is JSON");
    let items = report["work_items"].as_array().expect("a list").clone();
    let item = |index: usize| {
        let mut item = items[index % items.len()].clone();
        item["id"] = format!("{} again {index} {HOSTILE}", item["id"].as_str().expect("a name")).into();
        item["index"] = index.into();
        item
    };
    report["work_items"] = (0..number).map(item).collect();
    page.replace(data, &report.to_string().replace('<', "\\u003c"))
}
