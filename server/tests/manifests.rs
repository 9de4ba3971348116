//! What an edit of the manifests does to a running server and to those who are in its rooms.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::{
    fs,
    io::{BufRead, BufReader},
    path::Path,
    process::Stdio,
    sync::mpsc,
    time::{Duration, Instant},
};

use danmu_wire::{CloseCode, Event, RefusalCode};
use futures_util::StreamExt;
use support::{
    Danmu, PATIENCE, ROOMS,
    process::{Process, danmu_server},
};
use tokio_tungstenite::tungstenite::{Error, Message, client::IntoClientRequest};

fn room(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

fn fleet(spec: &str) -> String {
    format!(
        "---\napiVersion: danmu.live/v1alpha1\nkind: DanmuFleet\nmetadata: {{name: default}}\nspec: {spec}\n"
    )
}

/// Puts a file in place at once, as editors and `kubectl` do.
fn put(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(".next"), text).unwrap();
    fs::rename(folder.join(".next"), folder.join(name)).unwrap();
}

/// What comes of a try to watch a room.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    In,
    /// The status before the upgrade.
    Status(u16),
    /// The code after it.
    Closed(u16),
}

async fn outcome(danmu: &Danmu, path: &str, header: Option<(&'static str, &str)>) -> Outcome {
    let mut request = format!("ws://{}{path}", danmu.public()).into_client_request().unwrap();
    if let Some((name, value)) = header {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let tried = async {
        match tokio_tungstenite::connect_async(request).await {
            Err(Error::Http(answer)) => Outcome::Status(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
            Ok((mut socket, _)) => match socket.next().await.unwrap().unwrap() {
                Message::Close(frame) => Outcome::Closed(frame.unwrap().code.into()),
                _ => Outcome::In,
            },
        }
    };
    tokio::time::timeout(PATIENCE, tried).await.expect("nothing comes")
}

/// Waits for an edit to be taken up.
async fn becomes(danmu: &Danmu, path: &str, header: Option<(&'static str, &str)>, wanted: Outcome) {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = outcome(danmu, path, header).await;
        if now == wanted {
            return;
        }
        assert!(Instant::now() < until, "{path} with {header:?} stays {now:?}, not {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_edit_reaches_those_who_are_in() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    ann.say("novel").await;
    ann.hears("novel").await;
    put(
        danmu.folder.path(),
        "rooms.yaml",
        &room("talk", "{moderation: {anonymous: Speak, slowModeSeconds: 1, words: {block: [novel]}}}"),
    );
    let Event::Mode(mode) = ann.find(|event| matches!(event, Event::Mode(_))).await else { unreachable!() };
    assert_eq!(mode.slow_mode_seconds, 1);
    ann.say("novel").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::BlockedWord);
}

#[tokio::test]
async fn viewers_of_a_room_whose_manifest_goes_are_closed_and_none_comes_in() {
    let danmu = Danmu::start(&[]).await;
    put(danmu.folder.path(), "more.yaml", &room("more", "{moderation: {anonymous: Speak}}"));
    becomes(&danmu, "/rooms/more/ws", None, Outcome::In).await;
    let (mut ann, mut bob) = (danmu.join("more").await, danmu.join("talk").await);
    fs::remove_file(danmu.folder.path().join("more.yaml")).unwrap();
    let gone = CloseCode::NoSuchRoom.code();
    assert_eq!(ann.close_code().await, gone);
    assert_eq!(outcome(&danmu, "/rooms/more/ws", None).await, Outcome::Closed(gone));
    bob.say("still here").await;
    bob.hears("still here").await;
    put(danmu.folder.path(), "more.yaml", &room("more", "{}"));
    becomes(&danmu, "/rooms/more/ws", None, Outcome::In).await;
}

/// Kubernetes updates a mounted ConfigMap by swapping the symlink `..data`.
#[tokio::test]
async fn the_swap_of_a_config_map_is_an_edit() {
    let danmu = Danmu::start(&[]).await;
    let folder = danmu.folder.path();
    for (version, seconds) in [("..1", 10), ("..2", 20)] {
        fs::create_dir(folder.join(version)).unwrap();
        let text = room("mapped", &format!("{{moderation: {{slowModeSeconds: {seconds}}}}}"));
        fs::write(folder.join(version).join("mapped.yaml"), text).unwrap();
    }
    std::os::unix::fs::symlink("..1", folder.join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/mapped.yaml", folder.join("mapped.yaml")).unwrap();
    becomes(&danmu, "/rooms/mapped/ws", None, Outcome::In).await;
    let mut ann = danmu.join("mapped").await;
    std::os::unix::fs::symlink("..2", folder.join("..data_tmp")).unwrap();
    fs::rename(folder.join("..data_tmp"), folder.join("..data")).unwrap();
    let Event::Mode(mode) = ann.find(|event| matches!(event, Event::Mode(_))).await else { unreachable!() };
    assert_eq!(mode.slow_mode_seconds, 20);
}

#[tokio::test]
async fn the_fleets_origins_say_which_pages_connect() {
    let danmu = Danmu::start(&[]).await;
    let page = Some(("Origin", "https://tv.example"));
    assert_eq!(outcome(&danmu, "/rooms/talk/ws", page).await, Outcome::Status(403));
    put(
        danmu.folder.path(),
        "fleet.yaml",
        &fleet("{server: {allowedOrigins: ['https://*.example', 'https://tv.example']}}"),
    );
    becomes(&danmu, "/rooms/talk/ws", page, Outcome::In).await;
    fs::remove_file(danmu.folder.path().join("fleet.yaml")).unwrap();
    becomes(&danmu, "/rooms/talk/ws", page, Outcome::Status(403)).await;
}

#[tokio::test]
async fn the_fleets_proxies_are_believed_about_their_clients() {
    let danmu = Danmu::start(&[]).await;
    let banning = format!("{ROOMS}{}", room("guarded", "{moderation: {bannedNetworks: [203.0.113.0/24]}}"));
    put(danmu.folder.path(), "rooms.yaml", &banning);
    let banned = Some(("X-Forwarded-For", "203.0.113.9"));
    becomes(&danmu, "/rooms/guarded/ws", banned, Outcome::In).await;
    put(danmu.folder.path(), "fleet.yaml", &fleet("{server: {trustedProxies: [127.0.0.0/8]}}"));
    becomes(&danmu, "/rooms/guarded/ws", banned, Outcome::Closed(CloseCode::Banned.code())).await;
}

#[tokio::test]
async fn the_fleets_cap_counts_those_who_are_in_already() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    put(danmu.folder.path(), "fleet.yaml", &fleet("{server: {perAddressCap: 1}}"));
    becomes(&danmu, "/rooms/talk/ws", None, Outcome::Status(503)).await;
    ann.say("not thrown out").await;
    ann.hears("not thrown out").await;
    drop(ann);
    becomes(&danmu, "/rooms/talk/ws", None, Outcome::In).await;
}

#[tokio::test]
async fn the_fleets_rate_of_upgrades_holds() {
    let danmu = Danmu::start(&[]).await;
    put(danmu.folder.path(), "fleet.yaml", &fleet("{server: {upgradesPerSecond: 1}}"));
    becomes(&danmu, "/rooms/talk/ws", None, Outcome::Status(503)).await;
}

#[tokio::test]
async fn the_fleet_says_whether_unlisted_rooms_open_and_how() {
    let danmu = Danmu::start(&[]).await;
    let gone = CloseCode::NoSuchRoom.code();
    assert_eq!(outcome(&danmu, "/rooms/any/ws", None).await, Outcome::Closed(gone));
    let allowing = "{server: {unlistedRooms: Allow}, defaults: {moderation: {slowModeSeconds: 7}}}";
    put(danmu.folder.path(), "fleet.yaml", &fleet(allowing));
    becomes(&danmu, "/rooms/any/ws", None, Outcome::In).await;
    let mut viewer = danmu.connect("/rooms/any/ws", &[]).await.unwrap();
    let Event::Joined(joined) = viewer.event().await else { panic!() };
    assert_eq!(joined.mode.slow_mode_seconds, 7);
    put(danmu.folder.path(), "fleet.yaml", &fleet("{server: {unlistedRooms: Refuse}}"));
    assert_eq!(viewer.close_code().await, gone);
}

#[tokio::test]
async fn the_fleets_drain_time_is_that_of_a_drain_that_is_given_none() {
    let danmu = Danmu::start(&[]).await;
    put(danmu.folder.path(), "fleet.yaml", &fleet("{drainSeconds: 7, server: {unlistedRooms: Allow}}"));
    becomes(&danmu, "/rooms/any/ws", None, Outcome::In).await;
    let (status, answer) = danmu.admin("POST", "/drain", "{}").await;
    assert_eq!((status, answer.as_str()), (202, r#"{"secondsLeft":7}"#));
}

#[tokio::test]
async fn the_fleet_says_how_many_viewers_the_load_is_measured_by() {
    let danmu = Danmu::start(&[]).await;
    for (spec, capacity) in
        [("{viewersPerPod: 7}", r#""capacity":7,"#), ("{viewersPerPod: 9}", r#""capacity":9,"#)]
    {
        put(danmu.folder.path(), "fleet.yaml", &fleet(spec));
        let told = async || danmu.admin("GET", "/load", "").await.1.contains(capacity);
        support::pod::eventually(spec, told).await;
    }
}

#[tokio::test]
async fn a_flag_wins_over_the_fleet_now_and_after_an_edit() {
    let danmu = Danmu::start(&["--allowed-origins=https://flag.example", "--drain-seconds=9"]).await;
    let (flag, manifest) =
        (Some(("Origin", "https://flag.example")), Some(("Origin", "https://manifest.example")));
    put(
        danmu.folder.path(),
        "fleet.yaml",
        &fleet(
            "{drainSeconds: 7, server: {unlistedRooms: Allow, allowedOrigins: ['https://manifest.example']}}",
        ),
    );
    becomes(&danmu, "/rooms/any/ws", flag, Outcome::In).await;
    assert_eq!(outcome(&danmu, "/rooms/any/ws", manifest).await, Outcome::Status(403));
    let (_, answer) = danmu.admin("POST", "/drain", "{}").await;
    assert_eq!(answer, r#"{"secondsLeft":9}"#);
}

/// The binary, and what it logs.
struct Logging {
    process: Process,
    log: mpsc::Receiver<String>,
}

impl Logging {
    fn start(folder: &Path) -> Logging {
        let mut command = danmu_server();
        command.args(["--workers=1", "--rooms"]).arg(folder).stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let lines = BufReader::new(process.child.stderr.take().unwrap()).lines();
        let (sender, log) = mpsc::sync_channel(1000);
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Logging { process, log }
    }

    /// The next line of the log with all of `parts`.
    fn logs(&self, parts: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(left).unwrap_or_else(|_| panic!("the log never says {parts:?}"));
            if parts.iter().all(|part| line.contains(part)) {
                return line;
            }
        }
    }
}

#[test]
fn the_log_tells_an_edit_with_faults_its_mend_and_what_stays_in_force() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "rooms.yaml", ROOMS);
    let server = Logging::start(folder.path());
    put(folder.path(), "rooms.yaml", &room("talk", "{limits: {history: 5000}}"));
    let told =
        server.logs(&["WARN", "rooms.yaml: spec.limits.history: is 5000; write a number from 0 to 1000"]);
    assert!(told.contains("what was there before stays in force"), "{told}");
    put(folder.path(), "rooms.yaml", &room("talk", "{limits: {history: 500}}"));
    server.logs(&["INFO", "the manifests are in force", r#""faults":0"#]);
}

#[test]
fn sigterm_drains_for_as_long_as_the_fleet_says() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "fleet.yaml", &fleet("{drainSeconds: 7}"));
    let mut server = Logging::start(folder.path());
    put(folder.path(), "fleet.yaml", &fleet("{drainSeconds: 8}"));
    server.logs(&["INFO", "the manifests are in force"]);
    server.process.signal(rustix::process::Signal::TERM);
    server.logs(&["INFO", "draining before the end", r#""seconds":8"#]);
    assert!(server.process.end(PATIENCE).success());
}

#[tokio::test]
async fn an_edit_with_faults_leaves_the_room_as_it_was() {
    let danmu = Danmu::start(&[]).await;
    let mut ann = danmu.join("talk").await;
    put(danmu.folder.path(), "rooms.yaml", "spec: [");
    // A second file shows that the folder has been read meanwhile.
    put(danmu.folder.path(), "more.yaml", &room("more", "{}"));
    becomes(&danmu, "/rooms/more/ws", None, Outcome::In).await;
    ann.say("darn, forbidden no more?").await;
    assert_eq!(ann.refusal().await.code, RefusalCode::BlockedWord);
    ann.say("darn it").await;
    ann.hears("**** it").await;
}

/// Runs `danmu-server` with the arguments; answers its exit code and what it says.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = danmu_server().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn check_tells_every_fault_of_flags_and_manifests_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let one = format!("{}{}", room("a", "{limits: {history: -1}}"), room("B", "{colour: red}"));
    put(folder.path(), "one.yaml", &one);
    put(
        folder.path(),
        "two.yml",
        &fleet("{server: {trustedProxies: [10.0.0.1], allowedOrigins: ['https://a/']}}"),
    );
    put(folder.path(), "three.yaml", "a: [");
    let dir = folder.path().to_str().unwrap();
    let flags = ["--admin=0.0.0.0:1", "--tick-ms=0", "--allowed-origins=a/b", "--token-secret=short"];
    for command in [&["check"][..], &[]] {
        let arguments: Vec<&str> = command.iter().copied().chain(["--rooms", dir]).chain(flags).collect();
        let (code, _, told) = run(&arguments);
        assert_eq!(code, 64, "{told}");
        let wanted = [
            "--admin: 0.0.0.0:1 can be reached from elsewhere; set --admin-token or use a loopback address",
            "--tick-ms: 0 is not between 1 and 1000",
            "--allowed-origins: origin \"a/b\" can't be read: write it as",
            "--token-secret: its 5 bytes can be guessed; use 16 or more",
            "one.yaml: document 1: spec.limits.history: is -1; write a number from 0 to 1000",
            "one.yaml: document 2: metadata.name: is missing or not allowed; write",
            "one.yaml: document 2: spec.colour: is no field; remove it or write one of",
            "two.yml: spec.server.trustedProxies[0]: \"10.0.0.1\" is not a network; write",
            "two.yml: spec.server.allowedOrigins[0]: \"https://a/\" is not an origin; write",
            "three.yaml: the whole file: is not valid YAML",
        ];
        for fault in wanted {
            assert!(told.contains(fault), "no {fault} in\n{told}");
        }
        assert_eq!(told.lines().count(), wanted.len(), "{told}");
    }
}

#[test]
fn check_finds_nothing_in_the_examples() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples");
    let (code, told, faults) = run(&["check", "--rooms", examples]);
    assert_eq!((code, faults.as_str()), (0, ""));
    assert!(told.starts_with("all is well: "), "{told}");
}
