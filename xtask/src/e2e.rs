//! `cargo xtask e2e`: brings a cluster up, runs e2e/tests/cluster on it, and takes it down, whatever happened.
//!
//! kind where a Docker answers; else the one of e2e/cluster, which is built from Go modules and is the same
//! Kubernetes without any registry of images. With `--fake-nodes` only its control plane, for operator/tests/kwok.

mod artifacts;
mod gateway;
mod images;
mod kind;
mod kubernetes;
mod own;

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use crate::{
    commands::{cargo, interrupted, program, root, step, tidy_up_after_interrupts},
    go::{self, HELM},
    server::{binary, target},
};

#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// Only the tests that have this in their name.
    filter: Option<String>,
    /// Leave the cluster up and say how to use it; the next run takes it as it is.
    #[arg(long)]
    keep: bool,
    /// Take down the cluster that --keep left, and nothing else.
    #[arg(long, conflicts_with_all = ["filter", "keep"])]
    down: bool,
    /// A control plane with this many nodes that only say they run pods, and the tests made for it. It can run
    /// beside others: its ports are moved by PORT_OFFSET (100).
    #[arg(long, value_name = "N", num_args = 0..=1, require_equals = true, default_missing_value = FAKE_NODES)]
    fake_nodes: Option<u16>,
}

impl Arguments {
    /// Those tests whose names have this.
    pub(crate) fn only(filter: &str) -> Self {
        Self { filter: Some(filter.to_owned()), ..Self::default() }
    }
}

/// Room for the 200 pods that the tests have.
const FAKE_NODES: &str = "20";

/// What the tests are told of a cluster, as environment variables.
type Environment = Vec<(&'static str, String)>;

/// A cluster that we bring up and take down.
trait Cluster {
    /// What can be built before it runs, so that no compiler competes with it.
    fn prepare(&self) -> Result<(), String>;
    fn up(&self) -> Result<(), String>;
    /// Takes it down in whatever state it is.
    fn down(&self) -> Result<(), String>;
    fn kubeconfig(&self) -> PathBuf;
    fn kubectl(&self) -> PathBuf;
    /// Logs of the components themselves.
    fn write_logs(&self, folder: &Path);
    /// What only this kind of cluster knows.
    fn environment(&self) -> Environment;
    /// The package of its tests, and the name of their target, which is also that of their feature.
    fn tests(&self) -> (&'static str, &'static str) {
        ("danmu-e2e", "cluster")
    }
}

/// What the clusters need and cannot bring themselves, told before the minutes that everything else takes.
pub(crate) fn check() -> Result<(), String> {
    go::check()?;
    if docker_answers() { Ok(()) } else { own::is_root() }
}

/// One run at a time: a second one would take the first one's cluster down.
fn lock(cluster: &dyn Cluster) -> Result<File, String> {
    let file = cluster.kubeconfig().parent().map(|folder| folder.with_extension("lock")).unwrap_or_default();
    let fault = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    fs::create_dir_all(file.parent().unwrap_or(Path::new("."))).map_err(|error| fault(&error))?;
    let held = File::create(&file).map_err(|error| fault(&error))?;
    match held.try_lock() {
        Ok(()) => Ok(held),
        Err(fs::TryLockError::WouldBlock) => {
            Err("another cargo xtask e2e uses this cluster: wait for its end".into())
        }
        Err(fs::TryLockError::Error(error)) => Err(fault(&error)),
    }
}

/// What CI runs: both kinds of cluster, the quicker first.
pub(crate) fn all() -> Result<(), String> {
    run(&Arguments { fake_nodes: FAKE_NODES.parse().ok(), ..Arguments::default() })?;
    run(&Arguments::default())
}

pub(crate) fn run(arguments: &Arguments) -> Result<(), String> {
    let cluster: Box<dyn Cluster> = match arguments.fake_nodes {
        Some(nodes) => Box::new(own::FakeNodes { nodes }),
        None if docker_answers() => Box::new(kind::Kind),
        None => Box::new(own::Node),
    };
    let _lock = lock(&*cluster)?;
    if arguments.down {
        return cluster.down();
    }
    let started = Instant::now();
    tidy_up_after_interrupts()?;
    // What an earlier run left would be taken for this one's.
    let artifacts = artifacts(&*cluster);
    let _ = fs::remove_dir_all(&artifacts);
    fs::create_dir_all(&artifacts).map_err(|error| format!("{}: {error}", artifacts.display()))?;
    cluster.prepare()?;
    step("build of kubectl danmu", cargo(&["build", "--package", "kubectl-danmu"]))?;
    step("build of the tests", tests(&*cluster, &["--no-run"]))?;
    let done = cluster.up().and_then(|()| {
        let name = format!("tests on the cluster: {}", arguments.filter.as_deref().unwrap_or("all"));
        let mut tests = tests(&*cluster, &["--", "--test-threads", "1", "--nocapture"]);
        tests.args(&arguments.filter).envs(environment(&*cluster)?);
        step(&name, tests)
    });
    if done.is_err() && !interrupted() {
        artifacts::collect(&*cluster, &artifacts);
        println!("    logs, events and objects: {}", artifacts.display());
    }
    let left = if arguments.keep && !interrupted() { tell_how_to_use(&*cluster) } else { cluster.down() };
    println!("    e2e, all of it: {:.0} s", started.elapsed().as_secs_f64());
    // A red test is told before a cluster that does not go.
    done.and(left)
}

/// Cargo on the tests for a kind of cluster.
fn tests(cluster: &dyn Cluster, arguments: &[&str]) -> Command {
    let (package, target) = cluster.tests();
    let mut command = cargo(&["test", "--package", package, "--features", target, "--test", target]);
    command.args(arguments);
    command
}

fn docker_answers() -> bool {
    Command::new("docker").arg("info").output().is_ok_and(|output| output.status.success())
}

/// What a red run leaves; tests may leave more there.
fn artifacts(cluster: &dyn Cluster) -> PathBuf {
    target().join("e2e-artifacts").join(cluster.tests().1)
}

fn environment(cluster: &dyn Cluster) -> Result<Environment, String> {
    let mut environment = cluster.environment();
    environment.extend([
        ("KUBECONFIG", cluster.kubeconfig().display().to_string()),
        ("DANMU_E2E_KUBECTL", cluster.kubectl().display().to_string()),
        ("DANMU_E2E_KUBECTL_DANMU", binary("debug", "kubectl-danmu").display().to_string()),
        ("DANMU_E2E_HELM", HELM.install()?.display().to_string()),
        ("DANMU_E2E_ARTIFACTS", artifacts(cluster).display().to_string()),
        ("DANMU_E2E_API_SERVER", file("api-server.sh").display().to_string()),
        ("DANMU_E2E_KILL", file("kill.sh").display().to_string()),
    ]);
    Ok(environment)
}

fn tell_how_to_use(cluster: &dyn Cluster) -> Result<(), String> {
    println!(
        "==> the cluster stays up; the same command with --down instead of --keep takes it down. To use it:"
    );
    for (name, value) in environment(cluster)? {
        println!("export {name}={value}");
    }
    println!("\"$DANMU_E2E_KUBECTL\" get pods --all-namespaces");
    Ok(())
}

/// kubectl as the cluster's admin.
fn kubectl(cluster: &dyn Cluster, arguments: &[&str]) -> Command {
    let mut command = program(cluster.kubectl(), arguments, ".");
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("KUBECACHEDIR", cluster.kubeconfig().with_file_name("kubectl-cache"));
    command
}

/// Our CustomResourceDefinitions; the tests install the rest.
fn install_definitions(cluster: &dyn Cluster) -> Result<(), String> {
    let mut helm =
        program(HELM.install()?, &["upgrade", "--install", "danmu-crds", "danmu-crds", "--wait"], "charts");
    helm.args(["--namespace", "default"]).env("KUBECONFIG", cluster.kubeconfig());
    helm.stdout(std::process::Stdio::null());
    step("chart danmu-crds", helm)
}

/// A file of e2e/cluster.
fn file(name: &str) -> PathBuf {
    root().join("e2e/cluster").join(name)
}

/// The settings of a program that the shell gave us, or one of our own.
fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}
