//! What the API server itself refuses, in words that say what to mend.

use danmu_crds::{DanmuFleet, DanmuRoom};
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::{Api, core::ApiResource};
use serde_json::{Value, json};

use crate::cluster::Cluster;

async fn refusal(cluster: &Cluster, room: bool, name: &str, spec: Value) -> String {
    let result = if room {
        cluster.create::<DanmuRoom>(name, spec.clone()).await.map(drop)
    } else {
        cluster.create::<DanmuFleet>(name, spec.clone()).await.map(drop)
    };
    match result {
        Ok(()) => panic!("{name} {spec} was taken"),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn what_cannot_be_is_refused_in_words() {
    let cluster = Cluster::new("rules").await;
    let window =
        json!({"start": "2026-11-01T20:00:00Z", "end": "2026-11-01T18:00:00Z", "expectedViewers": 1});
    for (name, spec, words) in [
        ("under.dotted", json!({}), "metadata.name is the room id"),
        ("backwards", json!({"schedule": [window]}), "end must be after start"),
        ("network", json!({"moderation": {"bannedNetworks": ["10.0.0.1"]}}), "each is a network such as"),
        ("negative", json!({"expectedViewers": -1}), "should be greater than or equal to 0"),
        ("pods", json!({"minPods": 0}), "should be greater than or equal to 1"),
        ("users", json!({"moderation": {"bannedUsers": vec!["u"; 1001]}}), "must have at most 1000 items"),
    ] {
        let told = refusal(&cluster, true, name, spec).await;
        assert!(told.contains(words), "{name}: {told}");
    }
    for (name, spec, words) in [
        ("bounds", json!({"replicas": {"min": 3, "max": 2}}), "min must not be more than max"),
        ("redis", json!({"redis": {"cluster": true}}), "give either url or secretRef, and not both"),
        (
            "routes",
            json!({"route": {"gateway": {"name": "a"}, "ingress": {"host": "b"}}}),
            "give gateway or ingress, and not both",
        ),
        ("origin", json!({"server": {"allowedOrigins": ["example.com/path"]}}), "each is an origin such as"),
        (
            "keys",
            json!({"auth": {"jwks": {"url": "http://id.example.com"}}}),
            "url is an https address such as",
        ),
        ("chat-pods", json!({}), "would be taken for another fleet's"),
        ("chat-admin", json!({}), "would be taken for another fleet's"),
    ] {
        let told = refusal(&cluster, false, name, spec).await;
        assert!(told.contains(words), "{name}: {told}");
    }
    cluster.end().await;
}

#[tokio::test]
async fn a_rooms_fleet_stays_and_the_scale_subresource_keeps_to_the_bounds() {
    let cluster = Cluster::new("stays").await;
    cluster.room("finals", json!({})).await;
    let patch = Patch::Merge(json!({"spec": {"fleet": "other"}}));
    let rooms = cluster.api::<DanmuRoom>();
    let told = rooms.patch("finals", &PatchParams::default(), &patch).await.unwrap_err().to_string();
    assert!(told.contains("a room cannot move to another fleet"), "{told}");
    cluster.fleet(json!({"replicas": {"min": 1, "max": 3}})).await;
    let fleets = cluster.api::<DanmuFleet>();
    let scale = |replicas: u32| Patch::Merge(json!({"spec": {"replicas": replicas}}));
    fleets.patch_scale("default", &PatchParams::default(), &scale(2)).await.unwrap();
    assert_eq!(fleets.get("default").await.unwrap().spec.replicas.min, 2);
    let told =
        fleets.patch_scale("default", &PatchParams::default(), &scale(9)).await.unwrap_err().to_string();
    assert!(told.contains("min must not be more than max"), "{told}");
    cluster.end().await;
}

#[tokio::test]
async fn unknown_fields_are_refused_where_users_ask_for_that_and_rooms_are_found_by_their_fleet() {
    let cluster = Cluster::new("fields").await;
    let resource = ApiResource::erase::<DanmuRoom>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource);
    let room = json!({
        "apiVersion": "danmu.live/v1alpha1", "kind": "DanmuRoom", "metadata": {"name": "typo"},
        "spec": {"expectedViewer": 5},
    });
    let strict = PostParams { field_manager: None, ..PostParams::default() };
    // kubectl asks for strict validation; without it the field is dropped, with a warning.
    let made = api.create(&strict, &serde_json::from_value(room).unwrap()).await.unwrap();
    assert!(made.data["spec"].get("expectedViewer").is_none());
    cluster.room("other", json!({"fleet": "second"})).await;
    let found = kube::api::ListParams::default().fields("spec.fleet=second");
    let found = cluster.api::<DanmuRoom>().list(&found).await.unwrap();
    assert_eq!(found.items.len(), 1);
    cluster.end().await;
}
