use super::*;
use crate::engine::kubernetes::job::machine::Resources;
use crate::engine::kubernetes::job::options::{EnvVar, User};
use crate::model::quantity::Quantity;

fn options() -> PodOptions {
    PodOptions {
        namespace: "science".to_owned(),
        image: "registry.example/worker:1".to_owned(),
        image_pull_policy: None,
        pull_secrets: vec![],
        workers: 2,
        resources: Resources::parse_machine("2-4Gi").expect("a machine"),
        gpu_resource: "nvidia.com/gpu".to_owned(),
        no_limits: false,
        node_selector: vec![],
        tolerations: vec![],
        affinity: None,
        topology_spread: vec![],
        priority_class: None,
        runtime_class: None,
        scheduler: None,
        service_account: None,
        mount_token: false,
        tags: vec![],
        env: vec![],
        env_secrets: vec![],
        volumes: vec![Volume::parse("pvc:projects/mine:/project").expect("a volume")],
        project: "/project".to_owned(),
        program: "dvc-fanout".to_owned(),
        script: None,
        entrypoint: vec![],
        deadline_seconds: None,
        grace_seconds: 30,
        retries: 2,
        retry_commands: false,
        max_failed: None,
        ttl_seconds: None,
        queue: None,
        security: Security::Restricted,
        user: None,
        fs_group: None,
        patch: None,
    }
}

fn plan() -> JobPlan {
    JobPlan {
        run: "20261122-184000".to_owned(),
        part: "p0".to_owned(),
        class: None,
        generation: 1,
        shards: 10,
        resources: Resources::default(),
        arguments: ["work", "--run", "20261122-184000", "--phase", "0", "--shards", "10"].map(str::to_owned).to_vec(),
    }
}

#[track_caller]
fn manifest(options: &PodOptions, plan: &JobPlan) -> Manifest {
    Manifest::new(options, plan).unwrap_or_else(|problems| panic!("{problems:?}"))
}

#[test]
fn the_plain_manifest_is_what_a_person_would_write() {
    insta::assert_snapshot!(manifest(&options(), &plan()).to_yaml());
}

#[test]
fn every_option_reaches_the_manifest() {
    let mut options = options();
    options.image_pull_policy = Some("Always".to_owned());
    options.pull_secrets = vec!["registry".to_owned()];
    options.no_limits = true;
    options.node_selector = vec![("zone".to_owned(), "a".to_owned())];
    options.tolerations = vec![json!({ "key": "spot", "operator": "Exists", "effect": "NoSchedule" })];
    options.affinity = Some(json!({ "nodeAffinity": {} }));
    options.topology_spread =
        vec![json!({ "maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway" })];
    options.priority_class = Some("low".to_owned());
    options.runtime_class = Some("gvisor".to_owned());
    options.scheduler = Some("own".to_owned());
    options.service_account = Some("worker".to_owned());
    options.mount_token = true;
    options.tags = vec![("team".to_owned(), "vision".to_owned())];
    options.env = vec![EnvVar { name: "HOME".to_owned(), value: "yes".to_owned() }];
    let volumes = ["new:fast:5Gi:/cache", "nfs:nas:/export:/nas:ro", "hostPath:/srv:/srv", "emptyDir:/tmp/big:9Gi"];
    options.volumes.extend(volumes.map(|volume| Volume::parse(volume).expect("a volume")));
    options.program = "/opt/dvc-fanout".to_owned();
    options.script = Some("echo hello; exec \"$@\"".to_owned());
    options.entrypoint = vec!["tini".to_owned(), "--".to_owned()];
    options.deadline_seconds = Some(3600);
    options.retry_commands = true;
    options.max_failed = Some(0);
    options.ttl_seconds = Some(86_400);
    options.queue = Some("research".to_owned());
    options.user = Some(User { uid: 1000, gid: Some(100) });
    options.fs_group = Some(2000);
    options.patch = Some(json!({ "hostNetwork": true }));
    let mut plan = plan();
    plan.class = Some("5e1f0a".to_owned());
    plan.generation = 3;
    plan.resources =
        Resources { disk: Quantity::parse("20G").ok(), ..Resources::parse_machine("m+t4").expect("a size") };
    insta::assert_snapshot!(manifest(&options, &plan).to_yaml());
}

#[test]
fn the_hash_tells_jobs_apart_and_stays_the_same_for_the_same() {
    let hash = |options: &PodOptions| manifest(options, &plan()).job["metadata"]["annotations"][SPEC_HASH].clone();
    let mut other = options();
    other.image = "registry.example/worker:2".to_owned();
    assert_eq!(hash(&options()), hash(&options()));
    assert_ne!(hash(&options()), hash(&other));
    let fewer = PodOptions { workers: 1, ..options() };
    assert_eq!(hash(&options()), hash(&fewer), "how many work at a time is no other Job");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let mut options = options();
    options.image = String::new();
    options.tags = vec![("a b".to_owned(), "c".to_owned())];
    let problems = Manifest::new(&options, &plan()).expect_err("it is wrong");
    let fields: Vec<_> = problems.iter().map(|problem| problem.field.as_str()).collect();
    assert_eq!(fields, ["metadata.labels", "spec.template.metadata.labels", "spec.template.spec.containers[0].image"]);
}

#[test]
fn the_manifest_reads_back_as_it_is() {
    let made = manifest(&options(), &plan());
    let read: Value = serde_yaml::from_str(&made.to_yaml()).expect("YAML");
    assert_eq!(read, made.job);
}
