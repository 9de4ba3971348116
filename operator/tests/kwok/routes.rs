//! Routes: made in order, told only when accepted, and the Gateway API may come late.

use danmu_crds::{DanmuFleet, DanmuRoom};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
        PostParams,
    },
};
use serde_json::json;

use crate::cluster::{Cluster, eventually};

/// As much of HTTPRoute as an operator needs to see.
fn definition() -> CustomResourceDefinition {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    serde_json::from_value(json!({
        "metadata": {"name": "httproutes.gateway.networking.k8s.io", "annotations": {
            "api-approved.kubernetes.io": "https://github.com/kubernetes-sigs/gateway-api/pull/4214",
        }},
        "spec": {
            "group": "gateway.networking.k8s.io", "scope": "Namespaced",
            "names": {"kind": "HTTPRoute", "plural": "httproutes", "singular": "httproute"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": any, "status": any}}},
            }],
        },
    }))
    .unwrap()
}

fn routes(cluster: &Cluster) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute");
    let resource = ApiResource::from_gvk_with_plural(&kind, "httproutes");
    Api::namespaced_with(cluster.client.clone(), &cluster.namespace, &resource)
}

/// What a Gateway's controller says of every route there is.
async fn accept(cluster: &Cluster) {
    let api = routes(cluster);
    for route in api.list(&ListParams::default()).await.unwrap() {
        let condition = |kind: &str| {
            json!({
                "type": kind, "status": "True", "reason": kind, "message": "",
                "observedGeneration": route.metadata.generation, "lastTransitionTime": "2026-11-01T18:00:00Z",
            })
        };
        let status = json!({"status": {"parents": [{
            "parentRef": {"name": "public"}, "controllerName": "example.com/kwok",
            "conditions": [condition("Accepted"), condition("ResolvedRefs")],
        }]}});
        api.patch_status(&route.name_any(), &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
}

#[tokio::test]
async fn the_gateway_api_may_come_late_and_a_url_is_told_once_its_route_is_accepted() {
    let mut cluster = Cluster::new("routes").await;
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client.clone());
    let ours = definition();
    if definitions.get_opt(&ours.name_any()).await.unwrap().is_some() {
        definitions.delete(&ours.name_any(), &DeleteParams::default()).await.unwrap();
        eventually("an earlier run's HTTPRoutes are gone", 30, async || {
            definitions.get_opt(&ours.name_any()).await.unwrap().is_none().then_some(())
        })
        .await;
    }
    let route = json!({"gateway": {"name": "public", "hostnames": ["late.example.com"]}});
    let spec = json!({"viewersPerPod": 1000, "hotRoomViewers": 500, "route": route});
    cluster.fleet(spec.clone()).await;
    cluster.room("finals", json!({"expectedViewers": 900})).await;
    cluster.room("quiet", json!({})).await;
    cluster.operate().await;
    eventually("it says what is missing", 60, async || {
        let routed = cluster.room_condition("finals", "Routed").await;
        (routed == ("False".to_owned(), "NoGatewayApi".to_owned())).then_some(())
    })
    .await;
    let mark = cluster.calls.mark();
    definitions.create(&PostParams::default(), &ours).await.unwrap();
    eventually("routes are made without a restart", 60, async || {
        (routes(&cluster).list(&ListParams::default()).await.ok()?.items.len() == 2).then_some(())
    })
    .await;
    eventually("it says that nobody took the route yet", 20, async || {
        (cluster.room_condition("finals", "Routed").await.1 == "RoutePending").then_some(())
    })
    .await;
    let room: DanmuRoom = cluster.api().get("finals").await.unwrap();
    assert_eq!(room.status.unwrap().url, None, "nobody said yet that it works");
    accept(&cluster).await;
    eventually("the URL is told", 20, async || {
        let room: DanmuRoom = cluster.api().get("finals").await.unwrap();
        (room.status?.url.as_deref() == Some("wss://late.example.com/rooms/finals/ws?room=finals"))
            .then_some(())
    })
    .await;
    assert_eq!(
        cluster.room_condition("quiet", "Routed").await,
        ("True".to_owned(), "SharedRoute".to_owned())
    );
    println!("routes made with {:?}", cluster.calls.counted(mark));

    // A second hot room, from nothing, and away again: what a route points at is there as long as the route is.
    let mark = cluster.calls.mark();
    cluster.room("second", json!({"expectedViewers": 900})).await;
    eventually("it has a route", 60, async || {
        let all = routes(&cluster).list(&ListParams::default()).await.unwrap();
        all.iter()
            .any(|route| route.labels().get("danmu.live/room").is_some_and(|room| room == "second"))
            .then_some(())
    })
    .await;
    cluster.api::<DanmuRoom>().delete("second", &DeleteParams::default()).await.unwrap();
    eventually("it is gone", 30, async || (!cluster.slices().await.contains_key("second")).then_some(()))
        .await;
    let of_room = |line: &String| line.contains("/room-second-");
    let kinds: Vec<String> = cluster
        .calls
        .writes(mark)
        .into_iter()
        .filter(of_room)
        .map(|line| format!("{} {}", line.split(' ').next().unwrap(), line.rsplit('/').nth(1).unwrap()))
        .collect();
    let order = [
        "PATCH endpointslices",
        "PATCH services",
        "PATCH httproutes",
        "DELETE httproutes",
        "DELETE services",
        "DELETE endpointslices",
    ];
    let mut seen = kinds.clone();
    seen.dedup();
    assert_eq!(seen, order, "{kinds:?}");

    // A younger fleet with the same host makes no routes.
    cluster.create::<DanmuFleet>("younger", spec).await.unwrap();
    eventually("it says whose the host is", 30, async || {
        let fleet: DanmuFleet = cluster.api().get("younger").await.unwrap();
        let ready = crate::cluster::condition(&fleet.status?.conditions, "Ready");
        (ready.1 == "HostnameTaken").then_some(())
    })
    .await;
    assert!(routes(&cluster).get_opt("danmu-younger").await.unwrap().is_none());
    definitions.delete(&ours.name_any(), &DeleteParams::default()).await.unwrap();
    cluster.end().await;
}
