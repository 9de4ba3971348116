//! Publishes gifts one after the other, each until it is taken.

use std::time::Duration;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Phase, Stage};
use crate::{
    history::{Answer, Publish, Receipt},
    world::http,
};

/// Gifts of a burst: a log holds 1,024, and a third and more of these is not taken.
const BURST: usize = 3_000;
/// Who publish them, one after the other each.
const BURST_PUBLISHERS: usize = 20;

/// Numbers its gifts and publishes them until the last phase begins.
pub async fn publisher(stage: Stage, number: usize) {
    let mut random = StdRng::seed_from_u64(stage.seed ^ (0x9000 + number as u64));
    let mut count = 0;
    while stage.phase() < Phase::Last {
        count += 1;
        let gift = format!("g{number}-{count}");
        if random.random_bool(0.1) {
            // Without a key it is published at most once, because nobody knows whether it was taken.
            attempt(&stage, number, &gift, None, &mut random).await;
        } else {
            publish_until_taken(&stage, number, &gift, &mut random).await;
            if random.random_bool(0.1) {
                let key = format!("k-{gift}");
                attempt(&stage, number, &gift, Some(&key), &mut random).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(30..200))).await;
    }
}

/// Publishes more at once than a lane's log holds: whoever is cut off meanwhile has to be told a loss.
pub async fn burst(stage: &Stage, number: usize) {
    let each = (0..BURST_PUBLISHERS).map(|part| {
        let stage = stage.clone();
        tokio::spawn(async move {
            let publisher = number + part;
            let mut random = StdRng::seed_from_u64(stage.seed ^ publisher as u64);
            for count in 0..BURST / BURST_PUBLISHERS {
                let gift = format!("g{publisher}-{count}");
                attempt(&stage, publisher, &gift, Some(&format!("k-{gift}")), &mut random).await;
            }
        })
    });
    futures_util::future::join_all(each).await;
}

/// Tries on one pod after the other; whether it was taken before the run was over.
pub async fn publish_until_taken(stage: &Stage, number: usize, gift: &str, random: &mut StdRng) -> bool {
    let key = format!("k-{gift}");
    while stage.phase() < Phase::Over {
        if attempt(stage, number, gift, Some(&key), random).await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(50..300))).await;
    }
    false
}

async fn attempt(stage: &Stage, number: usize, gift: &str, key: Option<&str>, random: &mut StdRng) -> bool {
    let pod = random.random_range(0..stage.pods.count());
    let Some(addresses) = stage.pods.addresses(pod) else { return false };
    let body = format!(r#"{{"kind":"gift","gift":"{gift}"}}"#);
    let asked = stage.now();
    let answer = match http(&addresses.admin, "POST", "/rooms/soak/publish", key, body).await {
        Some((200, body)) => receipt(&body).map_or(Answer::Refused(200), Answer::Taken),
        Some((status, _)) => Answer::Refused(status),
        None => Answer::Nothing,
    };
    let taken = matches!(answer, Answer::Taken(_));
    stage.history().publishes.push(Publish {
        publisher: number,
        gift: gift.to_owned(),
        key: key.map(str::to_owned),
        asked,
        answered: stage.now(),
        answer,
    });
    taken
}

fn receipt(body: &str) -> Option<Receipt> {
    let body: serde_json::Value = serde_json::from_str(body).ok()?;
    Some(Receipt {
        id: body.get("id")?.as_str()?.to_owned(),
        epoch: body.get("epoch")?.as_str()?.to_owned(),
        offset: body.get("offset")?.as_u64()?,
    })
}
