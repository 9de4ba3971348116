//! What broken and hostile clients get, and that nobody else in the room notices them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking"
)]

#[allow(dead_code, unreachable_pub, reason = "shared with other test binaries, which use the rest")]
mod support;

use std::time::{Duration, Instant};

use danmu_wire::{CloseCode, Event, RefusalCode};
use support::{
    Danmu, PATIENCE, Viewer, http,
    raw::{MASK, PING, Raw, TEXT, ask, frame, handshake, head},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
};

async fn still_talks(viewer: &mut Viewer) {
    viewer.say("still here").await;
    viewer.hears("still here").await;
}

/// The offender sends these bytes and is closed with this code; the other viewer talks on.
async fn offence(bytes: &[u8], code: u16) {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    let mut offender = Raw::join(&danmu).await;
    offender.send(bytes).await;
    assert_eq!(offender.close_code().await, code);
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn an_unmasked_frame_closes_with_1002() {
    offence(&[TEXT, 2, b'{', b'}'], 1002).await;
}

#[tokio::test]
async fn each_reserved_bit_closes_with_1002() {
    for bit in [0x40, 0x20, 0x10] {
        offence(&frame(TEXT | bit, b"{}"), 1002).await;
    }
}

#[tokio::test]
async fn reserved_opcodes_and_broken_control_frames_close_with_1002() {
    for first in [0x83, 0x8b, 0x09] {
        offence(&frame(first, b"x"), 1002).await;
    }
    offence(&frame(PING, &[b'x'; 126]), 1002).await;
    offence(&frame(0x80, b"nothing to continue"), 1002).await;
}

#[tokio::test]
async fn bad_utf8_closes_with_1007() {
    for text in [&b"\"\xff\""[..], b"\xed\xa0\x80", b"\xc0\xaf", b"cut \xe5\xbc"] {
        offence(&frame(TEXT, text), 1007).await;
    }
}

#[tokio::test]
async fn lengths_of_64_bits_close_with_1009_from_the_header_alone() {
    for length in [1 << 63 | 1, u64::MAX, 1 << 40, 4097] {
        let mut bytes = vec![TEXT, 0xff];
        bytes.extend(u64::to_be_bytes(length));
        bytes.extend(MASK);
        offence(&bytes, 1009).await;
    }
}

#[tokio::test]
async fn a_message_or_its_fragments_past_4096_bytes_close_with_1009() {
    offence(&frame(TEXT, &[b' '; 4097]), 1009).await;
    let mut bytes = frame(0x01, &[b' '; 1500]);
    bytes.extend(frame(0x00, &[b' '; 1500]));
    bytes.extend(frame(0x80, &[b' '; 1500]));
    offence(&bytes, 1009).await;
}

#[tokio::test]
async fn a_flood_of_pings_closes_with_4513() {
    offence(&frame(PING, b"p").repeat(150), CloseCode::Flooding.code()).await;
}

/// Fragments are what the frame counter could miss: none of them ends a message.
#[tokio::test]
async fn a_flood_of_empty_fragments_ends_the_viewer() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    let mut offender = Raw::join(&danmu).await;
    offender.send(&frame(0x01, b"")).await;
    offender.send(&frame(0x00, b"").repeat(20_000)).await;
    let code = offender.close_code().await;
    assert!([1002, 1009, CloseCode::Flooding.code()].contains(&code), "{code}");
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn whatever_is_no_operation_is_refused_and_the_viewer_stays() {
    let danmu = Danmu::start(&[]).await;
    let (mut innocent, mut offender) = (danmu.join("talk").await, danmu.join("talk").await);
    let deep = "[".repeat(4000);
    let deep_text = format!(r#"{{"op":"say","text":{deep}"#);
    let reference = format!(r#"{{"op":"say","text":"x","ref":"{}"}}"#, "r".repeat(65));
    for bad in [
        "",
        "null",
        "7",
        "[]",
        "{}",
        "no json",
        "{\"op\":",
        &deep,
        &deep_text,
        &reference,
        r#"{"op":"reboot"}"#,
        r#"{"op":7}"#,
        r#"{"op":["say"],"text":"x"}"#,
        r#"{"op":"say"}"#,
        r#"{"op":"say","text":7}"#,
        r#"{"op":"say","text":null}"#,
        r#"{"op":"say","text":["x"]}"#,
        r#"{"op":"say","text":"x","color":"red"}"#,
        r#"{"op":"say","text":"x","mode":"sideways"}"#,
        r#"{"op":"say","text":"x","text":"y"}"#,
        r#"{"op":"say","text":"\ud800"}"#,
        r#"{"op":"join","room":{}}"#,
        r#"{"op":"token","token":1}"#,
    ] {
        offender.send(bad).await;
        let refused = offender.refusal().await;
        assert_eq!(refused.code, RefusalCode::BadRequest, "{bad}");
        assert!(refused.text.len() < 400, "a hostile message comes back whole: {}", refused.text);
    }
    still_talks(&mut offender).await;
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn control_and_bidi_characters_are_stripped() {
    let danmu = Danmu::start(&[]).await;
    let (mut offender, mut innocent) = (danmu.join("talk").await, danmu.join("talk").await);
    offender.say("a\u{0}\u{7}\u{1b}[31m\u{202e}b\u{2066}\u{200b}\u{feff}\u{85}c\r\n").await;
    innocent.hears("a[31mb c").await;
    offender.say("\u{202e}\u{200b}\u{3164}\n").await;
    assert_eq!(offender.refusal().await.code, RefusalCode::Empty);
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn a_head_never_finished_is_cut_even_if_it_drips() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    let started = Instant::now();
    let silent = async {
        let mut stream = TcpStream::connect(danmu.public()).await.unwrap();
        stream.write_all(b"GET /rooms HTTP/1.1\r\nHost: danmu\r\n").await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let mute = async {
        let mut stream = TcpStream::connect(danmu.public()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    };
    let drips = async {
        let mut stream = TcpStream::connect(danmu.public()).await.unwrap();
        stream.write_all(b"GET /rooms HTTP/1.1\r\nX: ").await.unwrap();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let all = async { tokio::join!(silent, mute, drips) };
    tokio::time::timeout(PATIENCE, all).await.expect("a slow head keeps its connection");
    assert!(started.elapsed() < Duration::from_millis(6_800), "{:?}", started.elapsed());
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn a_huge_head_is_431_or_closed() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    for extra in [format!("X: {}\r\n", "x".repeat(64 * 1024)), "X: y\r\n".repeat(5_000)] {
        let answer = ask(danmu.public(), &handshake(13, &extra)).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn another_websocket_version_is_426_and_learns_ours() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    let answer = ask(danmu.public(), &handshake(8, "")).await.to_lowercase();
    assert!(
        answer.starts_with("http/1.1 426 ") && answer.contains("sec-websocket-version: 13\r\n"),
        "{answer}"
    );
    still_talks(&mut innocent).await;
}

/// The old server's `CheckOrigin` was always true: any page could talk with its visitors' rights.
#[tokio::test]
async fn a_page_of_another_site_is_403() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    for (origin, status) in [
        ("https://evil.example", 403),
        ("https://danmu.evil.example", 403),
        ("null", 403),
        ("https://danmu", 101),
    ] {
        let answer = ask(danmu.public(), &handshake(13, &format!("Origin: {origin}\r\n"))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {answer}");
    }
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn an_address_over_its_cap_is_503_and_gets_in_once_another_has_left() {
    let danmu = Danmu::start(&["--per-address-cap=2"]).await;
    let mut innocent = danmu.join("talk").await;
    let second = danmu.join("talk").await;
    let answer = ask(danmu.public(), &handshake(13, "")).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 503 ") && answer.contains("\r\nretry-after: "), "{answer}");
    still_talks(&mut innocent).await;
    drop(second);
    let until = Instant::now() + PATIENCE;
    while !ask(danmu.public(), &handshake(13, "")).await.starts_with("HTTP/1.1 101 ") {
        assert!(Instant::now() < until, "the place was never given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Whoever is turned away at the door is not read from, and a reset would take the answer with it.
#[tokio::test]
async fn who_is_turned_away_can_still_read_why() {
    let danmu = Danmu::start(&["--per-address-cap=1"]).await;
    let _only = danmu.join("talk").await;
    for _ in 0..20 {
        let mut stream = TcpStream::connect(danmu.public()).await.unwrap();
        let request = handshake(13, &format!("X: {}\r\n", "x".repeat(3_000)));
        stream.write_all(request.as_bytes()).await.expect("reset before the request was out");
        // A slow client: the answer and the end of the connection have long come.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut answer = String::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        read.expect("kept open").expect("reset instead of an answer");
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    }
}

/// The upgrades are everybody's; one address over its own cap must not use them up.
#[tokio::test]
async fn an_address_over_its_cap_leaves_the_upgrades_to_others() {
    let danmu =
        Danmu::start(&["--trusted-proxies=127.0.0.1", "--per-address-cap=1", "--upgrades-per-second=4"])
            .await;
    let from = |address: &str| handshake(13, &format!("X-Forwarded-For: {address}\r\n"));
    let mut greedy = TcpStream::connect(danmu.public()).await.unwrap();
    greedy.write_all(from("203.0.113.9").as_bytes()).await.unwrap();
    assert!(head(&mut greedy).await.starts_with("HTTP/1.1 101 "));
    for _ in 0..20 {
        let answer = ask(danmu.public(), &from("203.0.113.9")).await.to_lowercase();
        assert!(answer.starts_with("http/1.1 503 ") && answer.contains("connection: close"), "{answer}");
    }
    let answer = ask(danmu.public(), &from("203.0.113.10")).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
}

#[tokio::test]
async fn upgrades_over_the_rate_are_503() {
    let danmu = Danmu::start(&["--upgrades-per-second=1"]).await;
    let mut innocent = danmu.join("talk").await;
    let mut refused = 0;
    for _ in 0..5 {
        let answer = ask(danmu.public(), &handshake(13, "")).await.to_lowercase();
        if answer.starts_with("http/1.1 503 ") {
            assert!(answer.contains("\r\nretry-after: "), "{answer}");
            refused += 1;
        }
    }
    assert!(refused >= 2, "{refused}");
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn an_admin_body_that_is_no_json_is_4xx() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    let deep = "[".repeat(50_000);
    for body in
        ["", "no json", "{\"kind\":", "[]", r#"{"kind":"rocket"}"#, r#"{"kind":"notice","text":7}"#, &deep]
    {
        let (status, answer) = danmu.admin("POST", "/rooms/talk/publish", body).await;
        assert!((400..500).contains(&status), "{status} {answer}");
    }
    for path in ["mutes", "bans", "disconnect"] {
        let (status, answer) = danmu.admin("POST", &format!("/rooms/talk/{path}"), "{").await;
        assert!((400..500).contains(&status), "{path}: {status} {answer}");
    }
    let (status, _) =
        http(danmu.server.admin, "POST /rooms/talk/publish HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            .await;
    assert_eq!(status, 401);
    still_talks(&mut innocent).await;
}

/// Publishes large chats, all different, four at a time, and again where the room is too busy.
async fn publish_large(danmu: &Danmu, count: usize) {
    let publisher = |from: usize| async move {
        for i in (from..count).step_by(4) {
            let text = format!("{i} {}", "弹".repeat(900));
            let body = serde_json::json!({"kind": "chat", "text": text}).to_string();
            while danmu.admin("POST", "/rooms/talk/publish", &body).await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    tokio::join!(publisher(0), publisher(1), publisher(2), publisher(3));
}

/// In the old server one client that did not read stalled its whole row: the write had no deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn go_fault_one_slow_client_does_not_stall_its_row() {
    const COUNT: usize = 2_000;
    let danmu = Danmu::start(&[]).await;
    let mut reader = danmu.join("talk").await;
    // Viewers are dealt to the two workers in turn: the third shares a row with the first.
    drop(danmu.join("talk").await);
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let _never_reads = Raw::join_over(socket.connect(danmu.public()).await.unwrap()).await;
    let read = async {
        let (mut seen, mut worst, mut last) = (0, Duration::ZERO, Instant::now());
        while seen < COUNT {
            if let Event::Chat(_) = reader.event().await {
                seen += 1;
                worst = worst.max(last.elapsed());
                last = Instant::now();
            }
        }
        worst
    };
    let both = async { tokio::join!(publish_large(&danmu, COUNT), read) };
    let ((), worst) = tokio::time::timeout(PATIENCE * 3, both).await.expect("the reader is delayed");
    assert!(worst < Duration::from_secs(3), "the reader heard nothing for {worst:?}");
    still_talks(&mut reader).await;
}

/// The old server started a goroutine per row and message: they overtook each other.
#[tokio::test]
async fn go_fault_messages_of_a_sender_stay_in_order() {
    let danmu = Danmu::start(&[]).await;
    let mut listener = danmu.join("talk").await;
    let mut senders = Vec::new();
    for i in 0..25 {
        senders.push(danmu.join_as("talk", &format!("user{i}"), "speaker").await);
    }
    for n in 0..20 {
        for (i, sender) in senders.iter_mut().enumerate() {
            sender.say(&format!("{i} {n}")).await;
        }
    }
    let mut next = [0; 25];
    while next.iter().sum::<usize>() < 500 {
        let Event::Chat(chat) = listener.event().await else { continue };
        let (sender, n) = chat.text.split_once(' ').unwrap();
        let sender: usize = sender.parse().unwrap();
        assert_eq!(n.parse(), Ok(next[sender]), "of user{sender}");
        next[sender] += 1;
    }
}

/// The same over one publisher's 500, far more than one flush.
#[tokio::test]
async fn go_fault_messages_of_a_publisher_stay_in_order() {
    let danmu = Danmu::start(&[]).await;
    let mut listener = danmu.join("talk").await;
    let publish = async {
        for n in 0..500 {
            let body = serde_json::json!({"kind": "chat", "text": n.to_string(), "user": "p"}).to_string();
            while danmu.admin("POST", "/rooms/talk/publish", &body).await.0 != 200 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    let listen = async {
        for n in 0..500 {
            let Event::Chat(chat) = listener.find(|e| matches!(e, Event::Chat(_))).await else {
                unreachable!()
            };
            assert_eq!(chat.text, n.to_string());
        }
    };
    tokio::join!(publish, listen);
}

/// The old server's `IsBannedIP` answered the wrong way round, and no IPv6 address could be looked up.
#[tokio::test]
async fn go_fault_a_network_ban_hits_those_inside_and_nobody_else() {
    let danmu = Danmu::start(&["--trusted-proxies=127.0.0.1"]).await;
    let mut innocent = danmu.join("talk").await;
    let ban = r#"{"network":"2001:db8:1::/48"}"#;
    assert_eq!(danmu.admin("POST", "/rooms/talk/bans", ban).await.0, 204);
    let join = async |address: &str| {
        let mut stream = TcpStream::connect(danmu.public()).await.unwrap();
        let forwarded = format!("X-Forwarded-For: {address}\r\n");
        stream.write_all(handshake(13, &forwarded).as_bytes()).await.unwrap();
        assert!(head(&mut stream).await.starts_with("HTTP/1.1 101 "));
        Raw { stream }
    };
    let mut banned = join("2001:db8:1:2::3").await;
    assert_eq!(banned.close_code().await, CloseCode::Banned.code());
    for address in ["2001:db8:2::3", "203.0.113.9"] {
        let (opcode, joined) = join(address).await.frame().await;
        assert!(opcode == 1 && String::from_utf8_lossy(&joined).contains("joined"), "{address}");
    }
    still_talks(&mut innocent).await;
}

/// In the old server a dead socket stayed in its row for ever.
#[tokio::test]
async fn go_fault_who_is_gone_is_no_longer_counted() {
    let danmu = Danmu::start(&[]).await;
    let mut innocent = danmu.join("talk").await;
    let gone = (Raw::join(&danmu).await, Raw::join(&danmu).await);
    gone.0.stream.set_zero_linger().unwrap();
    drop(gone);
    let until = Instant::now() + PATIENCE;
    while !danmu.admin("GET", "/rooms/talk", "").await.1.contains(r#""viewers":1"#) {
        assert!(Instant::now() < until, "still counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    still_talks(&mut innocent).await;
}

#[tokio::test]
async fn a_refused_offer_says_what_is_wrong_with_it() {
    let danmu = Danmu::start(&[]).await;
    for (offer, words) in [
        ("danmu.v1.json, token.a, token.b", "more than one token"),
        ("token.a", "offer danmu.v1.json or danmu.v1.deflate"),
    ] {
        let extra = format!("Sec-WebSocket-Protocol: {offer}\r\n");
        // A wrong handshake leaves the connection open: no answer's end without asking for it.
        let request = handshake(13, &extra).replace("Connection: Upgrade", "Connection: Upgrade, close");
        let (status, answer) = http(danmu.public(), &request).await;
        assert!(status == 400 && answer.contains(words), "{offer}: {status} {answer}");
    }
}
