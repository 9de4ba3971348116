//! What people get wrong, what others change, and much at once.

use std::time::Duration;

use danmu_crds::DanmuRoom;
use futures_util::{StreamExt, stream};
use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice, events::v1::Event};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::fixture::{
    FLEET, SET, Venue, condition, conditions, figure, hot, operator_counter, requests, small_fleet, writes,
};

const SOON: Duration = Duration::from_secs(30);
const ROOMS: usize = 500;

#[tokio::test(flavor = "multi_thread")]
async fn faults_are_told_foreign_edits_put_back_and_a_burst_is_one_plan() {
    Venue::with("objects", small_fleet(100, 1, 2), async |venue| {
        invalid_rooms_are_refused(venue).await;
        impossible_room_says_why(venue).await;
        foreign_edits_are_put_back(venue).await;
        five_hundred_rooms_are_few_plans(venue).await;
    })
    .await;
}

async fn invalid_rooms_are_refused(venue: &Venue) {
    let api = venue.release.dynamic("danmu.live", "v1alpha1", "DanmuRoom", &venue.namespace);
    let refused = async |name: &str, spec: Value| {
        let object = json!({
            "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "metadata": {"name": name}, "spec": spec,
        });
        let object = serde_json::from_value(object).unwrap();
        match api.create(&PostParams::default(), &object).await {
            Err(error) => error.to_string(),
            Ok(_) => panic!("{name} was taken"),
        }
    };
    let window =
        json!({"start": "2026-11-01T22:00:00Z", "end": "2026-11-01T18:00:00Z", "expectedViewers": 1});
    for (name, spec, words) in [
        ("backwards", json!({"schedule": [window]}), "end must be after start"),
        (
            "network",
            json!({"moderation": {"bannedNetworks": ["203.0.113.7"]}}),
            "each is a network such as 203.0.113.0/24",
        ),
        ("a.b", json!({}), "metadata.name is the room id"),
        ("negative", json!({"expectedViewers": -1}), "expectedViewers"),
    ] {
        let why = refused(name, spec).await;
        assert!(why.contains(words), "{name}: {why:?} does not say {words:?}");
    }
    venue.apply("settled", hot(0)).await;
    let moved = json!({"spec": {"fleet": "another"}});
    let moved = venue.rooms().patch("settled", &PatchParams::default(), &Patch::Merge(&moved)).await;
    let why = moved.expect_err("a room cannot move").to_string();
    assert!(why.contains("a room cannot move to another fleet; delete it and make it anew"), "{why}");
}

async fn impossible_room_says_why(venue: &Venue) {
    venue.apply("giant", hot(10_000)).await;
    let message = venue
        .until(SOON, "Placed=False, FleetFull", async || {
            let status = venue.status("giant").await?;
            match condition(&status.conditions, "Placed") {
                Some(placed) if placed.status == "False" && placed.reason == "FleetFull" => {
                    Ok(placed.message.clone())
                }
                _ => Err(conditions(&status.conditions)),
            }
        })
        .await;
    assert!(message.contains("of 10000 viewers have no room; raise the fleet's replicas.max"), "{message}");
    let events: Api<Event> = Api::namespaced(venue.client(), &venue.namespace);
    venue
        .until(SOON, "a warning about the room, and one about the fleet", async || {
            let events = events.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let about = |name: &str| {
                events.iter().any(|event| {
                    let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
                    let warns = event.type_.as_deref() == Some("Warning")
                        && event.reason.as_deref() == Some("FleetFull");
                    let says = event.note.as_ref().is_some_and(|note| note.contains("replicas.max"));
                    regarding == Some(name) && warns && says
                })
            };
            if about("giant") && about(FLEET) {
                return Ok(());
            }
            Err(format!("{:?}", events.iter().map(|event| (&event.reason, &event.note)).collect::<Vec<_>>()))
        })
        .await;
    assert_eq!(venue.replicas().await, Ok(2), "the maximum holds");
    venue.rooms().delete("giant", &DeleteParams::default()).await.unwrap();
}

async fn foreign_edits_are_put_back(venue: &Venue) {
    venue.apply("final", hot(100)).await;
    venue.room_is_ready("final", SOON).await;
    let services: Api<Service> = Api::namespaced(venue.client(), &venue.namespace);
    let selector = async || -> Result<String, String> {
        let service = services.get(SET).await.map_err(|error| error.to_string())?;
        let selector = service.spec.and_then(|spec| spec.selector).unwrap_or_default();
        Ok(selector.get("danmu.live/fleet").cloned().unwrap_or_default())
    };
    let edit = json!({"spec": {"selector": {"danmu.live/fleet": "elsewhere"}}});
    services.patch(SET, &PatchParams::default(), &Patch::Merge(&edit)).await.unwrap();
    let edited = Instant::now();
    venue
        .until(SOON, "the Service's selector is put back", async || match selector().await? {
            back if back == FLEET => Ok(()),
            other => Err(other),
        })
        .await;
    figure(&venue.release.given, &format!("8. a foreign edit is put back after {:.2?}", edited.elapsed()));

    let room = ListParams::default().labels("danmu.live/room=final");
    let slices: Api<EndpointSlice> = venue.slices();
    let routes = venue.release.dynamic("gateway.networking.k8s.io", "v1", "HTTPRoute", &venue.namespace);
    let deleted = Instant::now();
    let old = [
        services.list(&room).await.unwrap().items[0].metadata.clone(),
        slices.list(&room).await.unwrap().items[0].metadata.clone(),
        routes.list(&room).await.unwrap().items[0].metadata.clone(),
    ];
    let name = old[0].name.clone().unwrap();
    services.delete(&name, &DeleteParams::default()).await.unwrap();
    slices.delete(&name, &DeleteParams::default()).await.unwrap();
    routes.delete(&name, &DeleteParams::default()).await.unwrap();
    venue
        .until(SOON, "the room's Service, slice and route are made anew", async || {
            let uids = [
                services.get(&name).await.map_err(|error| error.to_string())?.uid(),
                slices.get(&name).await.map_err(|error| error.to_string())?.uid(),
                routes.get(&name).await.map_err(|error| error.to_string())?.uid(),
            ];
            let anew = uids.iter().zip(&old).all(|(now, old)| *now != old.uid);
            if anew { Ok(()) } else { Err(format!("{uids:?}")) }
        })
        .await;
    figure(&venue.release.given, &format!("8. deleted children are back after {:.2?}", deleted.elapsed()));
    venue.room_is_ready("final", SOON).await;
    venue.send("final", 1, 1).await.leave().await;
}

async fn five_hundred_rooms_are_few_plans(venue: &Venue) {
    let client = venue.client();
    let plans = async || operator_counter(&client, "danmu_operator_reconciles_total").await;
    let (before, asked) = (plans().await.unwrap(), requests(&client).await.unwrap());
    let began = Instant::now();
    let names: Vec<String> = (0..ROOMS).map(|number| format!("room-{number}")).collect();
    stream::iter(&names).for_each_concurrent(50, async |name| venue.apply(name, hot(0)).await).await;
    let applied = began.elapsed();
    venue
        .until(Duration::from_secs(60), "all rooms are Ready", async || {
            let rooms =
                venue.rooms().list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let is_ready = |room: &&DanmuRoom| {
                let status = room.status.as_ref();
                status.and_then(|s| condition(&s.conditions, "Ready")).is_some_and(|c| c.status == "True")
            };
            let ready = rooms.iter().filter(is_ready).count();
            if ready >= ROOMS { Ok(()) } else { Err(format!("{ready} are Ready")) }
        })
        .await;
    let took = began.elapsed();
    let plans = plans().await.unwrap() - before;
    let asked = writes(&asked, &requests(&client).await.unwrap());
    figure(
        &venue.release.given,
        &format!(
            "8. {ROOMS} rooms applied in {applied:.1?}, all Ready after {took:.1?}: {plans} reconciles of all fleets; writes: {asked:?}"
        ),
    );
    // Rooms that come while a reconcile runs or gathers are the next one's; every fleet has one each 5 seconds anyway.
    assert!(plans <= 50.0, "{plans} reconciles for {ROOMS} rooms in {took:?}");
    let statuses: u64 =
        asked.iter().filter(|(name, _)| name.ends_with("danmurooms/status")).map(|(_, count)| count).sum();
    assert!((500..=1100).contains(&statuses), "{statuses} writes of status for {ROOMS} rooms: {asked:?}");
    let owned = ["services", "endpointslices", "httproutes", "statefulsets"];
    let others: u64 = asked
        .iter()
        .filter(|(name, _)| owned.iter().any(|kind| name.ends_with(kind)))
        .map(|(_, count)| count)
        .sum();
    assert!(others <= 5, "rooms that share the fleet's route need no objects: {asked:?}");
}
