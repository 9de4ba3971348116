//! Third parties over real sockets: batches and quotas of publishers, webhooks, the publish hook. The receivers are
//! HTTP servers of the tests, which take nothing that is not signed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod batches;
mod publish_hook;
#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
#[path = "../support/mod.rs"]
mod support;
mod webhooks;

use support::{Danmu, receiver::settings};

/// A fleet with these fields, as flow YAML.
fn fleet(spec: &str) -> String {
    format!(
        "apiVersion: danmu.live/v1alpha1\nkind: DanmuFleet\nmetadata: {{name: default}}\nspec: {{{spec}}}\n"
    )
}

/// A server of a fleet with these fields.
async fn started(spec: &str) -> Danmu {
    let change = |config| danmu_server::config::Config { hooks: settings(), ..config };
    Danmu::start_changed(&[], &fleet(spec), change).await
}

/// Edits the fleet.
fn edit(danmu: &Danmu, spec: &str) {
    std::fs::write(danmu.folder.path().join("more.yaml"), fleet(spec)).unwrap();
}

/// The value of a metric, with its labels as they are written; 0 if it was never counted.
async fn metric(danmu: &Danmu, name: &str) -> f64 {
    let (_, text) = danmu.admin("GET", "/metrics", "").await;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}
