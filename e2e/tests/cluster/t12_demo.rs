//! What a live platform needs around the room, chapter by chapter, on a fleet of two pods with one Redis.

use std::{path::PathBuf, process::Stdio, time::Duration};

use danmu_crds::{Auth, SecretName};
use danmu_e2e::demo::{self, Manifests, Stage};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::fixture::{ADMIN_TOKEN, FLEET, TOKEN_SECRET, Venue, small_fleet};

/// The fleet's Secret.
const KEYS: &str = "keys";

/// `kubectl port-forward`, ended when it is dropped.
struct Forward {
    _child: Child,
    address: String,
}

impl Forward {
    async fn to(venue: &Venue, service: &str, port: u16) -> Self {
        let mut child = Command::new(&venue.release.given.kubectl)
            .args(["port-forward", "--namespace", &venue.namespace, &format!("service/{service}")])
            .arg(format!(":{port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Each viewer that leaves is an error to it.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("kubectl starts");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("it has an output"));
        let read = timeout(Duration::from_secs(15), stdout.read_line(&mut line)).await;
        read.expect("kubectl says where it listens").expect("its output is read");
        let address = line.split_whitespace().find(|word| word.starts_with("127.0.0.1:"));
        let address = address.unwrap_or_else(|| panic!("kubectl port-forward said {line:?}")).to_owned();
        // It says a line of each connection, and ends when nobody reads them.
        tokio::spawn(async move { tokio::io::copy(&mut stdout, &mut tokio::io::sink()).await });
        Self { _child: child, address }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_chapter_of_the_demo_holds_on_a_fleet() {
    let mut fleet = small_fleet(100, 2, 4);
    fleet.auth = Some(Auth { secret_ref: Some(SecretName { name: KEYS.to_owned() }), jwks: None });
    Venue::with("demo", fleet, async |venue| {
        let public = Forward::to(venue, &format!("danmu-{FLEET}"), 8080).await;
        let admin = Forward::to(venue, &format!("danmu-{FLEET}-admin"), 9090).await;
        let pods = venue.server_pods().await.expect("pods are listed");
        let node = pods.first().and_then(|pod| pod.status.as_ref()?.host_ip.clone());
        let here = venue.release.given.host.clone().or(node).expect("a pod that runs has a node");
        let stage = Stage {
            reached_at: here,
            public: public.address.clone(),
            admin: admin.address.clone(),
            admin_token: Some(ADMIN_TOKEN.to_owned()),
            token_secret: TOKEN_SECRET.to_owned(),
            key_set: KEYS.to_owned(),
            fleet: FLEET.to_owned(),
            manifests: Manifests::Cluster {
                kubectl: PathBuf::from(&venue.release.given.kubectl),
                plugin: PathBuf::from(&venue.release.given.plugin),
                namespace: venue.namespace.clone(),
            },
        };
        demo::run(&stage, None).await.unwrap_or_else(|why| panic!("{why}"));
    })
    .await;
}
