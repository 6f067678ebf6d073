//! What `report` says and `finalize` leaves, taken by the readers that it is for: a JUnit schema, a browser, people.

use std::path::{Path, PathBuf};
use std::process::Command;

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
    assert_eq!(json["provenance"]["dvc"][0], "3.67.1");
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
    assert!(refused.code == Some(2) && refused.stderr.contains("only `report` has this format"), "{refused:#?}");

    let Some(chromium) = tool("chromium") else { return };
    let page = std::fs::read_to_string(folder.join("report.html")).expect("finalize left it");
    let browser = Browser { chromium, folder: folder.clone() };
    let seen = browser.open("report.html", "sort=-index");
    assert_eq!(shown(&seen), ["4", "3", "2", "1", "0"], "sorted by script");
    assert!(!seen.contains("<img"), "{seen}");
    assert!(seen.contains("stage `extract@s3`"), "the failure is in the page");
    browser.screenshot("report.html");

    std::fs::write(folder.join("large.html"), inflated(&page, 10_000)).expect("written");
    let seen = browser.open("large.html", "outcome=failed&filter=S3+again&sort=-id");
    let rows = shown(&seen);
    assert!(seen.contains("<output>2,000 of 10,000</output>"), "only failures are listed");
    assert_eq!(rows[..2], ["9997", "9992"], "s3 again 9997 comes first where sorted by number, downwards");
    assert!(rows.len() < 100, "only rows in sight exist, not {}", rows.len());
    let ready = between(&seen, "data-ready-after-ms=\"", "\"").parse::<u32>().expect("a number");
    say(&format!("10,000 work items open in {ready} ms"));
    assert!(ready < 2000, "10,000 work items open in {ready} ms");
}

/// A browser without a window.
struct Browser {
    chromium: PathBuf,
    folder: PathBuf,
}

impl Browser {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.chromium);
        let profile = self.folder.join("profile");
        command.args(["--headless", "--no-sandbox", "--disable-gpu", "--window-size=1200,1800"]);
        command.arg(format!("--user-data-dir={}", profile.display())).arg("--enable-logging=stderr");
        command
    }

    /// Opens a page, which must have no complaint, and returns what became of it.
    fn open(&self, page: &str, view: &str) -> String {
        let address = format!("file://{}#{view}", self.folder.join(page).display());
        let ran = Ran::of(self.command().arg("--dump-dom").arg(address));
        let complaints: Vec<&str> = ran.stderr.lines().filter(|line| line.contains(":CONSOLE")).collect();
        assert!(complaints.is_empty(), "{complaints:#?}");
        ran.succeeded()
    }

    fn screenshot(&self, page: &str) {
        let to = Path::new(env!("CARGO_TARGET_TMPDIR")).join("report.png");
        let address = format!("file://{}", self.folder.join(page).display());
        Ran::of(self.command().arg(format!("--screenshot={}", to.display())).arg(address)).succeeded();
        say(&format!("screenshot: {}", to.display()));
        assert!(std::fs::metadata(&to).expect("made").len() > 10_000);
    }
}

/// The indexes of the rows that exist, from above.
fn shown(page: &str) -> Vec<&str> {
    page.split("data-index=\"").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()).collect()
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
        item["id"] = format!("{} again {index}", item["id"].as_str().expect("a name")).into();
        item["index"] = index.into();
        item
    };
    report["work_items"] = (0..number).map(item).collect();
    page.replace(data, &report.to_string().replace('<', "\\u003c"))
}
