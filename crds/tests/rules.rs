//! The rules of the schemas, evaluated by kube's CEL as the Kubernetes API would, and held against the
//! reader of files: what one takes the other takes, and both say what to mend.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test ends where it goes wrong")]

use std::sync::LazyLock;

use danmu_crds::{DanmuFleet, DanmuRoom, parse_manifests};
use kube::{
    CustomResourceExt,
    core::cel::{CompiledSchema, ErrorKind, Validator, compile_schema, estimate_rule_cost},
};
use proptest::prelude::*;
use serde_json::{Value, json};

static CRDS: LazyLock<[Value; 2]> =
    LazyLock::new(|| [DanmuRoom::crd(), DanmuFleet::crd()].map(|crd| serde_json::to_value(crd).unwrap()));
static COMPILED: LazyLock<[CompiledSchema; 2]> =
    LazyLock::new(|| CRDS.each_ref().map(|crd| compile_schema(schema(crd))));

fn schema(crd: &Value) -> &Value {
    &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// What the Kubernetes API says to `object`, each as `field: message`; `old` is what it replaces.
fn cel(object: &Value, old: Option<&Value>) -> Vec<String> {
    let compiled = &COMPILED[usize::from(object["kind"] == "DanmuFleet")];
    let Err(errors) = Validator::new().validate_compiled(compiled, object, old) else { return Vec::new() };
    for error in &*errors {
        assert_eq!(error.kind, ErrorKind::ValidationFailure, "the rule itself is broken: {error}");
    }
    errors.iter().map(ToString::to_string).collect()
}

/// What the reader of files says. JSON is YAML.
fn file(object: &Value) -> Vec<String> {
    parse_manifests("a.yaml", &object.to_string()).err().unwrap_or_default()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "danmu.live/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn room(spec: Value) -> Value {
    object("DanmuRoom", "a", spec)
}

fn fleet(spec: Value) -> Value {
    object("DanmuFleet", "default", spec)
}

/// Both take it.
fn taken(object: &Value) {
    assert_eq!((cel(object, None), file(object)), (Vec::new(), Vec::new()), "{object}");
}

/// Both refuse it, the one with `message` and the other with `fault`.
fn refused(object: &Value, message: &str, fault: &str) {
    let (cel, file) = (cel(object, None), file(object));
    assert!(cel.len() == 1 && cel[0].contains(message), "{object}: no {message} in {cel:?}");
    assert!(file.len() == 1 && file[0].contains(fault), "{object}: no {fault} in {file:?}");
}

#[test]
fn names_of_rooms_and_fleets_are_path_segments() {
    let (longest, too_long) = ("a".repeat(63), "a".repeat(64));
    for kind in ["DanmuRoom", "DanmuFleet"] {
        for name in ["a", "7", "worlds-final", "a--b", &longest] {
            taken(&object(kind, name, json!({})));
        }
        for name in ["-a", "a-", "A", "a.b", "a_b", "a/b", "房间", "a\n", &too_long] {
            let wanted = "1 to 63 of a-z, 0-9 and -, with no - at either end";
            let fault = format!("metadata.name: is missing or not allowed; write {wanted}");
            refused(&object(kind, name, json!({})), wanted, &fault);
        }
    }
}

#[test]
fn lists_of_networks_take_networks_alone() {
    type With = fn(&str) -> Value;
    let lists: [(&str, With); 3] = [
        ("spec.moderation.bannedNetworks", |network| {
            room(json!({"moderation": {"bannedNetworks": ["10.0.0.0/8", network]}}))
        }),
        ("spec.defaults.moderation.bannedNetworks", |network| {
            fleet(json!({"defaults": {"moderation": {"bannedNetworks": ["10.0.0.0/8", network]}}}))
        }),
        ("spec.server.trustedProxies", |network| {
            fleet(json!({"server": {"trustedProxies": ["10.0.0.0/8", network]}}))
        }),
    ];
    for (field, with) in lists {
        for good in ["203.0.113.0/24", "203.0.113.7/32", "203.0.113.7/24", "0.0.0.0/0", "2001:db8::/48"] {
            taken(&with(good));
        }
        let (mapped, v6) = ("::ffff:203.0.113.0/120", "2001:db8::/129");
        for bad in
            ["203.0.113.7", "203.0.113.0/33", v6, "example.com/24", "1.2.3/24", mapped, "a", "1.2.3.4/"]
        {
            let message = "for one address write /32, or /128 in IPv6";
            let fault =
                format!("a.yaml: {field}[1]: {bad:?} is not a network; write one such as 203.0.113.0/24");
            refused(&with(bad), message, &fault);
        }
    }
}

/// Go, which the Kubernetes API is written in, refuses this; kube's evaluator does not.
#[test]
fn a_prefix_length_has_no_leading_zero() {
    assert_eq!(file(&room(json!({"moderation": {"bannedNetworks": ["10.0.0.0/08"]}}))).len(), 1);
}

#[test]
fn allowed_origins_are_origins() {
    let with = |origin: &str| fleet(json!({"server": {"allowedOrigins": ["https://example.com", origin]}}));
    for good in [
        "https://example.com",
        "http://localhost:5173",
        "https://127.0.0.1:65535",
        "*.example.com",
        "https://*.example.com:8443",
        "chrome-extension://abcdef",
        "null",
        "*",
    ] {
        taken(&with(good));
    }
    for bad in [
        "example.com",
        "https://",
        "https://a/",
        "https://a?b",
        "https://a b",
        "https://user@a",
        "https://Example.com",
        "https://a:65536",
        "**.example.com",
        "https://a\n",
    ] {
        let fault =
            format!("a.yaml: spec.server.allowedOrigins[1]: {bad:?} is not an origin; write one such as");
        refused(&with(bad), "each is an origin such as https://example.com", &fault);
    }
}

#[test]
fn a_room_stays_in_its_fleet_and_changes_all_else() {
    let old = room(json!({"fleet": "one"}));
    let edited = room(json!({"fleet": "one", "limits": {"history": 1}, "moderation": {"anonymous": "Deny"}}));
    assert_eq!(cel(&edited, Some(&old)), Vec::<String>::new());
    let moved = cel(&room(json!({"fleet": "two"})), Some(&old));
    assert_eq!(moved, ["spec.fleet: a room cannot move to another fleet; delete it and make it anew"]);
}

#[test]
fn a_fleets_services_are_not_taken_for_anothers() {
    for name in ["chat-pods", "chat-admin"] {
        let words = "would be taken for another fleet's";
        let fault = "metadata.name: ends in -pods or -admin; write another, its Service ".to_owned() + words;
        refused(&object("DanmuFleet", name, json!({})), words, &fault);
        taken(&object("DanmuRoom", name, json!({})));
    }
    taken(&object("DanmuFleet", "pods", json!({})));
}

#[test]
fn a_room_that_does_not_name_its_fleet_stays_in_the_default_one() {
    let (unnamed, named) = (room(json!({})), room(json!({"fleet": "default"})));
    assert_eq!(cel(&named, Some(&unnamed)), Vec::<String>::new());
    assert_eq!(cel(&unnamed, Some(&named)), Vec::<String>::new());
    assert_eq!(cel(&unnamed, Some(&room(json!({"fleet": "one"})))).len(), 1);
}

/// Every node of a schema, with its path.
fn nodes(schema: &'static Value, path: String, found: &mut Vec<(String, &'static Value)>) {
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        nodes(below, format!("{path}.{name}"), found);
    }
    if let Some(items) = schema.get("items") {
        nodes(items, format!("{path}[]"), found);
    }
    found.push((path, schema));
}

fn all_nodes() -> Vec<(String, &'static Value)> {
    let mut found = Vec::new();
    for crd in CRDS.iter() {
        nodes(schema(crd), crd["spec"]["names"]["kind"].as_str().unwrap().to_owned(), &mut found);
    }
    found
}

/// The API server refuses a definition whose rules may cost too much, by the bounds of what they read.
#[test]
fn every_list_text_and_number_of_a_spec_is_bounded() {
    // No rule reads a status, and what the operator tells must not be refused for its length.
    for (path, node) in all_nodes().into_iter().filter(|(path, _)| path.contains(".spec")) {
        let bounded = match node["type"].as_str().unwrap() {
            "array" => node["maxItems"].is_u64(),
            "string" => node["maxLength"].is_u64() || node["enum"].is_array(),
            "integer" => node["minimum"].is_number() && node["maximum"].is_number(),
            _ => true,
        };
        assert!(bounded, "{path}: {node}");
    }
}

#[test]
fn every_rule_compiles_has_a_message_and_keeps_to_the_cost_budget() {
    let mut rules = 0;
    for (path, node) in all_nodes() {
        let compiled = compile_schema(node);
        assert!(!compiled.has_errors(), "{path}: {:?}", compiled.compilation_errors());
        for rule in node["x-kubernetes-validations"].as_array().into_iter().flatten() {
            rules += 1;
            let warnings = estimate_rule_cost(rule["rule"].as_str().unwrap(), &compiled);
            assert!(warnings.is_empty(), "{path}: {warnings:?}");
            assert!(rule["message"].as_str().is_some_and(|message| message.len() > 20), "{path}: {rule}");
        }
    }
    assert_eq!(rules, 19, "a new rule needs its tests above");
}

/// A manifest with `value` at `path`, such as `DanmuRoom.spec.limits.history`, and all it needs beside.
fn with(path: &str, value: Value) -> Value {
    let mut fields = path.split('.');
    let mut object = object(fields.next().unwrap(), "a", json!({}));
    let mut place = &mut object;
    for field in fields {
        let (name, index) = field.strip_suffix("[]").map_or((field, None), |name| (name, Some(0)));
        match name {
            "perViewer" => place[name] = json!({"messages": 1, "seconds": 1}),
            "recording" => {
                place["mode"] = json!("OnDemand");
            }
            "shedding" => {
                place["startedAt"] = json!("2026-11-01T18:00:00Z");
                place["recording"] = json!({});
            }
            "gateway" => place[name] = json!({"name": "a"}),
            "publish" => place[name] = json!({"url": "https://a"}),
            "publishers" => place[name] = json!({"messagesPerSecond": 1}),
            "named" if index.is_some() => place[name] = json!([{"sub": "a", "messagesPerSecond": 1}]),
            "schedule" if index.is_some() => {
                let (start, end) = ("2026-11-01T18:00:00Z", "2026-11-01T22:00:00Z");
                place[name] = json!([{"start": start, "end": end, "expectedViewers": 1}]);
            }
            _ => {}
        }
        place = &mut place[name];
        if let Some(index) = index {
            place = &mut place[index];
        }
    }
    *place = value;
    // The other bound follows, so that each is tried alone.
    match path {
        "DanmuFleet.spec.replicas.min" => object["spec"]["replicas"]["max"] = json!(1000),
        "DanmuFleet.spec.replicas.max" => object["spec"]["replicas"]["min"] = json!(0),
        _ => {}
    }
    object
}

#[test]
fn numbers_are_taken_at_their_bounds_and_refused_past_them() {
    let mut tried = 0;
    for (path, node) in all_nodes().into_iter().filter(|(path, _)| path.contains(".spec.")) {
        let (Some(least), Some(most)) = (node["minimum"].as_f64(), node["maximum"].as_f64()) else {
            continue;
        };
        tried += 1;
        for (number, good) in [(least, true), (most, true), (least - 1.0, false), (most + 1.0, false)] {
            let faults = file(&with(&path, json!(number as i64)));
            let wanted = format!("write a number from {least} to {most}");
            assert_eq!(faults.is_empty(), good, "{path}: {number}: {faults:?}");
            assert!(good || faults[0].ends_with(&wanted), "{path}: no {wanted} in {faults:?}");
        }
    }
    assert!(tried >= 12, "{tried}");
}

#[test]
fn lists_are_taken_full_and_refused_over() {
    let mut tried = 0;
    for (path, node) in all_nodes().into_iter().filter(|(path, _)| path.contains(".spec.")) {
        // Lists of texts; those of other things have the same check.
        let Some(most) = node["maxItems"].as_u64().filter(|_| node["items"]["maxLength"].is_u64()) else {
            continue;
        };
        tried += 1;
        let entry = if path.ends_with("Networks") || path.ends_with("Proxies") { "10.0.0.0/8" } else { "*" };
        let longest = node["items"]["maxLength"].as_u64().unwrap() as usize;
        let list = |entries: u64| file(&with(&path, json!(vec![entry; entries as usize])));
        assert_eq!(list(most), Vec::<String>::new(), "{path}");
        let over = format!("has {} entries; keep at most {most}", most + 1);
        assert!(list(most + 1)[0].ends_with(&over), "{path}");
        // Characters are counted, not bytes.
        let long = file(&with(&path, json!(["弹".repeat(longest + 1)])));
        let wanted = format!("[0]: has {} characters; write at most {longest}", longest + 1);
        assert!(long[0].ends_with(&wanted), "{path}: {long:?}");
        assert!(file(&with(&path, json!([""])))[0].contains("[0]: is empty"), "{path}");
    }
    assert!(tried >= 12, "{tried}");
}

#[test]
fn kubectl_shows_finds_and_selects_by_what_people_look_for() {
    let columns = |crd: &Value| {
        let columns = crd["spec"]["versions"][0]["additionalPrinterColumns"].as_array().unwrap();
        columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let [rooms, fleets] = &*CRDS;
    assert_eq!(columns(rooms), ["Fleet", "Expected", "Viewers", "Placed", "Ready", "URL", "Age"]);
    assert_eq!(columns(fleets), ["Pods", "Ready pods", "Viewers", "Ready", "State", "Degraded", "Age"]);
    for (crd, short) in [(rooms, "dr"), (fleets, "df")] {
        assert_eq!(crd["spec"]["names"]["shortNames"], json!([short]));
        assert_eq!(crd["spec"]["names"]["categories"], json!(["danmu"]));
    }
    assert_eq!(rooms["spec"]["versions"][0]["selectableFields"], json!([{"jsonPath": ".spec.fleet"}]));
    assert_eq!(schema(rooms)["properties"]["spec"]["properties"]["fleet"]["default"], "default");
    let spec = &schema(fleets)["properties"]["spec"]["properties"];
    assert_eq!(spec["drainSeconds"]["default"], 60);
    assert_eq!(spec["server"]["default"], json!({"upgradesPerSecond": 3000, "unlistedRooms": "Refuse"}));
}

/// Fields that only the operator reads: a standalone server takes them and does nothing with them.
const OPERATORS: [&str; 14] = [
    "DanmuFleet.spec.auth",
    "DanmuFleet.spec.headroomPercent",
    "DanmuFleet.spec.image",
    "DanmuFleet.spec.maxHotRooms",
    "DanmuFleet.spec.paused",
    "DanmuFleet.spec.pod",
    "DanmuFleet.spec.redis",
    "DanmuFleet.spec.replicas",
    "DanmuFleet.spec.resources",
    "DanmuFleet.spec.route",
    "DanmuFleet.spec.warmupSeconds",
    "DanmuRoom.spec.expectedViewers",
    "DanmuRoom.spec.minPods",
    "DanmuRoom.spec.schedule",
];

/// The fields that the manifests of a folder show.
fn shown(folder: &str) -> Vec<String> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut shown = Vec::new();
    let paths = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    for path in paths.filter(|path| path.is_file()) {
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(parse_manifests(&path.display().to_string(), &text).err(), None);
        let examples: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        for example in examples {
            assert_eq!(cel(&example, None), Vec::<String>::new());
            fields(&example["spec"], format!("{}.spec", example["kind"].as_str().unwrap()), &mut shown);
        }
    }
    shown
}

/// A reader learns the fields from the examples, so none may be left out of them; and none of those that do
/// nothing in a standalone server may stand in its examples.
#[test]
fn the_examples_are_good_and_show_every_field() {
    let (mut standalone, cluster) = (shown("examples"), shown("examples/cluster"));
    standalone.extend(shown("examples/hooks"));
    let of_operator = |path: &str| OPERATORS.iter().any(|field| path.starts_with(field));
    for path in &standalone {
        assert!(!of_operator(path), "{path} does nothing in a standalone server");
    }
    for (path, _) in all_nodes().iter().filter(|(path, _)| path.contains(".spec.") && !path.ends_with("[]")) {
        // A room's lists are shown in one of its two places at least.
        let elsewhere = path.replace("DanmuRoom.spec.", "DanmuFleet.spec.defaults.");
        let shown = if of_operator(path) { &cluster } else { &standalone };
        assert!(shown.contains(path) || shown.contains(&elsewhere), "no example shows {path}");
    }
}

#[test]
fn fields_that_belong_together_are_held_against_each_other() {
    let window = |start, end| room(json!({"schedule": [{"start": start, "end": end, "expectedViewers": 5}]}));
    taken(&window("2026-11-01T18:00:00Z", "2026-11-01T22:00:00Z"));
    let (late, early) = ("2026-11-01T22:00:00Z", "2026-11-01T18:00:00Z");
    refused(&window(late, early), "end must be after start", "spec.schedule[0]: ends before it starts");
    for (min, max) in [(0, 1), (3, 3)] {
        taken(&fleet(json!({"replicas": {"min": min, "max": max}})));
    }
    let upside_down = fleet(json!({"replicas": {"min": 4, "max": 3}}));
    refused(&upside_down, "min must not be more than max", "spec.replicas: min is more than max");
    let secret = json!({"name": "a", "key": "b"});
    taken(&fleet(json!({"redis": {"url": "redis://a"}})));
    taken(&fleet(json!({"redis": {"secretRef": secret}})));
    for redis in [json!({}), json!({"url": "redis://a", "secretRef": secret})] {
        refused(&fleet(json!({"redis": redis})), "either url or secretRef", "either url or secretRef");
    }
    let (gateway, ingress) = (json!({"name": "a"}), json!({"host": "a"}));
    taken(&fleet(json!({"route": {}})));
    taken(&fleet(json!({"route": {"gateway": gateway}})));
    let both = fleet(json!({"route": {"gateway": gateway, "ingress": ingress}}));
    refused(&both, "gateway or ingress, and not both", "gateway or ingress, and not both");
}

#[test]
fn a_key_set_is_read_by_https_alone() {
    let with = |url: &str| fleet(json!({"auth": {"jwks": {"url": url}}}));
    for good in [
        "https://id.example.com",
        "https://ID.example.com:8443/.well-known/jwks.json",
        "https://10.0.0.1/keys?tenant=a",
    ] {
        taken(&with(good));
    }
    for bad in [
        "http://id.example.com/keys",
        "https://",
        "https:///keys",
        "https://user:word@id.example.com/",
        "https://id.example.com/a b",
        "HTTPS://id.example.com/",
        "/etc/danmu/keys/jwks.json",
        "https://id.example.com/\n",
    ] {
        refused(
            &with(bad),
            "url is an https address such as",
            "spec.auth.jwks.url: is no https address; write",
        );
    }
    let all = json!({"url": "https://a", "audience": "danmu", "issuer": "https://a"});
    taken(&fleet(json!({"auth": {"secretRef": {"name": "tokens"}, "jwks": all}})));
    taken(&fleet(json!({"auth": {}})));
}

#[test]
fn what_a_room_records_has_a_beginning_and_what_it_sheds_is_recorded() {
    let started = "2026-11-01T18:00:00Z";
    taken(&room(json!({"mode": "OnDemand"})));
    taken(&room(json!({"mode": "OnDemand", "recording": {"retentionDays": 7}})));
    taken(&room(json!({"startedAt": started, "recording": {"maxBytes": 1 << 20}})));
    taken(&room(json!({"startedAt": started, "recording": {}, "shedding": {"viewersAbove": 9}})));
    let (began, recorded) = ("recorded from startedAt on", "fetch what is recorded");
    refused(&room(json!({"recording": {}})), began, began);
    refused(&room(json!({"mode": "Live", "recording": {}})), began, began);
    refused(&room(json!({"startedAt": started, "shedding": {"viewersAbove": 9}})), recorded, recorded);
    let nothing = json!({"startedAt": started, "recording": {}, "shedding": {}});
    refused(&room(nothing), "give viewersAbove", "give viewersAbove");
}

#[test]
fn receivers_have_names_of_their_own_addresses_and_something_to_be_told() {
    let hook = |name: &str, url: &str| json!({"name": name, "url": url, "events": ["RoomHot"]});
    let webhooks = |hooks: Value| fleet(json!({"hooks": {"webhooks": hooks}}));
    let publish = |url: &str| fleet(json!({"hooks": {"publish": {"url": url}}}));
    taken(&fleet(json!({"hooks": {}})));
    taken(&webhooks(json!([hook("a", "https://a"), hook("b", "https://a")])));
    for good in [
        "https://example.com",
        "http://hooks.danmu.svc:8080/danmu",
        "https://[2001:db8::1]:443/",
        "https://example.com/a/b?c=%20d&e=f",
    ] {
        taken(&webhooks(json!([hook("a", good)])));
        taken(&publish(good));
    }
    for bad in [
        "example.com",
        "ftp://example.com",
        "https://",
        "https://user:secret@example.com",
        "https://example.com/a b",
        "https://example.com/#a",
        "https://example.com:65536",
        "https://example.com/'",
        "https://a\n",
    ] {
        let message = "is an address such as https://example.com/danmu";
        refused(&webhooks(json!([hook("a", bad)])), message, "spec.hooks.webhooks[0].url: ");
        refused(&publish(bad), message, "spec.hooks.publish.url: ");
    }
    let twice = webhooks(json!([hook("a", "https://a"), hook("a", "https://b")]));
    refused(&twice, "a name of its own", "spec.hooks.webhooks: two have one name");
    let deaf = webhooks(json!([{"name": "a", "url": "https://a", "events": []}]));
    assert_eq!(
        file(&deaf),
        ["a.yaml: spec.hooks.webhooks[0].events: is empty; write something or remove it"]
    );
    let eleven: Vec<Value> = (0..11).map(|nth| hook(&nth.to_string(), "https://a")).collect();
    assert_eq!(
        file(&webhooks(json!(eleven))),
        ["a.yaml: spec.hooks.webhooks: has 11 entries; keep at most 10"]
    );
}

#[test]
fn what_is_no_moment_is_told() {
    let faults = file(&room(
        json!({"schedule": [{"start": "tonight", "end": "2026-11-01T22:00:00Z", "expectedViewers": 5}]}),
    ));
    assert_eq!(
        faults,
        ["a.yaml: spec.schedule[0].start: is no moment; write one such as 2026-11-01T18:00:00Z"]
    );
}

fn fields(value: &Value, path: String, found: &mut Vec<String>) {
    for (name, below) in value.as_object().into_iter().flatten() {
        fields(below, format!("{path}.{name}"), found);
    }
    for below in value.as_array().into_iter().flatten().filter(|below| below.is_object()) {
        fields(below, format!("{path}[]"), found);
    }
    found.push(path);
}

proptest! {
    #[test]
    fn the_api_and_the_reader_of_files_judge_alike(
        name in "[a-cA-]{1,4}|[a-z-]{62,64}",
        network in "([0-9]{1,3}[.]){3}[0-9]{1,3}/([0-9]|[1-3][0-9])|[0-9a-f:]{2,6}/([1-9]|1[0-9]{2})|[0-9.:/]{1,12}",
        origin in "([a-zA-Z]{1,5}://)?([*][.])?[a-z0-9._-]{1,4}(:[0-9]{0,6})?/?|[*nul]{1,4}",
    ) {
        // A leading zero has its own test above.
        prop_assume!(!network.contains("/0") || network.ends_with("/0"));
        let of_room = object("DanmuRoom", &name, json!({"moderation": {"bannedNetworks": [network]}}));
        prop_assert_eq!(cel(&of_room, None).len(), file(&of_room).len(), "{}", of_room);
        let settings = json!({"server": {"allowedOrigins": [origin], "trustedProxies": [network]}});
        let of_fleet = object("DanmuFleet", &name, settings);
        prop_assert_eq!(cel(&of_fleet, None).len(), file(&of_fleet).len(), "{}", of_fleet);
    }
}
