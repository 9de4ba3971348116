use super::*;

#[test]
fn a_plain_chat_costs_no_byte_for_defaults() {
    let chat = Event::Chat(Chat { id: "A".into(), text: "hi".into(), n: 1, ..Chat::default() });
    assert_eq!(serde_json::to_string(&chat).unwrap(), r#"{"ev":"chat","id":"A","text":"hi"}"#);
    let read: Event = serde_json::from_str(r#"{"ev":"chat","id":"A","text":"hi"}"#).unwrap();
    assert_eq!(read, chat);
}

#[test]
fn a_styled_chat_is_flat() {
    let style = Style { mode: Placing::Top, color: Some("#ff0000".into()), size: Size::Large };
    let chat = Event::Chat(Chat {
        id: "A".into(),
        user: Some("u1".into()),
        name: Some("Ann".into()),
        text: "hi".into(),
        style,
        role: Role::Moderator,
        n: 3,
    });
    assert_eq!(
        serde_json::to_string(&chat).unwrap(),
        r##"{"ev":"chat","id":"A","user":"u1","name":"Ann","text":"hi","mode":"top","color":"#ff0000","size":"large","role":"moderator","n":3}"##
    );
}

#[test]
fn joined_carries_the_mode_flat() {
    let joined = Event::Joined(Box::new(Joined {
        room: Some("r".into()),
        epoch: "E".into(),
        offset: 7,
        recovered: true,
        viewers: 2,
        sub: None,
        sub_viewers: None,
        mode: Mode { anonymous: "watch".into(), max_length: 100, ..Mode::default() },
        history: vec![],
        pinned: vec![],
    }));
    let text = serde_json::to_string(&joined).unwrap();
    assert_eq!(
        text,
        r#"{"ev":"joined","room":"r","epoch":"E","offset":7,"recovered":true,"viewers":2,"anonymous":"watch","maxLength":100}"#
    );
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), joined);
}

#[test]
fn a_gift_ends_with_its_combo_where_the_script_appends_it() {
    let gift = Gift { gift: "rose".into(), merged: 2, combo: Some(9), ..Gift::default() };
    let text = serde_json::to_string(&Event::Gift(gift)).unwrap();
    assert!(text.ends_with(r#","combo":9}"#), "{text}");
}

#[test]
fn a_placed_event_is_flat_and_comes_back() {
    let chat = Chat { id: "A".into(), text: "hi".into(), n: 1, ..Chat::default() };
    let placed = Placed { at: 1500, event: Event::Chat(chat) };
    let text = serde_json::to_string(&placed).unwrap();
    assert_eq!(text, r#"{"at":1500,"ev":"chat","id":"A","text":"hi"}"#);
    assert_eq!(serde_json::from_str::<Placed>(&text).unwrap(), placed);
}

#[test]
fn a_mode_tells_how_to_fetch_only_where_one_has_to() {
    let live = Event::Mode(Mode { anonymous: "speak".into(), max_length: 9, ..Mode::default() });
    assert_eq!(serde_json::to_string(&live).unwrap(), r#"{"ev":"mode","anonymous":"speak","maxLength":9}"#);
    let on_demand = Some(OnDemand { segment_ms: 10_000, at_ms: None });
    let fetched = serde_json::to_string(&Mode { on_demand, ..Mode::default() }).unwrap();
    assert_eq!(fetched, r#"{"anonymous":"","maxLength":0,"onDemand":{"segmentMs":10000}}"#);
}

#[test]
fn only_the_priority_lane_is_numbered() {
    let mut gift = Event::Gift(Gift::default());
    gift.set_offset(9);
    assert_eq!((gift.lane(), gift.offset()), (Some(Lane::Priority), Some(9)));
    let mut chat = Event::Chat(Chat::default());
    chat.set_offset(9);
    assert_eq!((chat.lane(), chat.offset()), (Some(Lane::Chat), None));
}
