//! Servers as child processes, which can be killed, stopped, drained and started again.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use super::{WorldError, signal};
use crate::{history::PodRun, http::ask};

/// The room of the run; everybody may say as much as they like.
const ROOM: &str = "
apiVersion: danmu.live/v1alpha1
kind: DanmuRoom
metadata: {name: soak}
spec:
  limits: {messagesPerSecond: 1000, perViewer: {messages: 1000, seconds: 1}}
  moderation: {anonymous: Speak}
";

/// Where a running server is.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// Which start of which pod.
    pub pod: PodRun,
    /// `host:port` for viewers.
    pub public: String,
    /// `host:port` of the admin API.
    pub admin: String,
}

#[derive(Debug)]
struct Pod {
    arguments: Vec<String>,
    runs: u32,
    process: Option<Process>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    /// Kept open: a server that cannot write to it would fail.
    _stdout: BufReader<ChildStdout>,
}

/// The servers of the fleet.
#[derive(Debug)]
pub struct Pods {
    binary: PathBuf,
    folder: PathBuf,
    pods: Vec<tokio::sync::Mutex<Pod>>,
    /// Whatever viewers and publishers may connect to.
    running: Mutex<Vec<Option<Addresses>>>,
}

impl Pods {
    /// One server for each list of arguments; none runs yet.
    ///
    /// # Errors
    /// When the manifest cannot be written.
    pub fn new(binary: &Path, folder: &Path, arguments: Vec<Vec<String>>) -> Result<Pods, WorldError> {
        std::fs::create_dir_all(folder.join("rooms"))?;
        std::fs::write(folder.join("rooms/soak.yaml"), ROOM)?;
        let running = Mutex::new(vec![None; arguments.len()]);
        let pods = arguments
            .into_iter()
            .map(|arguments| tokio::sync::Mutex::new(Pod { arguments, runs: 0, process: None }));
        Ok(Pods { binary: binary.to_owned(), folder: folder.to_owned(), pods: pods.collect(), running })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.pods.len()
    }

    /// Where a server is, if it runs as far as is known.
    pub fn addresses(&self, pod: usize) -> Option<Addresses> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(pod).cloned().flatten()
    }

    fn set(&self, pod: usize, addresses: Option<Addresses>) {
        if let Some(place) = self.running.lock().unwrap_or_else(PoisonError::into_inner).get_mut(pod) {
            *place = addresses;
        }
    }

    async fn pod(&self, pod: usize) -> tokio::sync::MutexGuard<'_, Pod> {
        self.pods[pod].lock().await
    }

    /// Starts a pod and waits for its addresses.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn start(&self, pod: usize) -> Result<(), WorldError> {
        let mut state = self.pod(pod).await;
        let run = PodRun { pod, run: state.runs };
        let log = std::fs::File::create(self.folder.join(format!("pod-{}-{}.log", pod, run.run)))?;
        let program = || self.binary.display().to_string();
        let mut child = Command::new(&self.binary)
            .args(["--public=127.0.0.1:0", "--admin=127.0.0.1:0", "--workers=2", "--drain-seconds=2"])
            .arg("--rooms")
            .arg(self.folder.join("rooms"))
            .args(&state.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| WorldError::Start { program: program(), error })?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or(WorldError::Late("standard output"))?);
        let mut line = String::new();
        tokio::time::timeout(Duration::from_secs(20), stdout.read_line(&mut line))
            .await
            .map_err(|_| WorldError::Late("a server's start"))??;
        let mut addresses =
            line.split("http://").skip(1).filter_map(|rest| rest.split([',', ' ', '\n', '/']).next());
        let (Some(public), Some(admin)) = (addresses.next(), addresses.next()) else {
            return Err(WorldError::NoAddresses(line));
        };
        self.set(pod, Some(Addresses { pod: run, public: public.to_owned(), admin: admin.to_owned() }));
        state.runs += 1;
        state.process = Some(Process { child, _stdout: stdout });
        Ok(())
    }

    /// Ends a pod at once, as a crash does.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub async fn kill(&self, pod: usize) -> Result<(), WorldError> {
        let mut state = self.pod(pod).await;
        // Viewers go on trying it until it is known to be gone, as they would.
        if let Some(mut process) = state.process.take() {
            process.child.kill().await?;
        }
        self.set(pod, None);
        Ok(())
    }

    /// Stops a pod in its tracks, or lets it go on.
    ///
    /// # Errors
    /// When the signal cannot be sent.
    pub async fn freeze(&self, pod: usize, frozen: bool) -> Result<(), WorldError> {
        match &self.pod(pod).await.process {
            Some(process) => signal(&process.child, if frozen { Signal::STOP } else { Signal::CONT }),
            None => Ok(()),
        }
    }

    /// Asks a pod to drain and end, and waits until it has.
    ///
    /// # Errors
    /// When it does not end well in time.
    pub async fn drain(&self, pod: usize) -> Result<(), WorldError> {
        let mut state = self.pod(pod).await;
        self.set(pod, None);
        let Some(mut process) = state.process.take() else { return Ok(()) };
        signal(&process.child, Signal::TERM)?;
        let status = tokio::time::timeout(Duration::from_secs(20), process.child.wait())
            .await
            .map_err(|_| WorldError::Late("a drain"))??;
        if status.success() { Ok(()) } else { Err(WorldError::Ended(status)) }
    }

    /// The process of a pod that ended without being told to.
    ///
    /// # Errors
    /// That process.
    pub async fn are_alive(&self) -> Result<(), WorldError> {
        for pod in &self.pods {
            if let Some(process) = &mut pod.lock().await.process
                && let Some(status) = process.child.try_wait()?
            {
                return Err(WorldError::Ended(status));
            }
        }
        Ok(())
    }
}

/// One request to an admin API; its status and body, or nothing when there is no answer in time.
pub async fn http(
    address: &str,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: String,
) -> Option<(u16, String)> {
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(key.map(|key| ("idempotency-key", key)));
    let answer = ask(Duration::from_secs(4), address, method, path, &headers, body).await.ok()?;
    Some((answer.status, answer.body))
}
