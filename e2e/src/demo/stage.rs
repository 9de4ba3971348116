//! Where the walk takes place: a server with a folder of manifests, or a fleet on a cluster.

use std::{path::PathBuf, process::Stdio, time::Duration};

use jsonwebtoken::{EncodingKey, Header};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use crate::{
    http::{Answer, ask},
    wait::until,
};

/// One request, one `kubectl`.
const DEADLINE: Duration = Duration::from_secs(15);
/// Until an edit is in force: a folder takes half a second, a ConfigMap in a cluster some more.
const IN_FORCE: Duration = Duration::from_secs(30);
/// The fleet's manifest in a folder.
pub(super) const FLEET_FILE: &str = "fleet.yaml";
/// How long the demo's tokens hold, in seconds.
const TOKEN: u64 = 3600;

/// Where manifests are put.
#[derive(Debug)]
pub enum Manifests {
    /// A folder that the server follows.
    Folder(PathBuf),
    /// A namespace.
    Cluster {
        /// The program.
        kubectl: PathBuf,
        /// Its plugin, `kubectl-danmu`.
        plugin: PathBuf,
        /// Where the fleet is.
        namespace: String,
    },
}

/// Running servers and what opens them.
#[derive(Debug)]
pub struct Stage {
    /// `host:port` for viewers.
    pub public: String,
    /// `host:port` of the admin API.
    pub admin: String,
    /// Its bearer token.
    pub admin_token: Option<String>,
    /// The secret of HS256 tokens.
    pub token_secret: String,
    /// The file of the fleet's key set, or the Secret with the key `jwks.json`.
    pub key_set: String,
    /// The rooms' fleet.
    pub fleet: String,
    /// This machine's address, as the servers reach it.
    pub reached_at: String,
    /// Where rooms are made.
    pub manifests: Manifests,
}

impl Stage {
    /// Tells what was seen.
    pub(super) fn tell(&self, what: &str) {
        println!("   {what}");
    }

    /// Whether it is a cluster.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.manifests, Manifests::Cluster { .. })
    }

    /// Makes a room, or edits it, and waits until the server knows it.
    pub(super) async fn room(&self, name: &str, mut spec: Value) -> Result<(), String> {
        if let Some(spec) = spec.as_object_mut() {
            spec.insert("fleet".to_owned(), json!(self.fleet));
        }
        let manifest = json!({
            "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "metadata": {"name": name}, "spec": spec,
        });
        self.put(name, &manifest).await?;
        self.until("the room is known", async || {
            self.admin("GET", &format!("/rooms/{name}"), Value::Null).await.map(drop)
        })
        .await
    }

    /// Words, one a line, under a name that rooms can give in `words.from`.
    pub(super) async fn words(&self, name: &str, words: &str) -> Result<(), String> {
        match &self.manifests {
            Manifests::Folder(folder) => {
                let list = folder.join(name);
                std::fs::create_dir_all(&list).map_err(|error| format!("{}: {error}", list.display()))?;
                write(&list.join("words.txt"), words)
            }
            Manifests::Cluster { .. } => {
                let labels = json!({"danmu.live/words": "yes"});
                let metadata = json!({"name": name, "labels": labels});
                let map = json!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"words.txt": words},
                });
                self.put(name, &map).await
            }
        }
    }

    /// Puts another key set in the place of the fleet's.
    pub(super) async fn keys(&self, set: &str) -> Result<(), String> {
        match &self.manifests {
            Manifests::Folder(_) => write(self.key_set.as_ref(), set),
            Manifests::Cluster { .. } => {
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret", "metadata": {"name": self.key_set},
                    "stringData": {"jwks.json": set},
                });
                self.put(&self.key_set, &secret).await
            }
        }
    }

    /// Changes fields of the fleet; null takes one away.
    pub(super) async fn edit_fleet(&self, spec: Value) -> Result<(), String> {
        let patch = json!({"spec": spec});
        match &self.manifests {
            Manifests::Folder(folder) => {
                let file = folder.join(FLEET_FILE);
                let text =
                    std::fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
                let mut fleet = serde_json::from_str(&text).map_err(|error| error.to_string())?;
                merge(&mut fleet, &patch);
                write(&file, &fleet.to_string())
            }
            Manifests::Cluster { .. } => {
                let patch = patch.to_string();
                let arguments = ["patch", "danmufleet", &self.fleet, "--type=merge", "--patch", &patch];
                self.kubectl(&arguments, "").await.map(drop)
            }
        }
    }

    /// Takes a room away.
    pub(super) async fn remove_room(&self, name: &str) -> Result<(), String> {
        match &self.manifests {
            Manifests::Folder(folder) => {
                let file = folder.join(format!("{name}.yaml"));
                std::fs::remove_file(&file).map_err(|error| format!("{}: {error}", file.display()))
            }
            Manifests::Cluster { .. } => self.kubectl(&["delete", "danmuroom", name], "").await.map(drop),
        }
    }

    async fn put(&self, name: &str, manifest: &Value) -> Result<(), String> {
        match &self.manifests {
            Manifests::Folder(folder) => write(&folder.join(format!("{name}.yaml")), &manifest.to_string()),
            Manifests::Cluster { .. } => {
                let arguments =
                    ["apply", "--server-side", "--force-conflicts", "--field-manager=danmu-demo", "-f", "-"];
                self.kubectl(&arguments, &manifest.to_string()).await.map(drop)
            }
        }
    }

    /// Runs `kubectl` in the fleet's namespace; its output.
    pub(super) async fn kubectl(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let Manifests::Cluster { kubectl, namespace, .. } = &self.manifests else {
            return Err("there is no cluster".to_owned());
        };
        let mut command = Command::new(kubectl);
        command.args(["--namespace", namespace]).args(arguments);
        run(command, format!("kubectl {}", arguments.join(" ")), input).await
    }

    /// The command `kubectl danmu` in the fleet's namespace.
    pub(super) fn plugin(&self, arguments: &[&str]) -> Result<Command, String> {
        let Manifests::Cluster { plugin, namespace, .. } = &self.manifests else {
            return Err("there is no cluster".to_owned());
        };
        let mut command = Command::new(plugin);
        command.args(arguments).args(["--namespace", namespace]).kill_on_drop(true);
        Ok(command)
    }

    /// Runs `kubectl danmu`; its output.
    pub(super) async fn danmu(&self, arguments: &[&str]) -> Result<String, String> {
        run(self.plugin(arguments)?, format!("kubectl danmu {}", arguments.join(" ")), "").await
    }

    /// What `kubectl get` says of an object.
    pub(super) async fn object(&self, kind: &str, name: &str) -> Result<Value, String> {
        let text = self.kubectl(&["get", kind, name, "-o", "json"], "").await?;
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    /// Asks the admin API; what it answers, or what it refuses in its own words.
    pub(super) async fn admin(&self, method: &str, path: &str, body: Value) -> Result<Value, String> {
        let answer = self.ask_admin(method, path, &[], body).await?;
        if answer.status / 100 != 2 {
            return Err(format!("{method} {path}: {} {}", answer.status, answer.body));
        }
        Ok(serde_json::from_str(&answer.body).unwrap_or(Value::String(answer.body)))
    }

    /// The same, whatever the answer.
    pub(super) async fn ask_admin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Value,
    ) -> Result<Answer, String> {
        let token = self.admin_token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/json"));
        headers.extend(token.as_ref().map(|token| ("authorization", token.as_str())));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        ask(DEADLINE, &self.admin, method, path, &headers, body).await
    }

    /// Publishes to a room; its receipt.
    pub(super) async fn publish(&self, room: &str, message: Value) -> Result<Value, String> {
        self.admin("POST", &format!("/rooms/{room}/publish"), message).await
    }

    /// Fetches from the viewers' port.
    pub(super) async fn fetch(&self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, String> {
        ask(DEADLINE, &self.public, "GET", path, headers, String::new()).await
    }

    /// A token of this user.
    pub(super) fn token(&self, user: &str, role: &str) -> Result<String, String> {
        let claims = json!({"sub": user, "name": user, "role": role, "exp": in_an_hour()});
        let key = EncodingKey::from_secret(self.token_secret.as_bytes());
        jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(|error| error.to_string())
    }

    /// Looks until there is something, for as long as an edit may take.
    pub(super) async fn until<T>(
        &self,
        what: &str,
        look: impl AsyncFnMut() -> Result<T, String>,
    ) -> Result<T, String> {
        until(IN_FORCE, what, look).await
    }
}

/// The end of a token's hour, in seconds since 1970.
pub(super) fn in_an_hour() -> u64 {
    unix_ms() / 1000 + TOKEN
}

/// Milliseconds since 1970.
pub(super) fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// JSON Merge Patch (RFC 7386), as far as objects go.
fn merge(into: &mut Value, patch: &Value) {
    let (Some(fields), Value::Object(into)) = (patch.as_object(), &mut *into) else {
        *into = patch.clone();
        return;
    };
    for (name, value) in fields {
        if value.is_null() {
            into.remove(name);
        } else {
            merge(into.entry(name).or_insert(Value::Object(serde_json::Map::new())), value);
        }
    }
}

/// Puts a file in place as a whole: a half-written manifest must not be read.
fn write(path: &std::path::Path, text: &str) -> Result<(), String> {
    let fault = |error| format!("{}: {error}", path.display());
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, text).map_err(fault)?;
    std::fs::rename(&unfinished, path).map_err(fault)
}

/// Runs a program to its end; its output, or what it said was wrong.
async fn run(mut command: Command, told: String, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let run = async {
        let mut child = command.spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    let output = timeout(DEADLINE, run).await.map_err(|_| format!("{told}: not done in {DEADLINE:?}"))?;
    let output = output.map_err(|error| format!("{told}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{told}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}
