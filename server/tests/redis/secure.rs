//! TLS, and a user who may do only what pods need.

use std::{
    collections::{HashMap, HashSet},
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use danmu_server::relay::{Logged, Target, desk::unix_ms, redis::Address};
use danmu_wire::{Chat, Event, Gift, Held, Settled};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use redis::{FromRedisValue, Value};

use crate::support::{
    pod::{Pod, eventually},
    redis::{RedisCluster, RedisServer, free_port},
};

/// A Redis with TLS, and the certificate that signed its own.
struct Secure {
    redis: RedisServer,
    port: u16,
    ca: String,
    files: tempfile::TempDir,
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

impl Secure {
    fn start() -> Secure {
        let (ca, key) = (authority(), KeyPair::generate().unwrap());
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().signed_by(&key, &ca).unwrap();
        let (files, port) = (tempfile::tempdir().unwrap(), free_port());
        let file = |name: &str, content: String| {
            let path = files.path().join(name);
            std::fs::write(&path, content).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let redis = RedisServer::start_with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("redis.pem", certificate.pem()),
            "--tls-key-file",
            &file("redis.key", key.serialize_pem()),
            "--tls-ca-cert-file",
            &file("ca.pem", ca.pem()),
            "--tls-auth-clients",
            "no",
        ]);
        grant(&redis);
        Secure { redis, port, ca: ca.pem(), files }
    }

    fn url(&self, password: &str) -> String {
        format!("rediss://danmu:{password}@127.0.0.1:{}", self.port)
    }
}

/// What the README tells operators to grant, as it stands there.
fn rights() -> Vec<&'static str> {
    let readme = include_str!("../../../README.md");
    let from = readme.find("ACL SETUSER danmu").expect("the README tells the rights");
    let command = readme[from..].split("```").next().unwrap();
    command.split_whitespace().filter(|word| *word != "\\").collect()
}

fn grant(redis: &RedisServer) {
    let words: Vec<String> = rights().iter().map(|word| word.replace("PASSWORD", "secret")).collect();
    redis.text(&words.iter().map(String::as_str).collect::<Vec<_>>());
}

/// A gift that counts up, a message that waits for a moderator, and the log.
async fn given_and_held(a: &Pod, b: &Pod) {
    let gift =
        Gift { id: "1".into(), user: Some("u1".into()), gift: "rocket".into(), count: 2, ..Gift::default() };
    a.relay.priority("talk", Event::Gift(gift), None, 1000).await.unwrap();
    let held = Held {
        chat: Chat { id: "1".into(), text: "maybe".into(), ..Chat::default() },
        at: unix_ms(),
        sub: None,
    };
    a.relay.hold("talk", held.clone()).await.unwrap();
    eventually("the other pod hears of it", async || b.seen("talk").held == ["maybe"]).await;
    assert_eq!(b.relay.held("talk").await.unwrap(), std::slice::from_ref(&held));
    let settled = Settled { id: "1".into(), shown: true, by: "mod".into() };
    assert_eq!(b.relay.settle("talk", &settled).await.unwrap(), Some(held));
    assert_eq!(a.relay.settle("talk", &settled).await.unwrap(), None, "once");
    eventually("the first pod hears of it", async || a.seen("talk").settled == [("1".into(), true)]).await;
    b.relay.write_down("talk", Logged::now("mod", danmu_wire::Action::Clear {})).await.unwrap();
    assert_eq!(a.relay.written("talk").await.unwrap().len(), 1);
    let lasts = std::time::Duration::from_secs(60);
    assert!(a.relay.claim("talk", "hot", lasts).await.unwrap());
    assert!(!b.relay.claim("talk", "hot", lasts).await.unwrap());
}

/// All that pods do with Redis.
async fn all_of_it(a: &Pod, b: &Pod) {
    a.open("talk").await;
    b.open("talk").await;
    a.gift_once("talk", "rose", Some("k")).await.unwrap();
    assert_eq!(b.gets("talk", 1).await.names(), ["rose"]);
    a.chat("talk", 0, &["hello"]);
    eventually("the chat arrives", async || b.seen("talk").chats == ["hello"]).await;
    for lifted in [false, true] {
        a.moderate("talk", Target::Mute("ann".into()), lifted).await.unwrap();
        eventually("it holds", async || b.seen("talk").moderated.is_empty() == lifted).await;
    }
    given_and_held(a, b).await;
    b.close("talk");
    // A room that opens again at once is not unsubscribed from.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    b.open("talk").await;
    assert_eq!(b.gets("talk", 2).await.names(), ["rose", "rocket"]);
    eventually("both are there", async || b.seen("talk").peers.pods == 1).await;
    // A round of pings.
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert!(!a.relay.is_degraded() && !b.relay.is_degraded());
}

#[tokio::test]
async fn pods_speak_tls_and_need_no_more_rights_than_the_readme_grants() {
    let secure = Secure::start();
    let pod = || {
        let address = Address::parse(&secure.url("secret"), false, Some(secure.ca.clone().into())).unwrap();
        Pod::at(address, "test/secure")
    };
    all_of_it(&pod(), &pod()).await;
    let log = secure.redis.command(&["ACL", "LOG"]).unwrap();
    let entries = Vec::<HashMap<String, Value>>::from_redis_value(log).unwrap();
    let denied: HashSet<String> =
        entries.iter().map(|entry| String::from_redis_value(entry["object"].clone()).unwrap()).collect();
    // The client library's name, which newer servers would like to know; it does without.
    assert!(denied.iter().all(|object| object == "client|setinfo"), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_readmes_rights_suffice_on_a_cluster_and_each_is_needed_somewhere() {
    let (cluster, single) = (RedisCluster::start(3, false), RedisServer::start());
    cluster.nodes.iter().chain([&single]).for_each(grant);
    let with_user = |url: &str| url.replace("redis://", "redis://danmu:secret@");
    let (urls, url) = (with_user(&cluster.url()), with_user(&single.url()));
    let pod = || Pod::on_redis(&urls, true, "test/secure");
    let alone = || Pod::on_redis(&url, false, "test/secure");
    let (a, b, c, d) = (pod(), pod(), alone(), alone());
    tokio::join!(all_of_it(&a, &b), all_of_it(&c, &d));
    let mut used = HashSet::new();
    for node in cluster.nodes.iter().chain([&single]) {
        let stats = node.text(&["INFO", "commandstats"]);
        let name = |line: &str| Some(line.strip_prefix("cmdstat_")?.split_once(':')?.0.to_owned());
        used.extend(stats.lines().filter_map(name));
    }
    let needless: Vec<_> = rights()
        .into_iter()
        .filter_map(|word| word.strip_prefix('+'))
        .filter(|word| !used.contains(*word))
        .collect();
    // `role` is what sentinels' clients ask a primary.
    assert_eq!(needless, ["role"]);
}

#[tokio::test]
async fn a_redis_that_refuses_us_is_not_asked_all_the_time() {
    let redis = RedisServer::start();
    redis.text(&["ACL", "SETUSER", "danmu", "on", ">secret", "~*", "&*", "+@all", "-subscribe"]);
    let pod = Pod::on_redis(&redis.url().replace("redis://", "redis://danmu:secret@"), false, "test/refused");
    pod.start_to_open("talk");
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    let connects = pod.metrics.connects.get();
    assert!((2..10).contains(&connects) && pod.seen("talk").alone > 0, "{connects}");
    redis.text(&["ACL", "SETUSER", "danmu", "+subscribe"]);
    eventually("it is taken once it may", async || pod.seen("talk").openings == 1).await;
}

/// A server as a process, to read its log.
struct Process(Child);

impl Process {
    fn start(secure: &Secure, url: &str, ca: &str) -> Process {
        let ca_file = secure.files.path().join("given.pem");
        std::fs::write(&ca_file, ca).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_danmu-server"))
            .args(["--public=127.0.0.1:0", "--admin=127.0.0.1:0", "--redis", url, "--redis-ca"])
            .arg(ca_file)
            .arg("--rooms")
            .arg(secure.files.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Process(child)
    }

    /// The first line of the log about Redis.
    fn told(&mut self) -> String {
        let lines = BufReader::new(self.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        lines.into_iter().find(|line| line.contains("Redis")).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_wrong_password_or_authority_is_told_in_words() {
    let secure = Secure::start();
    let told = |password: &str, ca: &str| Process::start(&secure, &secure.url(password), ca).told();
    let right = told("secret", &secure.ca);
    assert!(right.contains("connected to Redis"), "{right}");
    let password = told("guessed", &secure.ca);
    assert!(password.contains("rooms go on by themselves") && password.contains("password"), "{password}");
    assert!(!password.contains("guessed"), "{password}");
    let authority = told("secret", &authority().pem());
    assert!(
        authority.contains("rooms go on by themselves") && authority.contains("certificate"),
        "{authority}"
    );
}
