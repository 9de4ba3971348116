use proptest::prelude::*;

use super::*;
use crate::{Anonymous, UnlistedRooms};

fn room(spec: &str) -> String {
    format!("apiVersion: danmu.live/v1alpha1\nkind: DanmuRoom\nmetadata: {{name: r}}\nspec: {spec}\n")
}

#[test]
fn a_file_may_hold_rooms_and_fleets() {
    let yaml = format!(
        "---\n{}---\napiVersion: danmu.live/v1alpha1\nkind: DanmuFleet\nmetadata: {{name: default}}\n\
         spec: {{server: {{unlistedRooms: Allow}}}}\n---\n",
        room("{moderation: {anonymous: Speak}}")
    );
    let manifests = parse_manifests("a.yaml", &yaml).unwrap();
    let [Manifest::Room(room), Manifest::Fleet(fleet)] = &manifests[..] else { panic!("{manifests:?}") };
    assert_eq!(room.spec.fleet, "default");
    assert_eq!(room.spec.moderation.as_ref().unwrap().anonymous, Some(Anonymous::Speak));
    assert_eq!(fleet.spec.server.unlisted_rooms, UnlistedRooms::Allow);
    assert_eq!((fleet.spec.server.upgrades_per_second, fleet.spec.drain_seconds), (3000, 60));
}

#[test]
fn all_faults_are_told_at_once_with_their_fields() {
    let yaml = room(
        "{limits: {messagesPerSecond: 0, perViewer: {messages: 3}, maxLenght: 5}, \
         moderation: {anonymous: Maybe, bannedUsers: [7], bannedNetworks: [203.0.113.7]}}",
    );
    let faults = parse_manifests("a.yaml", &yaml).unwrap_err();
    for field in [
        "spec.limits.messagesPerSecond: is 0; write a number from 1 to 1000",
        "spec.limits.perViewer.seconds: is missing",
        "spec.limits.maxLenght: is no field; remove it or write one of",
        "spec.moderation.anonymous: is \"Maybe\"; write one of Deny, Watch, Speak",
        "spec.moderation.bannedUsers[0]: is 7; write text in quotes",
        "spec.moderation.bannedNetworks[0]: \"203.0.113.7\" is not a network",
    ] {
        let wanted = format!("a.yaml: {field}");
        assert!(faults.iter().any(|fault| fault.starts_with(&wanted)), "no {wanted} in {faults:#?}");
    }
    assert_eq!(faults.len(), 6, "{faults:#?}");
}

#[test]
fn a_room_has_1_to_64_sub_rooms_and_is_undivided_without_a_word() {
    let of = |spec: &str| parse_manifests("a.yaml", &room(spec));
    for (spec, number) in [("{}", 1), ("{subRooms: 1}", 1), ("{subRooms: 64}", 64)] {
        let [Manifest::Room(room)] = &of(spec).unwrap()[..] else { panic!("{spec}") };
        assert_eq!(crate::policy(None, Some(&room.spec)).sub_rooms, number);
    }
    for bad in ["0", "65", "-1"] {
        let faults = of(&format!("{{subRooms: {bad}}}")).unwrap_err();
        assert_eq!(faults, [format!("a.yaml: spec.subRooms: is {bad}; write a number from 1 to 64")]);
    }
    assert!(of("{subRooms: many}").is_err());
}

#[test]
fn a_fault_in_a_later_document_names_the_document() {
    let yaml = format!("{}---\n{}", room("{}"), room("{limits: {history: -1}}"));
    let faults = parse_manifests("a.yaml", &yaml).unwrap_err();
    assert_eq!(faults, ["a.yaml: document 2: spec.limits.history: is -1; write a number from 0 to 1000"]);
}

#[test]
fn broken_yaml_and_a_repeated_key_are_told_in_one_line() {
    for yaml in ["a: [", "a: 1\na: 2\n"] {
        let faults = parse_manifests("a.yaml", yaml).unwrap_err();
        assert!(faults[0].starts_with("a.yaml: the whole file: is not valid YAML"), "{faults:?}");
        assert!(!faults[0].contains('\n'));
    }
}

/// A fault is printed on the terminal of whoever checks the file.
#[test]
fn control_characters_of_a_file_do_not_reach_the_terminal() {
    for yaml in [
        room(r#"{"\e[31mred": 1}"#),
        room(r#"{limits: {"\e[31mred": 1}, moderation: {anonymous: "\e[31m"}}"#),
        r#"{"\e[31mred": 1, kind: DanmuRoom, spec: {}}"#.to_owned(),
        r#"{"\e[31mred": 1, "\e[31mred": 2}"#.to_owned(),
    ] {
        let faults = parse_manifests("a.yaml", &yaml).unwrap_err();
        assert!(!faults.concat().contains(char::is_control), "{faults:?}");
    }
}

#[test]
fn a_bomb_of_aliases_and_a_tower_of_brackets_are_refused_before_they_grow() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let below = format!("*a{}, ", level - 1).repeat(9);
        bomb.push_str(&format!("a{level}: &a{level} [{below}]\n"));
    }
    for yaml in [bomb, "[".repeat(100_000)] {
        let faults = parse_manifests("a.yaml", &yaml).unwrap_err();
        assert!(faults[0].contains("is not valid YAML"), "{faults:?}");
    }
}

#[test]
fn a_file_over_the_limit_is_refused_unread() {
    let faults = parse_manifests("a.yaml", &"#".repeat(MAX_MANIFEST_BYTES + 1)).unwrap_err();
    assert!(faults[0].contains("split it"), "{faults:?}");
}

#[test]
fn a_list_over_its_limit_and_an_entry_over_its_length_are_refused() {
    let users = vec!["u"; 1001].join(",");
    let faults =
        parse_manifests("a.yaml", &room(&format!("{{moderation: {{mutedUsers: [{users}]}}}}"))).unwrap_err();
    assert!(faults[0].contains("mutedUsers: has 1001 entries; keep at most 1000"), "{faults:?}");
    let word = "w".repeat(101);
    let faults = parse_manifests("a.yaml", &room(&format!("{{moderation: {{words: {{mask: [{word}]}}}}}}")))
        .unwrap_err();
    assert!(faults[0].contains("words.mask[0]: has 101 characters; write at most 100"), "{faults:?}");
}

#[test]
fn a_room_id_is_lower_case_letters_digits_and_inner_hyphens() {
    for good in ["a", "0", "worlds-final", &"a".repeat(63)] {
        assert!(is_room_id(good), "{good}");
    }
    for bad in ["", "-a", "a-", "A", "a.b", "a_b", "房", &"a".repeat(64)] {
        assert!(!is_room_id(bad), "{bad}");
    }
}

#[test]
fn the_schema_carries_the_cluster_side_rules() {
    let crd = serde_json::to_value(DanmuRoom::crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    assert_eq!(version["selectableFields"][0]["jsonPath"], ".spec.fleet");
    let schema = &version["schema"]["openAPIV3Schema"];
    assert!(schema["x-kubernetes-validations"][0]["rule"].as_str().unwrap().contains("metadata.name"));
    let fleet = &schema["properties"]["spec"]["properties"]["fleet"];
    assert_eq!(fleet["x-kubernetes-validations"][0]["rule"], "self == oldSelf");
    assert_eq!(fleet["default"], "default");
    let networks = &schema["properties"]["spec"]["properties"]["moderation"]["properties"]["bannedNetworks"];
    assert_eq!((&networks["maxItems"], &networks["items"]["maxLength"]), (&1000.into(), &43.into()));
    assert!(networks["x-kubernetes-validations"][0]["rule"].as_str().unwrap().contains("isCIDR"));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,200}") {
        let _ = parse_manifests("a.yaml", &text);
    }

    #[test]
    fn no_spec_makes_the_parser_panic(spec in "[a-z{}\\[\\]:, 0-9-]{0,80}") {
        let _ = parse_manifests("a.yaml", &room(&spec));
    }
}
