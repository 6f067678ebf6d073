//! Builds whose workers are pods of a cluster, with an image that is really built and pushed.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{Job, assert_ended, path, said_by};
use crate::support::apiserver::{ApiServer, Options};
use crate::support::same::assert_clean;
use crate::support::{Project, Ran, tool};

/// What `htpasswd -B` makes of the registry's credentials in the harness: `somebody`, `secret-of-registry`.
const PASSWORDS: &str = "somebody:$2y$04$DM6ZTHHYD3TG9u.9Xb7ol.6Zb1Nm3YwR5ufJQ1l8WaNSnqVDGHJxa\n";

#[test]
fn a_build_makes_its_image_and_lets_pods_with_gpus_do_the_work() {
    let dockerfile = "FROM scratch\nARG GREETING\nLABEL greeting=$GREETING\nCOPY params.yaml /\n";
    let edit = |project: &Project| {
        project.write("Dockerfile", dockerfile);
        project.dvc(["remote", "add", "other", &path(project, "../other")]);
    };
    let Some(job) = Job::new(edit) else { return };
    let Some(openssl) = tool("openssl") else { return };
    certify(&job.project, &openssl);
    let Some(registry) = Registry::start(&job.project) else { return };
    let comments = Comments::start(&job.project);
    let cluster = Cluster::start(&job.project);

    let mut command = cluster.command(
        &job,
        &[
            "GPU=map",
            "REMOTE=other",
            &format!("set:registry={}/team/project", registry.address),
            "set:buildArguments=[GREETING: 'it\\'s $me']",
            &format!("set:pullRequestHost=localhost:{}", comments.port),
            &format!("PULL_REQUEST=https://localhost:{}/team/project/pull/7", comments.port),
        ],
    );
    registry.known_to(&job.project, &mut command);
    let said = said_by(&mut command);
    assert!(said.ends_with("result: SUCCESS\n"), "{said}");
    job.assert_same_as_repro("main");
    let clone = job.clone_of("main");
    clone.dvc(["pull", "--quiet", "--remote", "other"]);
    assert_clean(&clone, &[]);

    let image = format!("{}/team/project:jenkins-team-project-1", registry.address);
    assert_eq!(registry.label(&job.project, &image, "greeting"), "it's $me");
    let pods = cluster.server.objects("jobs");
    let worker = &pods[0]["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(worker["image"], image);
    assert_eq!(worker["resources"]["limits"]["nvidia.com/gpu"], "1");
    for (number, gpu) in [(1, None), (2, None)] {
        check_pod(&job.project, number, &image, gpu);
    }
    let comment = comments.comment();
    assert_eq!(comment["path"], "/api/v3/repos/team/project/issues/7/comments");
    assert_eq!(comment["token"], "Bearer secret-of-pull-request-token");
    assert!(comment["body"].as_str().is_some_and(|body| body.contains("5 work items succeeded")), "{comment}");
}

#[test]
fn an_abort_takes_the_pods_from_the_cluster() {
    let waits = |project: &Project| {
        let command = format!("cmd: echo $$ >> {}; sleep 300; mkdir -p work &&", project.path("../began").display());
        project.edit("dvc.yaml", "cmd: mkdir -p work &&", &command);
    };
    let Some(job) = Job::new(waits) else { return };
    let cluster = Cluster::start(&job.project);
    let before = job.origin(["rev-parse", "main"]);
    let began = job.project.path("../began");
    let abort = format!("abort:dvc-fanout launch={}", began.display());
    let said = said_by(&mut cluster.command(&job, &["set:image=worker:1", "GPU=all", &abort]));
    assert!(said.ends_with("result: ABORTED\n"), "{said}");
    assert_eq!(job.origin(["rev-parse", "main"]), before);
    assert_eq!(cluster.server.objects("jobs"), [] as [Value; 0], "{said}");
    assert_ended(&began);
}

#[test]
fn a_merge_request_of_gitlab_gets_the_report_and_another_address_nothing() {
    let Some(openssl) = tool("openssl") else { return };
    let project = Project::bare();
    certify(&project, &openssl);
    let comments = Comments::start(&project);
    project.write("report.md", "two of three\n");
    let server = format!("localhost:{}", comments.port);
    let post = |link: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("jenkins/resources/dvc-fanout/comment.py");
        let mut command = project.command("python3");
        command.arg(script).arg("report.md").env("PULL_REQUEST", link).env("PULL_REQUEST_TOKEN", "token");
        command.env("PULL_REQUEST_HOST", &server);
        Ran::of(command.env("SSL_CERT_FILE", project.path("../certificate.pem")))
    };
    for link in [format!("http://{server}/team/project/pull/7"), format!("https://{server}/team/project/issues/7")] {
        let refused = post(&link);
        assert!(refused.code == Some(1) && refused.stderr.contains("is no link to a pull request"), "{refused:#?}");
    }
    let refused = post(&format!("https://127.0.0.1:{}/team/project/pull/7", comments.port));
    assert!(refused.code == Some(1) && refused.stderr.contains("the only host that gets the token"), "{refused:#?}");
    post(&format!("https://{server}/group/team/project/-/merge_requests/3")).succeeded();
    let comment = comments.comment();
    assert_eq!(comment["path"], "/api/v4/projects/group%2Fteam%2Fproject/merge_requests/3/notes");
    assert_eq!((&comment["token"], &comment["body"]), (&json!("token"), &json!("two of three\n")));
}

/// A pod of the build: every container sees the volume, and has the user of Jenkins' agent and group 0.
fn check_pod(project: &Project, number: usize, image: &str, gpus: Option<&str>) {
    let text = project.read(&format!("../pods/{number}.yaml"));
    let pod: Value = serde_yaml::from_str(&text).expect("it is YAML");
    let spec = &pod["spec"];
    let shared = json!([{"name": "shared", "mountPath": path(project, "../shared")}]);
    for (container, name) in spec["containers"].as_array().expect("a list").iter().zip(["jnlp", "project"]) {
        assert!(container["name"] == name && container["volumeMounts"] == shared, "{text}");
    }
    assert_eq!(spec["volumes"][0], json!({"name": "shared", "persistentVolumeClaim": {"claimName": "dvc-shared"}}));
    assert_eq!(spec["containers"][1]["image"], image);
    assert_eq!(spec["containers"][1]["resources"]["limits"]["nvidia.com/gpu"].as_str(), gpus);
    assert!(spec["securityContext"]["runAsUser"] == 1000 && spec["securityContext"]["runAsGroup"] == 0, "{text}");
}

/// A cluster whose claim `dvc-shared` is the job's shared folder.
struct Cluster {
    server: ApiServer,
    node: tempfile::TempDir,
}

impl Cluster {
    fn start(project: &Project) -> Self {
        let node = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(node.path().join("pvc")).expect("made");
        std::os::unix::fs::symlink(path(project, "../shared"), node.path().join("pvc/dvc-shared")).expect("linked");
        let server = ApiServer::start(Options::new(node.path()));
        server.write_kubeconfig(&node.path().join("kubeconfig"), "science");
        Cluster { server, node }
    }

    /// The job, with this cluster for its workers. Their Jobs stay, to be looked at.
    fn command(&self, job: &Job, arguments: &[&str]) -> Command {
        let program = env!("CARGO_BIN_EXE_dvc-fanout");
        let more = format!("['--worker-program', '{program}', '--pod-env', 'DVC_NO_ANALYTICS=1', '--keep', 'always']");
        let mut command = job.command(arguments);
        command.env("KUBECONFIG", self.node.path().join("kubeconfig")).arg(format!("set:launchArguments={more}"));
        command
    }
}

/// Makes the certificate of this machine's servers, which clients trust by `SSL_CERT_FILE`.
fn certify(project: &Project, openssl: &Path) {
    let mut command = project.command(openssl);
    command.args(["req", "-x509", "-nodes", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=localhost"]);
    command.args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    command.arg("-keyout").arg(project.path("../key.pem")).arg("-out").arg(project.path("../certificate.pem"));
    Ran::of(&mut command).succeeded();
}

/// A registry of images that only lets in who knows its password.
struct Registry {
    server: Child,
    address: String,
    /// Where `buildah` keeps images and settings of this test.
    folder: std::path::PathBuf,
}

impl Registry {
    /// `None` where it cannot be started or built for.
    fn start(project: &Project) -> Option<Self> {
        let (program, _) = (tool("docker-registry")?, tool("buildah")?);
        let folder = project.path("../images");
        std::fs::create_dir(&folder).expect("made");
        let at = folder.display();
        let write = |name: &str, text: String| std::fs::write(folder.join(name), text).expect("written");
        write("passwords", PASSWORDS.to_owned());
        write(
            "registry.yml",
            format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {at}/registry}}}}\n\
                 http: {{addr: '127.0.0.1:0', tls: {{certificate: {at}/../certificate.pem, key: {at}/../key.pem}}}}\n\
                 auth: {{htpasswd: {{realm: test, path: {at}/passwords}}}}\n"
            ),
        );
        let mut command = project.command(program);
        let mut server =
            command.arg("serve").arg(folder.join("registry.yml")).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let stderr = server.as_mut().expect("started").stderr.take().expect("piped");
        let address = line_with(stderr, "listening on ");
        write(
            "storage.conf",
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/storage\"\nrunroot = \"{at}/run\"\n"),
        );
        Some(Registry { server: server.expect("started"), address, folder })
    }

    /// Has `buildah` trust this registry, and keep to this test's folder.
    fn known_to(&self, project: &Project, command: &mut Command) {
        command.env("BUILDAH_ISOLATION", "chroot").env("REGISTRY_AUTH_FILE", self.folder.join("auth.json"));
        command.env("CONTAINERS_STORAGE_CONF", self.folder.join("storage.conf"));
        command.env("SSL_CERT_FILE", project.path("../certificate.pem"));
    }

    /// A label of an image that was pushed.
    fn label(&self, project: &Project, image: &str, label: &str) -> String {
        let buildah = |arguments: &[&str]| {
            let mut command = project.command("buildah");
            self.known_to(project, &mut command);
            Ran::of(command.args(arguments)).succeeded()
        };
        buildah(&["rmi", image]);
        buildah(&["pull", "--quiet", image]);
        let format = format!("{{{{index .OCIv1.Config.Labels \"{label}\"}}}}");
        buildah(&["inspect", "--type", "image", "--format", &format, image]).trim_end().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// A code host that takes a comment.
struct Comments {
    server: Child,
    port: String,
    file: std::path::PathBuf,
}

impl Comments {
    fn start(project: &Project) -> Self {
        let file = project.path("../comment.json");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/comments.py");
        let mut command = project.command("python3");
        command.arg(script).arg(project.path("../certificate.pem")).arg(project.path("../key.pem")).arg(&file);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().expect("started");
        let port = line_with(server.stdout.take().expect("piped"), "");
        Comments { server, port, file }
    }

    /// The request that came in.
    fn comment(&self) -> Value {
        serde_json::from_str(&std::fs::read_to_string(&self.file).expect("one came in")).expect("it is JSON")
    }
}

impl Drop for Comments {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

/// What follows some words in the output of a server, up to a quotation mark or comma; goes on reading so that it can write.
fn line_with(output: impl Read + Send + 'static, words: &str) -> String {
    let mut lines = BufReader::new(output).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains(words)).expect("it says where it listens");
    std::thread::spawn(move || lines.for_each(drop));
    let (_, rest) = line.split_once(words).expect("it has them");
    rest.split(['"', ',']).next().unwrap_or_default().to_owned()
}
