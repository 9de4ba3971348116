use k8s_openapi::api::{
    apps::v1::StatefulSet,
    core::v1::{Service, ServiceAccount},
    discovery::v1::EndpointSlice,
    networking::v1::Ingress,
    policy::v1::PodDisruptionBudget,
    rbac::v1::RoleBinding,
};
use serde::{Serialize, de::DeserializeOwned};

use super::*;
use crate::{
    names,
    trials::{decided, gateway, given_back, pod, room, seen, settings, told},
};

fn of<'a>(objects: &'a [Object], kind: Kind, name: &str) -> &'a Value {
    let found = objects.iter().find(|object| object.kind == kind && object.name == name);
    &found.unwrap_or_else(|| panic!("no {kind:?} {name} in {:?}", shown(objects))).body
}

fn shown(objects: &[Object]) -> Vec<(Kind, &str)> {
    objects.iter().map(|object| (object.kind, object.name.as_str())).collect()
}

/// A misspelt field would vanish in the typed form.
fn is_typed<K: Serialize + DeserializeOwned>(body: &Value) {
    let typed: K = serde_json::from_value(body.clone()).unwrap();
    let mut back = serde_json::to_value(&typed).unwrap();
    // Written although it says nothing, so that the two can be compared.
    if let Some(spec) = body.pointer("/spec/template/spec/volumes/1/emptyDir") {
        back["spec"]["template"]["spec"]["volumes"][1]["emptyDir"] = spec.clone();
    }
    assert_eq!(&back, body);
}

#[test]
fn every_object_is_one_that_kubernetes_knows() {
    let spec = json!({
        "route": {"ingress": {"className": "a", "host": "a.example.com"}},
        "resources": {"requests": {"cpu": "1"}},
        "redis": {"secretRef": {"name": "r", "key": "url"}, "cluster": true},
        "pod": {
            "nodeSelector": {"a": "b"}, "annotations": {"c": "d"}, "imagePullSecrets": [{"name": "e"}],
            "tolerations": [{"key": "f", "operator": "Exists"}],
            "affinity": {"podAntiAffinity": {}},
        },
    });
    let mut seen = seen(spec, vec![room("finals", json!({"expectedViewers": 9000}))], 3);
    seen.keys.hs256 = true;
    seen.keys.eddsa = true;
    let observation = crate::observe::observe(&seen);
    let plan = danmu_plan::plan(&observation);
    let with_role = Settings { server_role: Some("reader".to_owned()), ..settings() };
    let objects = build(&seen, &observation, &plan, &with_role).unwrap();
    for object in &objects {
        match object.kind {
            Kind::ServiceAccount => is_typed::<ServiceAccount>(&object.body),
            Kind::RoleBinding => is_typed::<RoleBinding>(&object.body),
            Kind::PodDisruptionBudget => is_typed::<PodDisruptionBudget>(&object.body),
            Kind::EndpointSlice => is_typed::<EndpointSlice>(&object.body),
            Kind::Service => is_typed::<Service>(&object.body),
            Kind::Ingress => is_typed::<Ingress>(&object.body),
            Kind::StatefulSet => is_typed::<StatefulSet>(&object.body),
            Kind::HttpRoute => panic!("the fleet has an Ingress"),
        }
        let meta = &object.body["metadata"];
        assert_eq!(meta["ownerReferences"][0]["uid"], "fleet-uid", "{}", object.name);
        assert_eq!(meta["labels"][names::FLEET_LABEL], "default", "{}", object.name);
    }
    let kinds: std::collections::BTreeSet<Kind> = objects.iter().map(|object| object.kind).collect();
    assert_eq!(kinds.len(), 7);
}

#[test]
fn an_empty_fleet_has_everything_but_rooms_and_routes_in_the_order_to_make_it() {
    let (.., objects) = decided(&seen(json!({}), vec![room("a", json!({}))], 0));
    assert_eq!(
        shown(&objects),
        [
            (Kind::ServiceAccount, "danmu-default"),
            (Kind::PodDisruptionBudget, "danmu-default"),
            (Kind::Service, "danmu-default"),
            (Kind::Service, "danmu-default-pods"),
            (Kind::Service, "danmu-default-admin"),
            (Kind::StatefulSet, "danmu-default"),
        ]
    );
    assert_eq!(of(&objects, Kind::StatefulSet, "danmu-default")["spec"]["replicas"], 1);
    assert_eq!(of(&objects, Kind::PodDisruptionBudget, "danmu-default")["spec"]["maxUnavailable"], 1);
}

#[test]
fn pods_have_longer_than_their_drain_and_no_rights() {
    let spec = json!({
        "drainSeconds": 90, "image": "mine:1",
        "server": {"trustedProxies": ["10.0.0.0/8", "fd00::/8"], "perAddressCap": 7},
    });
    let (.., objects) = decided(&seen(spec, Vec::new(), 1));
    let set = &of(&objects, Kind::StatefulSet, "danmu-default")["spec"];
    assert_eq!(set["updateStrategy"]["type"], "OnDelete");
    assert_eq!(set["podManagementPolicy"], "Parallel");
    let pod = &set["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 110);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    let server = &pod["containers"][0];
    assert_eq!(server["image"], "mine:1");
    assert_eq!(server["securityContext"]["capabilities"]["drop"], json!(["ALL"]));
    let args: Vec<&str> =
        server["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(args.contains(&"--kubernetes") && args.contains(&"--fleet=live/default"), "{args:?}");
    let live = ["--drain-seconds", "--trusted-proxies", "--per-address-cap"];
    assert!(!args.iter().any(|arg| live.iter().any(|flag| arg.starts_with(flag))), "would roll: {args:?}");
    let selector = set["selector"]["matchLabels"].as_object().unwrap();
    let labels = set["template"]["metadata"]["labels"].as_object().unwrap();
    assert!(selector.iter().all(|(key, value)| labels.get(key) == Some(value)));
}

#[test]
fn secrets_are_named_and_never_written_out() {
    let mut seen = seen(json!({"redis": {"secretRef": {"name": "r", "key": "url"}}}), Vec::new(), 1);
    seen.keys = crate::seen::Keys {
        secret: "tokens".to_owned(),
        version: "7".to_owned(),
        hs256: true,
        eddsa: false,
        rs256: true,
        jwks: true,
        hooks: true,
    };
    let (.., objects) = decided(&seen);
    let server =
        &of(&objects, Kind::StatefulSet, "danmu-default")["spec"]["template"]["spec"]["containers"][0];
    let from = |name: &str| {
        let env = server["env"].as_array().unwrap().iter().find(|env| env["name"] == name);
        env.map(|env| env["valueFrom"]["secretKeyRef"].clone())
    };
    assert_eq!(from("DANMU_ADMIN_TOKEN"), Some(json!({"name": "tokens", "key": "admin-token"})));
    assert_eq!(from("DANMU_TOKEN_SECRET"), Some(json!({"name": "tokens", "key": "token-secret"})));
    assert_eq!(from("DANMU_HOOK_SECRET"), Some(json!({"name": "tokens", "key": "hook-secret"})));
    assert_eq!(from("DANMU_REDIS"), Some(json!({"name": "r", "key": "url"})));
    let template = &of(&objects, Kind::StatefulSet, "danmu-default")["spec"]["template"];
    assert_eq!(template["metadata"]["annotations"][names::KEYS], "7", "another Secret is another revision");
    let args = server["args"].to_string();
    assert!(args.contains("--token-rs256=/etc/danmu/keys/rs256.pem") && !args.contains("eddsa"), "{args}");
    assert!(args.contains("--token-jwks=/etc/danmu/keys/jwks.json"), "{args}");
}

#[test]
fn a_key_set_by_url_takes_the_place_of_the_secrets() {
    let url = "https://id.example.com/keys?a=$(DANMU_ADMIN_TOKEN)";
    let full = json!({"url": url, "audience": "danmu", "issuer": "https://id.example.com"});
    for (jwks, more) in [
        (json!({"url": url}), vec![]),
        (full, vec!["--token-audience=danmu", "--token-issuer=https://id.example.com"]),
    ] {
        let mut seen = seen(json!({"auth": {"jwks": jwks}}), Vec::new(), 1);
        seen.keys.jwks = true;
        let (.., objects) = decided(&seen);
        let set = of(&objects, Kind::StatefulSet, "danmu-default");
        let args = set["spec"]["template"]["spec"]["containers"][0]["args"].as_array().unwrap();
        let args: Vec<&str> = args.iter().map(|arg| arg.as_str().unwrap()).collect();
        let tokens: Vec<&str> = args.into_iter().filter(|arg| arg.starts_with("--token-")).collect();
        // A `$` of the address is no variable of the kubelet's.
        let place = "--token-jwks=https://id.example.com/keys?a=$$(DANMU_ADMIN_TOKEN)";
        assert_eq!(tokens, [vec![place], more].concat());
    }
}

#[test]
fn a_fleet_without_an_image_says_where_to_put_one() {
    let seen = seen(json!({}), Vec::new(), 1);
    let observation = crate::observe::observe(&seen);
    let plan = danmu_plan::plan(&observation);
    let error = build(&seen, &observation, &plan, &Settings::default()).unwrap_err();
    assert!(error.to_string().contains("spec.image"), "{error}");
}

#[test]
fn a_hot_room_has_a_slice_a_service_and_a_route_that_fit_together() {
    let (.., objects) =
        decided(&seen(gateway(), vec![room("finals", json!({"expectedViewers": 20_000}))], 2));
    let name = names::room("finals");
    let (slice, service, route) = (
        of(&objects, Kind::EndpointSlice, &name),
        of(&objects, Kind::Service, &name),
        of(&objects, Kind::HttpRoute, &name),
    );
    let order: Vec<Kind> = objects.iter().filter(|object| object.name == name).map(|o| o.kind).collect();
    assert_eq!(order, [Kind::EndpointSlice, Kind::Service, Kind::HttpRoute]);
    assert_eq!(slice["metadata"]["labels"]["kubernetes.io/service-name"], name.as_str());
    assert_eq!(slice["ports"][0]["name"], service["spec"]["ports"][0]["name"]);
    assert_eq!(service["spec"]["ports"][0]["appProtocol"], "kubernetes.io/ws");
    assert!(service["spec"].get("selector").is_none());
    let endpoints = slice["endpoints"].as_array().unwrap();
    let addresses: Vec<&Value> = endpoints.iter().map(|endpoint| &endpoint["addresses"][0]).collect();
    assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"]);
    for endpoint in endpoints {
        assert_eq!(endpoint["conditions"], json!({"ready": true, "serving": true, "terminating": false}));
    }
    let rule = &route["spec"]["rules"][0];
    assert_eq!(rule["matches"][0]["path"], json!({"type": "Exact", "value": "/rooms/finals/ws"}));
    assert_eq!(rule["backendRefs"][0]["name"], name.as_str());
    let fleet = of(&objects, Kind::HttpRoute, "danmu-default");
    assert_eq!(fleet["spec"]["parentRefs"], route["spec"]["parentRefs"]);
    assert_eq!(fleet["spec"]["hostnames"], json!(["live.example.com"]));
    assert_eq!(fleet["spec"]["rules"][0]["matches"][0]["path"]["type"], "PathPrefix");
}

#[test]
fn a_hot_room_that_no_pod_takes_has_no_route_to_nowhere() {
    let mut seen = seen(gateway(), vec![room("finals", json!({"expectedViewers": 9000}))], 1);
    let mut unready = pod(0);
    unready.status.as_mut().unwrap().conditions.as_mut().unwrap()[0].status = "False".to_owned();
    seen.pods = vec![std::sync::Arc::new(unready)];
    let (_, plan, objects) = decided(&seen);
    assert!(plan.rooms[0].hot);
    assert!(!objects.iter().any(|object| object.name == names::room("finals")));
    assert!(objects.iter().any(|object| object.kind == Kind::HttpRoute), "the fleet's own stays");
}

#[test]
fn no_routes_where_an_older_fleet_has_the_host_or_nobody_knows_them() {
    let rooms = vec![room("finals", json!({"expectedViewers": 9000}))];
    let mut taken = seen(gateway(), rooms.clone(), 1);
    taken.host_taken = Some("live.example.com".to_owned());
    let mut without = seen(gateway(), rooms, 1);
    without.gateway_api = false;
    for seen in [taken, without] {
        let (.., objects) = decided(&seen);
        assert!(!objects.iter().any(|object| object.kind == Kind::HttpRoute));
        assert!(
            objects.iter().any(|object| object.kind == Kind::EndpointSlice),
            "its slice is made all the same"
        );
    }
}

#[test]
fn an_ingress_of_a_room_beats_the_fleets_prefix() {
    let spec = json!({"route": {"ingress": {"className": "traefik", "host": "a.example.com"}}});
    let (.., objects) = decided(&seen(spec, vec![room("finals", json!({"minPods": 2}))], 2));
    let room = of(&objects, Kind::Ingress, &names::room("finals"));
    assert_eq!(room["metadata"]["annotations"]["traefik.ingress.kubernetes.io/router.priority"], "1000");
    assert_eq!(room["spec"]["rules"][0]["http"]["paths"][0]["pathType"], "Exact");
    assert_eq!(room["spec"]["ingressClassName"], "traefik");
    let fleet = of(&objects, Kind::Ingress, "danmu-default");
    assert_eq!(fleet["spec"]["rules"][0]["http"]["paths"][0]["pathType"], "Prefix");
}

#[test]
fn what_was_made_is_seen_again_and_nothing_moves() {
    let mut seen = seen(gateway(), vec![room("finals", json!({"expectedViewers": 20_000}))], 2);
    let (_, _, first) = decided(&seen);
    given_back(&mut seen, &first);
    seen.now += jiff::SignedDuration::from_secs(3);
    let (observation, _, second) = decided(&seen);
    assert_eq!(observation.rooms[0].endpoints.pods, [0, 1]);
    assert!(observation.rooms[0].endpoints.changed_at.is_some());
    assert_eq!(first, second);
}

#[test]
fn a_pods_new_address_is_followed_at_once() {
    let mut seen = seen(gateway(), vec![room("finals", json!({"expectedViewers": 9000}))], 1);
    let (.., first) = decided(&seen);
    given_back(&mut seen, &first);
    let mut moved = pod(0);
    moved.metadata.uid = Some("another-uid".to_owned());
    moved.status.as_mut().unwrap().pod_ip = Some("10.0.9.9".to_owned());
    seen.pods = vec![std::sync::Arc::new(moved)];
    seen.loads.insert("another-uid".to_owned(), told(&[]));
    let (.., objects) = decided(&seen);
    let slice = of(&objects, Kind::EndpointSlice, &names::room("finals"));
    assert_eq!(slice["endpoints"][0]["addresses"], json!(["10.0.9.9"]));
}
