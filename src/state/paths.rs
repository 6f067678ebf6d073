//! Where everything under `.dvc/fanout` lies.
//!
//! ```text
//! .dvc/fanout/.gitignore             ignores everything here but config.yaml
//! .dvc/fanout/commit/                the paths that go into the commit that is just being made
//! .dvc/fanout/uncommitted.jsonl      what runs changed and nobody has committed yet
//! .dvc/fanout/apply/                 what `collect` is just changing in the project
//! .dvc/fanout/dvc-version            see there
//! .dvc/fanout/hashes.jsonl           hashes of files, to be computed only once; see `hash_memo`
//! .dvc/fanout/sites/                 where workers work that see nothing of the project
//! .dvc/fanout/slots/N/               a worker's workspace; N.lock beside it
//! .dvc/fanout/runs/RUN/plan.json     what was planned
//!                  worklist.jsonl    one work item a line, line number = index
//!                  worklist.index    where each line begins: 15 digits and a newline
//!                  events.jsonl      the journal, written by `launch` and `finalize` alone
//!                  cancel            asks a running `launch` to end
//!                  jobs/NAME.json    the work items of a cluster Job
//!                  jobs/NAME.over    its end was seen
//!                  jobs/NAME.{sh,out,env}  a job array's script, what it said, and secret variables
//!                  jobs/NAME.checked left by a pod that sees all that workers need
//!                  snapshot/         a git repository with the workspace as it was; borrows what the project's has
//!                  launch.lock       held while the run is being launched
//!                  launch.claim      the same where machines share the folder, whose locks cannot be relied on
//!                  results/INDEX/retry   the last attempt whose failure is to be tried again
//!                  results/INDEX/skipped     the job whose task left it alone, since what it needs was not there
//!                  results/INDEX/refused     the attempt whose result did not come as a whole, and why
//!                  unsettled         see there
//!                  report/           what became of it: report.html, report.md, report.json, junit.xml, metrics.prom
//!                  declared.json     the paths that stages declare
//!                  brought           what commands made and git ignores, and is in the project now; a path a line
//!                  brought-into-deps the same in folders that are deps
//!                  linked-only       present where commands were in the way of mounts: workspaces have paths of their own
//!                  kept/PID          held by a process that stays with what a stage left running
//!                  kept/workspace-…  the workspace that it sees
//!                  kept/stay         the last launch has come to its end, and it stays nevertheless
//!                  kept/end          asks all of them to end
//!                  left-running/INDEX    what a work item left running, which was ended: the stage and commands, a line each
//!                  first.claim       held by the worker that runs before the others
//!                  first.over        others need not wait for it
//!                  remote            present where workers leave outs in the project's remote
//!                  looks.json        what looks at the object store have taken, beside those of launchers
//!                  store             the address of the object store that it was put into
//!                  brought-here      present where the run was planned in another clone and came from the object store
//!                  launch.elsewhere  who launches it in another clone, as the object store said
//!                  journals/ID.jsonl what other clones wrote down of it
//!                  results/INDEX/ATTEMPT.log
//!                  results/INDEX/ATTEMPT.check/{native,dvc}/   what both have left, where it was not the same
//!                  results/INDEX/ATTEMPT.sent    where a worker of its own works: the result is in the object store
//!                  results/INDEX/ATTEMPT/result.json
//!                  results/INDEX/ATTEMPT/files/N
//! ```

use std::path::{Path, PathBuf};

use crate::model::numbers::{AttemptNumber, ItemIndex};

/// The folder `.dvc/fanout` of a project.
#[derive(Clone, Debug)]
pub(crate) struct FanoutDir(PathBuf);

impl FanoutDir {
    /// The folder of the project with this root.
    pub(crate) fn of(project: &Path) -> Self {
        FanoutDir(project.join(".dvc/fanout"))
    }

    pub(crate) fn gitignore(&self) -> PathBuf {
        self.0.join(".gitignore")
    }

    /// Hashes of files that were computed before.
    pub(crate) fn hashes(&self) -> PathBuf {
        self.0.join("hashes.jsonl")
    }

    /// The version of DVC, and which program that is.
    pub(crate) fn dvc_version(&self) -> PathBuf {
        self.0.join("dvc-version")
    }

    pub(crate) fn slots(&self) -> PathBuf {
        self.0.join("slots")
    }

    /// The changes that `collect` is making, while it makes them.
    pub(crate) fn apply(&self) -> PathBuf {
        self.0.join("apply")
    }

    /// The files that runs changed and nobody has committed yet.
    pub(crate) fn uncommitted(&self) -> PathBuf {
        self.0.join("uncommitted.jsonl")
    }

    /// Lists of paths for the git commands that make a commit.
    pub(crate) fn commit(&self) -> PathBuf {
        self.0.join("commit")
    }

    /// Where workers on this machine work that see nothing of the project.
    pub(crate) fn sites(&self) -> PathBuf {
        self.0.join("sites")
    }

    pub(crate) fn runs(&self) -> PathBuf {
        self.0.join("runs")
    }

    pub(crate) fn run(&self, run: &str) -> RunDir {
        RunDir(self.runs().join(run))
    }
}

/// The folder of one run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RunDir(PathBuf);

impl RunDir {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The run's id.
    pub(crate) fn name(&self) -> &str {
        self.0.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.0.join("plan.json")
    }

    /// The run whose folder of keepers this is.
    pub(crate) fn of_kept(kept: &Path) -> RunDir {
        RunDir(kept.parent().unwrap_or(kept).to_owned())
    }

    /// The folder of keepers.
    pub(crate) fn kept(&self) -> PathBuf {
        self.0.join("kept")
    }

    pub(crate) fn kept_stay(&self) -> PathBuf {
        self.kept().join("stay")
    }

    pub(crate) fn kept_end(&self) -> PathBuf {
        self.kept().join("end")
    }

    /// What a work item left running.
    pub(crate) fn left_running(&self, index: ItemIndex) -> PathBuf {
        self.0.join("left-running").join(index.to_string())
    }

    pub(crate) fn worklist(&self) -> PathBuf {
        self.0.join("worklist.jsonl")
    }

    /// The repository that holds the snapshot of the workspace.
    pub(crate) fn snapshot(&self) -> PathBuf {
        self.0.join("snapshot")
    }

    pub(crate) fn worklist_index(&self) -> PathBuf {
        self.0.join("worklist.index")
    }

    pub(crate) fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    pub(crate) fn launch_lock(&self) -> PathBuf {
        self.0.join("launch.lock")
    }

    /// Says who launches, where locks do not reach from one machine to another.
    pub(crate) fn launch_claim(&self) -> PathBuf {
        self.0.join("launch.claim")
    }

    /// Present when the run after it has brought what it has done into the project; it holds a word where that was not
    /// possible.
    pub(crate) fn taken(&self) -> PathBuf {
        self.0.join("taken")
    }

    /// What somebody has decided against results of this run.
    pub(crate) fn decided(&self) -> PathBuf {
        self.0.join("decided.json")
    }

    /// Present when somebody asked to end the launch.
    pub(crate) fn cancel(&self) -> PathBuf {
        self.0.join("cancel")
    }

    /// What is known of the run's cluster Jobs.
    pub(crate) fn jobs(&self) -> PathBuf {
        self.0.join("jobs")
    }

    /// Which work items a cluster Job does.
    pub(crate) fn job(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.json"))
    }

    /// The paths of all outs, deps and stage files, relative to the top of the git work tree.
    pub(crate) fn declared(&self) -> PathBuf {
        self.0.join("declared.json")
    }

    /// Those of the deps that are in no out.
    pub(crate) fn deps(&self) -> PathBuf {
        self.0.join("deps.json")
    }

    /// What workers put in the project that git ignores: paths like those, one a line.
    pub(crate) fn brought(&self) -> PathBuf {
        self.0.join("brought")
    }

    /// The same in folders that are deps.
    pub(crate) fn brought_into_deps(&self) -> PathBuf {
        self.0.join("brought-into-deps")
    }

    /// Present where commands met the limits of mounts.
    pub(crate) fn linked_only(&self) -> PathBuf {
        self.0.join("linked-only")
    }

    /// Held by the worker that runs before the others.
    pub(crate) fn first_claim(&self) -> PathBuf {
        self.0.join("first.claim")
    }

    /// Present once nobody needs to wait for that worker.
    pub(crate) fn first_over(&self) -> PathBuf {
        self.0.join("first.over")
    }

    /// What the tasks of a job array run.
    pub(crate) fn job_script(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.sh"))
    }

    /// What the tasks of a job array say before their workers have logs.
    pub(crate) fn job_output(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.out"))
    }

    /// Variables of the tasks of a job array that only the user may read.
    pub(crate) fn job_variables(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.env"))
    }

    /// Present once the end of the Job was seen.
    pub(crate) fn job_over(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.over"))
    }

    /// Present where workers leave outs in the project's remote, not in its cache.
    pub(crate) fn remote(&self) -> PathBuf {
        self.0.join("remote")
    }

    /// The address of the object store that the run was put into; there from then on.
    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What looks at the object store have taken since the run was put there, beside those of launchers.
    pub(crate) fn looks(&self) -> PathBuf {
        self.0.join("looks.json")
    }

    /// The names of Jobs that were printed since the run was last launched, one a line.
    pub(crate) fn printed(&self) -> PathBuf {
        self.0.join("printed")
    }

    /// Present where the run was planned in another clone of the project.
    pub(crate) fn brought_here(&self) -> PathBuf {
        self.0.join("brought-here")
    }

    /// Says who launches in another clone of the project.
    pub(crate) fn launch_elsewhere(&self) -> PathBuf {
        self.0.join("launch.elsewhere")
    }

    /// What other clones of the project wrote down.
    pub(crate) fn journals(&self) -> PathBuf {
        self.0.join("journals")
    }

    /// Left by a pod that saw all that workers need.
    pub(crate) fn check(&self, name: &str) -> PathBuf {
        self.jobs().join(format!("{name}.checked"))
    }

    /// Names the stages that the run began and that did not come into the project; there from its end on.
    pub(crate) fn unsettled(&self) -> PathBuf {
        self.0.join("unsettled")
    }

    /// Where `finalize` puts the reports.
    pub(crate) fn report(&self) -> PathBuf {
        self.0.join("report")
    }

    pub(crate) fn results(&self) -> PathBuf {
        self.0.join("results")
    }

    /// Everything that workers leave of a work item.
    pub(crate) fn work_item(&self, index: ItemIndex) -> PathBuf {
        self.results().join(index.to_string())
    }

    /// The log of one attempt, which grows while it runs.
    pub(crate) fn log(&self, index: ItemIndex, attempt: AttemptNumber) -> PathBuf {
        self.work_item(index).join(format!("{attempt}.log"))
    }

    /// Present where the result of an attempt is in the object store.
    pub(crate) fn sent(&self, index: ItemIndex, attempt: AttemptNumber) -> PathBuf {
        self.work_item(index).join(format!("{attempt}.sent"))
    }

    /// Names the last attempt whose failure somebody wants to be tried again.
    pub(crate) fn set_aside(&self, index: ItemIndex) -> PathBuf {
        self.work_item(index).join("retry")
    }

    /// Names the attempt whose result did not come into the project as a whole, and says why.
    pub(crate) fn refusal(&self, index: ItemIndex) -> PathBuf {
        self.work_item(index).join("refused")
    }

    /// The job of a cluster whose task left a work item alone, since what it needs was not there.
    pub(crate) fn skipped(&self, index: ItemIndex) -> PathBuf {
        self.work_item(index).join("skipped")
    }

    /// What this program and DVC have left in one attempt, where it was not the same.
    pub(crate) fn both_sides(&self, index: ItemIndex, attempt: AttemptNumber) -> PathBuf {
        self.work_item(index).join(format!("{attempt}.check"))
    }

    /// The published result of one attempt.
    pub(crate) fn attempt(&self, index: ItemIndex, attempt: AttemptNumber) -> PathBuf {
        self.work_item(index).join(attempt.to_string())
    }
}

/// The folder of a slot: `workspace/`, DVC's databases, and the marker that says it is clean.
#[derive(Clone, Debug)]
pub(crate) struct SlotDir(PathBuf);

impl SlotDir {
    pub(crate) fn new(slots: &Path, slot: usize) -> Self {
        SlotDir(slots.join(slot.to_string()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The root of the git work tree.
    pub(crate) fn workspace(&self) -> PathBuf {
        self.0.join("workspace")
    }

    /// The index of the files that belong there, as git wrote it at checkout.
    pub(crate) fn manifest(&self) -> PathBuf {
        self.0.join("manifest.index")
    }

    /// Present only while the workspace is as checked out; names the tree.
    pub(crate) fn clean(&self) -> PathBuf {
        self.0.join("clean")
    }

    /// The lock entries of the stages that are done here, as lock files that lie there as in the project.
    pub(crate) fn locks(&self) -> PathBuf {
        self.0.join("locks")
    }

    /// Stage files that a DVC and its commands take turns to see in the workspace.
    pub(crate) fn stage_files(&self) -> PathBuf {
        self.0.join("stage-files")
    }

    /// What this program made of a work item, to be compared with what DVC makes of it.
    pub(crate) fn aside(&self) -> PathBuf {
        self.0.join("aside")
    }

    /// Names the attempt whose commands run here, of a work item with outs that persist.
    pub(crate) fn at_work(&self) -> PathBuf {
        self.0.join("at-work")
    }

    /// Why the namespace of the last command could not be made.
    pub(crate) fn no_namespace(&self) -> PathBuf {
        self.0.join("no-namespace")
    }

    /// The files of the program that runs DVC.
    pub(crate) fn dvc_process(&self) -> PathBuf {
        self.0.join("dvc-process")
    }

    /// For `DVC_SITE_CACHE_DIR`. `None` where the path has a `$`: DVC's database there (`diskcache`) would take what follows
    /// for a variable and make a folder of another name, beside the project even. DVC's own place does as well.
    pub(crate) fn site_cache(&self) -> Option<PathBuf> {
        let has_variable = self.0.as_os_str().as_encoded_bytes().contains(&b'$');
        (!has_variable).then(|| self.0.join("site-cache"))
    }

    /// Held by the worker that uses the slot.
    pub(crate) fn lock(&self) -> PathBuf {
        self.0.with_extension("lock")
    }
}
