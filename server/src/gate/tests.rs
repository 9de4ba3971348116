use super::*;
use danmu_crds::RoomPolicy;

const HOME: &str = "192.0.2.7";

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn network(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn speaker(user: &str) -> Speaker<'_> {
    Speaker { user: Some(user), address: address(HOME), role: Role::Speaker }
}

/// A room, and what one connection after another says in it.
struct Room {
    gate: Gate,
    policy: Policy,
    now: Instant,
}

impl Room {
    fn new(rules: RoomPolicy) -> Self {
        Self { gate: Gate::default(), policy: Policy::compile(rules), now: Instant::now() }
    }

    fn say(&self, speaker: &Speaker<'_>, text: &str) -> Result<String, Refusal> {
        self.say_on(&mut Bucket::default(), speaker, text)
    }

    fn say_on(&self, bucket: &mut Bucket, speaker: &Speaker<'_>, text: &str) -> Result<String, Refusal> {
        let said = self.gate.say(&self.policy, speaker, bucket, text, &Style::default(), self.now);
        said.map(|passed| passed.text)
    }

    fn refusal(&self, speaker: &Speaker<'_>, text: &str) -> RefusalCode {
        self.say(speaker, text).expect_err("refused").code
    }

    fn enter(&self, user: Option<&str>, from: &str) -> Result<(), CloseCode> {
        self.gate.enter(&self.policy, user, address(from), self.now)
    }
}

#[test]
fn roles_and_the_anonymous_rule_say_who_may_write() {
    let anonymous = Speaker { user: None, address: address(HOME), role: Role::Viewer };
    let viewer = Speaker { role: Role::Viewer, ..speaker("ann") };
    let room = Room::new(RoomPolicy::default());
    assert_eq!(room.refusal(&anonymous, "hi"), RefusalCode::SignIn);
    assert_eq!(room.refusal(&viewer, "hi"), RefusalCode::WatchOnly);
    assert!(room.say(&speaker("bob"), "hi").is_ok());
    let open = Room::new(RoomPolicy { anonymous: Anonymous::Speak, ..RoomPolicy::default() });
    assert!(open.say(&anonymous, "hi").is_ok() && open.say(&viewer, "hi").is_ok());
}

#[test]
fn a_room_that_denies_anonymous_viewers_lets_users_in() {
    let room = Room::new(RoomPolicy { anonymous: Anonymous::Deny, ..RoomPolicy::default() });
    assert_eq!(room.enter(None, HOME), Err(CloseCode::NotAllowed));
    assert_eq!(room.enter(Some("ann"), HOME), Ok(()));
}

#[test]
fn networks_banned_by_manifest_hold_for_ipv4_ipv6_and_mapped_addresses() {
    let banned_networks =
        vec![network("198.51.100.9/24"), network("2001:db8:1::/48"), network("::ffff:203.0.113.0/120")];
    let room = Room::new(RoomPolicy { banned_networks, ..RoomPolicy::default() });
    for from in
        ["198.51.100.200", "::ffff:198.51.100.1", "2001:db8:1:2::3", "203.0.113.5", "::ffff:203.0.113.5"]
    {
        assert_eq!(room.enter(Some("ann"), from), Err(CloseCode::Banned), "{from}");
    }
    for from in ["198.51.101.1", "::ffff:198.51.101.1", "2001:db8:2::3", "203.0.112.5"] {
        assert_eq!(room.enter(Some("ann"), from), Ok(()), "{from}");
    }
}

#[test]
fn networks_banned_by_a_moderator_hold_until_they_end_or_are_lifted() {
    let mut room = Room::new(RoomPolicy::default());
    room.gate
        .ban_network(network("::ffff:198.51.100.77/120"), Some(room.now + Duration::from_secs(60)))
        .unwrap();
    room.gate.ban_network(network("2001:db8::1/32"), None).unwrap();
    assert_eq!(room.enter(None, "198.51.100.1"), Err(CloseCode::Banned));
    assert_eq!(room.enter(None, "2001:db8:9::1"), Err(CloseCode::Banned));
    let elsewhere = Speaker { address: address("::ffff:198.51.100.4"), ..speaker("ann") };
    assert_eq!(room.refusal(&elsewhere, "hi"), RefusalCode::Banned, "who was in already is stopped too");
    assert_eq!(room.gate.list(room.now).banned_networks[0].remaining, Some(Duration::from_secs(60)));
    room.now += Duration::from_secs(60);
    assert_eq!(room.enter(None, "198.51.100.1"), Ok(()));
    assert_eq!(room.gate.list(room.now).banned_networks.len(), 1, "what ended is not listed");
    assert!(room.gate.unban_network(network("2001:db8::/32")));
    assert!(!room.gate.unban_network(network("2001:db8::/32")));
    assert_eq!(room.enter(None, "2001:db8:9::1"), Ok(()));
}

#[test]
fn muted_and_banned_users_are_refused_by_manifest_and_by_moderators() {
    let rules = RoomPolicy {
        banned_users: vec!["ban".into()],
        muted_users: vec!["mute".into()],
        ..RoomPolicy::default()
    };
    let room = Room::new(rules);
    assert_eq!(room.enter(Some("ban"), HOME), Err(CloseCode::Banned));
    assert_eq!(room.refusal(&speaker("mute"), "hi"), RefusalCode::Muted);
    room.gate.mute("ann", None).unwrap();
    assert_eq!(room.refusal(&speaker("ann"), "hi"), RefusalCode::Muted);
    room.gate.ban_user("ann", None).unwrap();
    assert_eq!(room.refusal(&speaker("ann"), "hi"), RefusalCode::Banned);
    assert!(room.gate.unban_user("ann") && room.gate.unmute("ann"));
    assert!(room.say(&speaker("ann"), "hi").is_ok());
}

#[test]
fn a_full_list_says_so_and_has_room_again_once_entries_end() {
    let room = Room::new(RoomPolicy::default());
    let end = room.now + Duration::from_secs(1);
    for i in 0..MAX_ENTRIES {
        room.gate.mute(&i.to_string(), Some(end)).unwrap();
    }
    room.gate.list(room.now);
    assert_eq!(room.gate.mute("one more", None), Err(Full));
    assert_eq!(room.gate.mute("0", None), Ok(()), "an entry of the list can be changed");
    room.enter(None, HOME).unwrap();
    room.gate.enter(&room.policy, None, address(HOME), end).unwrap();
    assert_eq!(room.gate.mute("one more", None), Ok(()));
}

#[test]
fn a_user_has_one_limit_over_all_connections() {
    let mut room = Room::new(RoomPolicy::default());
    for _ in 0..3 {
        assert!(room.say(&speaker("ann"), "hi").is_ok());
    }
    let refusal = room.say(&speaker("ann"), "hi").expect_err("the fourth in 5 s");
    assert_eq!(refusal.code, RefusalCode::UserRate);
    assert!(room.say(&speaker("bob"), "hi").is_ok());
    room.now += refusal.retry.unwrap();
    assert!(room.say(&speaker("ann"), "hi").is_ok());
}

#[test]
fn one_connection_has_a_limit_even_for_moderators() {
    let room = Room::new(RoomPolicy::default());
    let moderator = Speaker { role: Role::Moderator, ..speaker("mod") };
    let mut connection = Bucket::default();
    for _ in 0..20 {
        assert!(room.say_on(&mut connection, &moderator, "hi").is_ok());
    }
    let refusal = room.say_on(&mut connection, &moderator, "hi").expect_err("the 21st in 5 s");
    assert_eq!(refusal.code, RefusalCode::ConnectionRate);
}

#[test]
fn an_anonymous_viewer_has_the_limit_of_a_viewer_on_their_connection() {
    let room = Room::new(RoomPolicy { anonymous: Anonymous::Speak, ..RoomPolicy::default() });
    let anonymous = Speaker { user: None, address: address(HOME), role: Role::Viewer };
    let mut connection = Bucket::default();
    let said = (0..10).filter(|_| room.say_on(&mut connection, &anonymous, "hi").is_ok()).count();
    assert_eq!(said, 3);
    assert!(room.say(&anonymous, "hi").is_ok(), "another connection has its own");
}

#[test]
fn an_address_has_the_limit_of_twenty_viewers_and_ipv6_counts_by_64_bits() {
    for (one, same, other) in
        [(HOME, "::ffff:192.0.2.7", "192.0.2.8"), ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")]
    {
        let room = Room::new(RoomPolicy { per_viewer_messages: 1, ..RoomPolicy::default() });
        let users: Vec<String> = (0..22).map(|i| i.to_string()).collect();
        for user in &users[..20] {
            assert!(room.say(&Speaker { address: address(one), ..speaker(user) }, "hi").is_ok());
        }
        let neighbour = Speaker { address: address(same), ..speaker(&users[20]) };
        assert_eq!(room.refusal(&neighbour, "hi"), RefusalCode::AddressRate);
        assert!(room.say(&Speaker { address: address(other), ..speaker(&users[21]) }, "hi").is_ok());
    }
}

#[test]
fn length_is_counted_in_characters_of_the_cleaned_text() {
    let room = Room::new(RoomPolicy { max_length: 3, ..RoomPolicy::default() });
    assert_eq!(room.say(&speaker("ann"), " 弹\u{200b}幕墙 "), Ok("弹幕墙".to_owned()));
    assert_eq!(room.refusal(&speaker("bob"), "弹幕墙!"), RefusalCode::TooLong);
    assert_eq!(room.refusal(&speaker("bob"), " \u{200b}\n"), RefusalCode::Empty);
}

#[test]
fn styles_are_for_those_whose_role_allows_them() {
    let room = Room::new(RoomPolicy { anonymous: Anonymous::Speak, ..RoomPolicy::default() });
    let color = Style { color: Some("#ff0000".to_owned()), ..Style::default() };
    let top = Style { mode: Placing::Top, ..Style::default() };
    let large = Style { size: Size::Large, ..Style::default() };
    for (role, style, allowed) in [
        (Role::Viewer, &color, false),
        (Role::Viewer, &top, false),
        (Role::Speaker, &color, true),
        (Role::Speaker, &large, false),
        (Role::Moderator, &top, true),
        (Role::Publisher, &large, true),
    ] {
        let user = format!("{role:?} {style:?}");
        let speaker = Speaker { role, ..speaker(&user) };
        let said = room.gate.say(&room.policy, &speaker, &mut Bucket::default(), "hi", style, room.now);
        assert_eq!(
            said.map_err(|refusal| refusal.code),
            if allowed { Ok(Passed { text: "hi".to_owned(), held: false }) } else { Err(RefusalCode::Style) },
            "{user}"
        );
    }
}

#[test]
fn blocked_words_are_refused_and_masked_words_are_starred() {
    let room = Room::new(RoomPolicy {
        block: vec!["笨蛋".into()],
        mask: vec!["spoiler".into()],
        ..RoomPolicy::default()
    });
    assert_eq!(room.refusal(&speaker("ann"), "大笨蛋"), RefusalCode::BlockedWord);
    assert_eq!(room.say(&speaker("ann"), "a SPOILER!"), Ok("a *******!".to_owned()));
}

#[test]
fn a_refused_text_does_not_use_up_the_turn_in_slow_mode() {
    let anonymous = Speaker { user: None, address: address(HOME), role: Role::Viewer };
    for speaker in [speaker("ann"), anonymous] {
        let (slow_mode_seconds, anonymous) = (30, Anonymous::Speak);
        let mut room = Room::new(RoomPolicy {
            slow_mode_seconds,
            anonymous,
            block: vec!["bad".into()],
            ..RoomPolicy::default()
        });
        let mut connection = Bucket::default();
        let refused = room.say_on(&mut connection, &speaker, "bad").expect_err("blocked");
        assert_eq!(refused.code, RefusalCode::BlockedWord);
        assert!(room.say_on(&mut connection, &speaker, "good").is_ok());
        let refused = room.say_on(&mut connection, &speaker, "good").expect_err("too soon");
        assert_eq!(refused, Refusal { code: RefusalCode::SlowMode, retry: Some(Duration::from_secs(30)) });
        room.now += Duration::from_secs(30);
        assert!(room.say_on(&mut connection, &speaker, "good").is_ok());
    }
}

#[test]
fn moderators_write_without_slow_mode_and_limits_of_the_room() {
    let room =
        Room::new(RoomPolicy { slow_mode_seconds: 30, per_viewer_messages: 1, ..RoomPolicy::default() });
    for role in [Role::Moderator, Role::Publisher] {
        for _ in 0..50 {
            assert!(room.say(&Speaker { role, ..speaker("mod") }, "hi").is_ok());
        }
    }
}

#[test]
fn a_text_with_a_held_word_waits_unless_its_speaker_decides_on_held_ones() {
    let rules = RoomPolicy {
        block: vec!["never".into()],
        mask: vec!["darn".into()],
        hold: vec!["maybe".into()],
        ..RoomPolicy::default()
    };
    let room = Room::new(rules);
    let say = |speaker: &Speaker<'_>, text: &str| {
        let style = Style::default();
        room.gate.say(&room.policy, speaker, &mut Bucket::default(), text, &style, room.now)
    };
    let moderator = Speaker { role: Role::Moderator, ..speaker("mod") };
    let held = say(&speaker("ann"), "darn, MAYBE").unwrap();
    assert_eq!(held, Passed { text: "****, MAYBE".to_owned(), held: true });
    assert!(!say(&speaker("bob"), "surely").unwrap().held);
    assert!(!say(&moderator, "maybe").unwrap().held);
    assert_eq!(say(&speaker("eve"), "maybe never").unwrap_err().code, RefusalCode::BlockedWord);
}

#[test]
fn slow_mode_of_a_moderator_takes_the_place_of_the_manifests_until_it_is_taken_back() {
    let room = Room::new(RoomPolicy { slow_mode_seconds: 30, ..RoomPolicy::default() });
    assert_eq!(room.gate.set_slow_mode(Some(0)), None);
    assert!(room.say(&speaker("ann"), "one").is_ok() && room.say(&speaker("ann"), "two").is_ok());
    assert_eq!(room.gate.set_slow_mode(Some(10)), Some(0));
    assert!(room.say(&speaker("bob"), "one").is_ok());
    let refused = room.say(&speaker("bob"), "two").unwrap_err();
    assert_eq!((refused.code, refused.retry), (RefusalCode::SlowMode, Some(Duration::from_secs(10))));
    assert_eq!(room.gate.set_slow_mode(None), Some(10));
    assert_eq!(room.gate.slow_mode_seconds(&room.policy), 30);
}

#[test]
fn a_shadow_mute_ends_in_time_and_refuses_nothing() {
    let mut room = Room::new(RoomPolicy::default());
    room.gate.shadow("ann", Some(room.now + Duration::from_secs(60))).unwrap();
    assert!(room.gate.is_shadowed("ann", room.now) && !room.gate.is_shadowed("bob", room.now));
    assert!(room.say(&speaker("ann"), "hi").is_ok());
    room.now += Duration::from_secs(60);
    assert!(!room.gate.is_shadowed("ann", room.now));
}

#[test]
fn a_trial_says_why_and_uses_nothing_up() {
    let rules = RoomPolicy {
        block: vec!["Never".into(), "ever".into()],
        mask: vec!["darn".into()],
        hold: vec!["也许".into()],
        max_length: 20,
        per_viewer_messages: 1,
        muted_users: vec!["mute".into()],
        ..RoomPolicy::default()
    };
    let room = Room::new(rules);
    let explain = |user, text: &str| room.gate.explain(&room.policy, &speaker(user), text, room.now);
    let found = |verdict: &Verdict| verdict.words.iter().map(|(l, w)| format!("{l} {w}")).collect::<Vec<_>>();
    let blocked = explain("ann", "NEVER, never darn ever");
    assert_eq!(blocked.refused, Some(RefusalCode::TooLong));
    let blocked = explain("ann", "NEVER, darn ever");
    assert_eq!(blocked.refused, Some(RefusalCode::BlockedWord));
    assert_eq!(found(&blocked), ["block Never", "block ever", "mask darn"]);
    let held = explain("ann", "darn 也許");
    assert_eq!((held.refused, held.held, held.text.as_str()), (None, true, "**** 也許"));
    assert_eq!(found(&held), ["mask darn", "hold 也许"]);
    assert_eq!(explain("mute", "hi").refused, Some(RefusalCode::Muted));
    assert_eq!(explain("ann", "\u{200b}").refused, Some(RefusalCode::Empty));
    for _ in 0..10 {
        assert_eq!(explain("ann", "hi").refused, None);
    }
    assert!(room.say(&speaker("ann"), "hi").is_ok(), "the turn is still there");
}
