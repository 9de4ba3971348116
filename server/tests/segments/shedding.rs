//! Rooms that shed load, stage by stage, on one pod and on two.

use std::time::Duration;

use danmu_wire::Event;

use crate::{
    SPEAK, ago, get, is_kept, put,
    support::{Danmu, PATIENCE, pod::eventually, redis::RedisServer},
};

fn shedding(limits: &str) -> String {
    format!("startedAt: {}, recording: {{}}, shedding: {{{limits}}}, {SPEAK}", ago(30))
}

async fn metric(danmu: &Danmu, name: &str) -> String {
    let (_, metrics) = danmu.admin("GET", "/metrics", "").await;
    metrics.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned()
}

fn fetches(event: &Event) -> Option<u64> {
    match event {
        Event::Mode(mode) => mode.on_demand.and_then(|on_demand| on_demand.at_ms),
        _ => None,
    }
}

#[tokio::test]
async fn a_room_with_far_too_many_viewers_lets_them_fetch_and_comes_back() {
    let danmu = Danmu::start(&[]).await;
    put(&danmu, "final", &shedding("viewersAbove: 1"));
    is_kept(&danmu, "final").await;
    let mut ann = danmu.join("final").await;
    let mut others = [danmu.join("final").await, danmu.join("final").await];
    let told = ann.find(|event| fetches(event).is_some()).await;
    let live = fetches(&told).unwrap();
    assert!((28_000..60_000).contains(&live), "the live position is {live}");
    ann.find(|event| matches!(event, Event::Stats(stats) if stats.shedding == 3)).await;
    assert_eq!(
        metric(&danmu, "danmu_shedding_rooms{stage=\"fetch\"}").await,
        "danmu_shedding_rooms{stage=\"fetch\"} 1"
    );
    // Said without a position, and with one that is a lie: the server knows where the live video is.
    others[0].send(r#"{"op":"say","text":"one","ref":"1"}"#).await;
    others[1].send(r#"{"op":"say","text":"two","at":9000000,"ref":"2"}"#).await;
    for other in &mut others {
        other.find(|event| matches!(event, Event::Ack(ack) if ack.shown)).await;
    }
    let path = "/rooms/final/danmu?from=20000&to=80000";
    eventually("both are fetched", async || get(&danmu, path).await.texts().len() == 2).await;
    assert!(get(&danmu, path).await.placed().iter().all(|placed| (28_000..80_000).contains(&placed.at)));
    // Somebody who joins now is told as well.
    let mut late = danmu.connect("/rooms/final/ws", &[]).await.unwrap();
    let Event::Joined(joined) = late.event().await else { panic!() };
    assert!(joined.mode.on_demand.is_some_and(|on_demand| on_demand.at_ms.is_some()));
    put(&danmu, "final", &format!("startedAt: {}, recording: {{}}, {SPEAK}", ago(30)));
    // Nothing of what was fetched comes in between.
    let back = ann.find(|event| matches!(event, Event::Mode(_) | Event::Chat(_))).await;
    assert!(matches!(&back, Event::Mode(mode) if mode.on_demand.is_none()), "{back:?}");
    late.say("live again").await;
    ann.hears("live again").await;
}

#[tokio::test]
async fn a_pod_that_opens_the_room_in_the_middle_of_it_fetches_too() {
    let redis = RedisServer::start();
    let pods =
        [Danmu::start(&["--redis", &redis.url()]).await, Danmu::start(&["--redis", &redis.url()]).await];
    for pod in &pods {
        put(pod, "crowd", &shedding("viewersAbove: 2"));
        is_kept(pod, "crowd").await;
    }
    let mut first = pods[0].join("crowd").await;
    let stay = (pods[0].join("crowd").await, pods[0].join("crowd").await);
    let go = (pods[0].join("crowd").await, pods[0].join("crowd").await);
    first.find(|event| fetches(event).is_some()).await;
    drop(go);
    first.find(|event| matches!(event, Event::Stats(stats) if stats.viewers == 3)).await;
    // Four of two: more than lets the first pod come back, fewer than make another fetch by itself.
    let mut late = pods[1].connect("/rooms/crowd/ws", &[]).await.unwrap();
    // The room may be open there already, and know; else it is told within a second.
    let told = |event: &Event| match event {
        Event::Joined(joined) => joined.mode.on_demand.is_some(),
        event => fetches(event).is_some(),
    };
    late.find(told).await;
    drop(stay);
}

#[tokio::test]
async fn two_pods_shed_the_load_of_both() {
    let redis = RedisServer::start();
    let pods =
        [Danmu::start(&["--redis", &redis.url()]).await, Danmu::start(&["--redis", &redis.url()]).await];
    for pod in &pods {
        put(pod, "crowd", &shedding("viewersAbove: 2"));
        put(pod, "talk2", &shedding("messagesPerSecondAbove: 3"));
        is_kept(pod, "crowd").await;
        is_kept(pod, "talk2").await;
    }
    // Two viewers here and three there: neither pod alone has twice the limit.
    let mut first = pods[0].join("crowd").await;
    let _second = pods[0].join("crowd").await;
    let mut third = pods[1].join("crowd").await;
    let _more = (pods[1].join("crowd").await, pods[1].join("crowd").await);
    first.find(|event| fetches(event).is_some()).await;
    third.find(|event| fetches(event).is_some()).await;
    // Somebody talks on one pod, and the other sheds as well.
    let (mut loud, mut listener) =
        (pods[0].join_as("talk2", "loud", "moderator").await, pods[1].join("talk2").await);
    let talk = async {
        for number in 0.. {
            loud.say(&format!("{number}")).await;
            tokio::time::sleep(Duration::from_millis(90)).await;
        }
    };
    let heard =
        async { listener.find(|event| matches!(event, Event::Stats(stats) if stats.shedding > 0)).await };
    tokio::select! {
        () = talk => unreachable!(),
        stats = heard => println!("{stats:?}"),
        // Stats come every five seconds, so that waiting for the right ones has no end of its own.
        () = tokio::time::sleep(2 * PATIENCE) => panic!("the other pod does not shed"),
    }
}
