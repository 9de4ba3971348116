use serde_json::json;

use super::*;
use crate::trials::{api, decided, fleet, gateway, given_back, room, seen};

fn owner() -> Owner {
    Owner::of(&fleet(json!({})))
}

#[tokio::test]
async fn things_are_made_before_what_points_at_them_and_pods_last() {
    let seen = seen(gateway(), vec![room("finals", json!({"expectedViewers": 9000}))], 1);
    let (.., objects) = decided(&seen);
    let (client, asked) = api(|_| None);
    assert!(apply(&client, &owner(), &objects, &[], &Metrics::default()).await.is_empty());
    let all = asked.all();
    let place = |part: &str| {
        all.iter().position(|line| line.contains(part)).unwrap_or_else(|| panic!("{part} in {all:?}"))
    };
    assert!(place("/endpointslices/room-finals-") < place("/services/room-finals-"));
    assert!(place("/services/room-finals-") < place("/httproutes/room-finals-"));
    assert_eq!(place("/statefulsets/danmu-default"), all.len() - 1);
    assert!(
        all.iter().all(|line| line.starts_with("PATCH ") && line.contains("/namespaces/live/")),
        "{all:?}"
    );
}

#[tokio::test]
async fn nothing_is_asked_for_what_is_as_it_should_be() {
    let mut seen = seen(gateway(), vec![room("finals", json!({"expectedViewers": 9000}))], 1);
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    let (client, asked) = api(|_| None);
    assert!(apply(&client, &owner(), &objects, &seen.live, &Metrics::default()).await.is_empty());
    assert_eq!(asked.all(), Vec::<String>::new());
}

#[tokio::test]
async fn what_somebody_edited_and_what_is_no_longer_asked_for_is_put_right() {
    let mut seen = seen(gateway(), Vec::new(), 1);
    let (.., objects) = decided(&seen);
    given_back(&mut seen, &objects);
    for live in &mut seen.live {
        let mut body = serde_json::to_value(&*live.object).unwrap();
        match live.kind {
            // An edit.
            Kind::PodDisruptionBudget => body["spec"]["maxUnavailable"] = json!(2),
            // A field that was asked for before, and so had another fingerprint.
            Kind::ServiceAccount => body["metadata"]["annotations"][names::APPLIED] = json!("01234567"),
            // A default, and the status: neither is ours.
            Kind::HttpRoute => body["status"] = json!({"parents": []}),
            _ => continue,
        }
        live.object = std::sync::Arc::new(serde_json::from_value(body).unwrap());
    }
    let (client, asked) = api(|_| None);
    assert!(apply(&client, &owner(), &objects, &seen.live, &Metrics::default()).await.is_empty());
    let all = asked.all();
    assert_eq!(all.len(), 2, "{all:?}");
    assert!(all[0].ends_with("/serviceaccounts/danmu-default"));
    assert!(all[1].ends_with("/poddisruptionbudgets/danmu-default"));
}

#[tokio::test]
async fn a_room_that_cooled_loses_route_service_and_slice_in_this_order_and_nobody_elses_go() {
    let mut seen = seen(gateway(), vec![room("finals", json!({"expectedViewers": 9000}))], 1);
    let (.., hot) = decided(&seen);
    given_back(&mut seen, &hot);
    let stranger = json!({"metadata": {"name": "stranger", "labels": {"danmu.live/fleet": "default"}}});
    seen.live.push(crate::trials::live(Kind::Service, stranger));
    let cold: Vec<Object> = hot.into_iter().filter(|object| !object.name.starts_with("room-")).collect();
    let (client, asked) = api(|line| line.contains("/httproutes/").then_some(404));
    assert!(apply(&client, &owner(), &cold, &seen.live, &Metrics::default()).await.is_empty());
    let all = asked.all();
    let kinds: Vec<&str> = all.iter().map(|line| line.rsplit('/').nth(1).unwrap()).collect();
    assert_eq!(kinds, ["httproutes", "services", "endpointslices"], "{all:?}");
    assert!(all.iter().all(|line| line.starts_with("DELETE ") && line.contains("room-finals-")), "{all:?}");
}

#[tokio::test]
async fn a_refusal_names_the_object_and_stops_only_what_points_at_it() {
    let rooms = vec![
        room("finals", json!({"expectedViewers": 9000})),
        room("semis", json!({"expectedViewers": 3000})),
    ];
    let (.., objects) = decided(&seen(gateway(), rooms, 1));
    let (client, asked) = api(|line| line.contains("/endpointslices/room-finals").then_some(403));
    let failed = apply(&client, &owner(), &objects, &[], &Metrics::default()).await;
    let [error] = &failed[..] else { panic!("{failed:?}") };
    assert!(error.to_string().starts_with("EndpointSlice room-finals-"), "{error}");
    assert!(error.to_string().contains("could not be applied: "), "{error}");
    assert_eq!(asked.with("room-finals").len(), 1, "no Service and no route");
    assert_eq!(asked.with("room-semis").len(), 3);
    assert_eq!(asked.with("statefulsets").len(), 1);
}

#[test]
fn a_quantity_in_the_api_servers_own_form_is_the_same() {
    let asked =
        json!({"resources": {"requests": {"cpu": "1000m", "memory": "1024Mi"}, "limits": {"cpu": "0.5"}}});
    let stored = json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "500m"}}});
    assert!(holds(&asked, &stored, false));
    let other = json!({"resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "501m"}}});
    assert!(!holds(&asked, &other, false));
    assert!(!holds(&json!({"image": "1000m"}), &json!({"image": "1"}), false), "only quantities are numbers");
    for (one, same) in [("1e3", "1k"), ("2Gi", "2147483648"), ("1n", "1m"), ("0", "0Mi"), ("1E", "1000P")] {
        assert_eq!(quantity(one), quantity(same), "{one} and {same}");
        assert!(quantity(one).is_some());
    }
    for wrong in ["", "Gi", "1x", "inf", "NaN", "1 Gi"] {
        assert_eq!(quantity(wrong), None, "{wrong}");
    }
}
