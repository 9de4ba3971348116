//! A walk through what a room can do, on running servers: each chapter makes a room, does what people do with it, and fails
//! where it does not see what the README promises.
//!
//! `cargo xtask demo` takes it to a server of its own, and the tests on the cluster to a fleet; both are a [`Stage`].

mod keys;
mod kinds;
mod kubectl;
mod local;
mod moderation;
mod receiver;
mod replays;
mod seat;
mod shedding;
mod stage;
mod sub_rooms;
mod third_parties;

pub use local::{Local, start};
pub use stage::{Manifests, Stage};

/// The chapters in their order.
pub const CHAPTERS: &[&str] =
    &["kinds", "moderation", "replays", "shedding", "sub-rooms", "third-parties", "kubectl", "keys"];

/// Walks through the chapters, or one.
///
/// # Errors
/// What was not as it should be, in which chapter; or there is no such chapter.
pub async fn run(stage: &Stage, only: Option<&str>) -> Result<(), String> {
    let chosen: Vec<&str> =
        CHAPTERS.iter().copied().filter(|name| only.is_none_or(|it| it == *name)).collect();
    if chosen.is_empty() {
        return Err(format!("there is no such chapter; there are {}", CHAPTERS.join(", ")));
    }
    for name in chosen {
        println!("\n== {name}");
        let done = match name {
            "kinds" => kinds::walk(stage).await,
            "moderation" => moderation::walk(stage).await,
            "replays" => replays::walk(stage).await,
            "shedding" => shedding::walk(stage).await,
            "sub-rooms" => sub_rooms::walk(stage).await,
            "kubectl" if !stage.is_cluster() => {
                stage.tell("only on a cluster");
                Ok(())
            }
            "kubectl" => kubectl::walk(stage).await,
            "third-parties" => third_parties::walk(stage).await,
            "keys" => keys::walk(stage).await,
            _ => Err("it is listed and not written".to_owned()),
        };
        done.map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

/// A key set to begin with: whoever is to walk through `keys` gives it to the servers.
///
/// # Errors
/// No key can be made.
pub fn first_keys() -> Result<String, String> {
    Ok(keys::Key::new("before-the-demo")?.set())
}

/// What the servers' hooks are to be signed with in `third-parties`.
pub const HOOK_SECRET: &str = receiver::SECRET;

/// Fails with what was seen instead.
fn check(holds: bool, what: &str, seen: impl std::fmt::Debug) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("not so: {what}; seen: {seen:?}")) }
}
