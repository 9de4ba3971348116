//! A server of the demo's own, with a folder of manifests that goes with it.

use std::{path::Path, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::{Manifests, Stage, first_keys, receiver, stage::FLEET_FILE};

/// Until the first line of a server, which says that it answers.
const START: Duration = Duration::from_secs(20);
const SECRET: &str = "a-secret-of-the-demo";
const FLEET: &str = r#"{"apiVersion": "danmu.live/v1alpha1", "kind": "DanmuFleet", "metadata": {"name": "default"}, "spec": {}}"#;

/// A server; it ends when this is dropped.
#[derive(Debug)]
pub struct Local {
    _server: Child,
    _folder: TempDir,
}

/// Starts the server of this path.
///
/// # Errors
/// It cannot be started, or does not answer in time.
pub async fn start(server: &Path) -> Result<(Stage, Local), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (rooms, key_set) = (folder.path().join("rooms"), folder.path().join("jwks.json"));
    std::fs::create_dir(&rooms).map_err(|error| error.to_string())?;
    std::fs::write(rooms.join(FLEET_FILE), FLEET).map_err(|error| error.to_string())?;
    std::fs::write(&key_set, first_keys()?).map_err(|error| error.to_string())?;
    let mut child = Command::new(server)
        .args(["--public", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--drain-seconds", "1"])
        .arg("--rooms")
        .arg(&rooms)
        .arg("--token-jwks")
        .arg(&key_set)
        .env("DANMU_TOKEN_SECRET", SECRET)
        .env("DANMU_HOOK_SECRET", receiver::SECRET)
        .env("DANMU_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("{}: {error}", server.display()))?;
    let stdout = child.stdout.take().ok_or("the server has no output")?;
    let mut line = String::new();
    let _ = timeout(START, BufReader::new(stdout).read_line(&mut line)).await;
    let mut addresses = line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("http://"))
        .map(|it| it.trim_end_matches(','));
    let (Some(public), Some(admin)) = (addresses.next(), addresses.next()) else {
        return Err("the server did not start; its faults are above".to_owned());
    };
    let stage = Stage {
        public: public.to_owned(),
        admin: admin.to_owned(),
        admin_token: None,
        token_secret: SECRET.to_owned(),
        key_set: key_set.display().to_string(),
        fleet: "default".to_owned(),
        reached_at: "127.0.0.1".to_owned(),
        manifests: Manifests::Folder(rooms),
    };
    Ok((stage, Local { _server: child, _folder: folder }))
}
