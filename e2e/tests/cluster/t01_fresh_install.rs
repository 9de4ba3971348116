//! From nothing to a room where people talk: what the README tells a new user to do.

use std::time::{Duration, Instant};

use danmu_crds::{DanmuFleet, DanmuRoom};
use kube::Api;

use crate::fixture::{
    RELEASE, Release, Viewer, command, condition, conditions, figure,
    release::{HOST, repository},
    until,
};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn helm_install_and_one_room_are_enough_for_two_viewers_to_talk() {
    let installing = Instant::now();
    let release = Release::installed().await;
    figure(&release.given, &format!("1. helm upgrade --install --wait: {:.1?}", installing.elapsed()));
    wait_for_fleet(&release).await;
    figure(&release.given, &format!("1. until the fleet is Ready: {:.1?}", installing.elapsed()));

    let sample = repository().join("examples/worlds-final.yaml").display().to_string();
    let rooms: Api<DanmuRoom> = Api::namespaced(release.client.clone(), RELEASE);
    // One that an earlier run left is Ready already.
    kubectl(&release, &["delete", "-n", RELEASE, "--ignore-not-found", "-f", &sample]).await;
    let applying = Instant::now();
    kubectl(&release, &["apply", "-n", RELEASE, "-f", &sample]).await;
    let url = until(SOON, "Placed, Routed and Ready of the sample room", async || {
        let room = rooms.get("worlds-final").await.map_err(|error| error.to_string())?;
        let status = room.status.unwrap_or_default();
        let holds = |kind| condition(&status.conditions, kind).is_some_and(|c| c.status == "True");
        match status.url {
            Some(url) if ["Placed", "Routed", "Ready"].into_iter().all(holds) => Ok(url),
            _ => Err(conditions(&status.conditions)),
        }
    })
    .await
    .unwrap_or_else(|why| panic!("{why}"));
    figure(&release.given, &format!("1. a room, from apply to Ready: {:.2?}", applying.elapsed()));
    assert_eq!(url, format!("ws://{HOST}/rooms/worlds-final/ws?room=worlds-final"));

    let door = release.door(RELEASE, HOST).await;
    let (ann, bo) = (Viewer::join(&door, "worlds-final"), Viewer::join(&door, "worlds-final"));
    for viewer in [&ann, &bo] {
        let joined = until(SOON, "a viewer is in", async || {
            viewer.see(|record| record.joined.then_some(()).ok_or_else(|| format!("{record:?}")))
        });
        joined.await.unwrap_or_else(|why| panic!("{why}"));
    }
    ann.say("good evening").await;
    bo.say("what a goal").await;
    for (viewer, words) in [(&ann, "what a goal"), (&bo, "good evening")] {
        let heard = until(SOON, words, async || {
            viewer.see(|record| {
                record
                    .chats
                    .iter()
                    .any(|chat| chat == words)
                    .then_some(())
                    .ok_or_else(|| format!("{record:?}"))
            })
        });
        heard.await.unwrap_or_else(|why| panic!("{why}"));
    }
    println!("{}", kubectl(&release, &["get", "dr,df", "-n", RELEASE]).await);
    ann.leave().await;
    bo.leave().await;
}

async fn wait_for_fleet(release: &Release) {
    let fleets: Api<DanmuFleet> = Api::namespaced(release.client.clone(), RELEASE);
    let ready =
        until(Duration::from_secs(90), "the default fleet is Ready and nothing is amiss", async || {
            let status =
                fleets.get("default").await.map_err(|error| error.to_string())?.status.unwrap_or_default();
            let is = |kind, wanted| condition(&status.conditions, kind).is_some_and(|c| c.status == wanted);
            let well = is("Ready", "True") && is("Degraded", "False") && is("Progressing", "False");
            if well { Ok(()) } else { Err(conditions(&status.conditions)) }
        });
    ready.await.unwrap_or_else(|why| panic!("{why}"));
}

async fn kubectl(release: &Release, arguments: &[&str]) -> String {
    let done = command(&release.given.kubectl, arguments, Duration::from_secs(30)).await;
    done.unwrap_or_else(|why| panic!("{why}"))
}
