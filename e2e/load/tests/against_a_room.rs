//! Viewers in a room of two that answers by rule: each kind of answer and of absence has its own count.
#![allow(clippy::unwrap_used, reason = "clippy does not take what the tests here share for a test")]

use std::{
    net::{TcpListener, TcpStream},
    process::Command,
    thread,
};

use danmu_wire::{Ack, Chat, Event, Gap, Joined, Lane, Op, RefusalCode, Refused, Say, frame};
use serde_json::Value;
use tungstenite::{Message, WebSocket};

fn tell(viewer: &mut WebSocket<TcpStream>, event: Event) {
    let json = String::from_utf8(frame::json_array(&[event])).unwrap();
    viewer.send(Message::text(json)).unwrap();
}

fn enter(listener: &TcpListener) -> WebSocket<TcpStream> {
    let mut viewer = tungstenite::accept(listener.accept().unwrap().0).unwrap();
    tell(&mut viewer, Event::Joined(Box::new(Joined { epoch: "E".into(), ..Joined::default() })));
    viewer
}

/// What the room does with the speaker's message `k`.
fn handle(k: u32, say: Say, speaker: &mut WebSocket<TcpStream>, listener: &mut WebSocket<TcpStream>) {
    let ack = |shown| Event::Ack(Ack { reference: say.reference.clone(), id: "A".into(), shown });
    let chat = Event::Chat(Chat { id: "A".into(), text: say.text.clone(), n: 1, ..Chat::default() });
    match k {
        40 => {
            let code = RefusalCode::Busy;
            let (reference, text) = (say.reference.clone(), code.text().to_owned());
            return tell(speaker, Event::Refused(Refused { reference, code, text, retry_ms: None }));
        }
        41 => return tell(speaker, ack(false)),
        _ => tell(speaker, ack(true)),
    }
    tell(speaker, chat.clone());
    match k {
        20 => {}
        21 => tell(listener, Event::Gap(Gap { lane: Lane::Chat, dropped: Some(2), epoch: None })),
        k if k % 10 == 3 => {}
        30 => {
            tell(listener, chat.clone());
            tell(listener, chat);
        }
        _ => tell(listener, chat),
    }
}

#[test]
fn each_answer_and_each_absence_has_its_own_count() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let room = thread::spawn(move || {
        let (mut speaker, mut other) = (enter(&listener), enter(&listener));
        let mut k = 0;
        while let Ok(Message::Text(text)) = speaker.read() {
            let Ok(Op::Say(say)) = Op::parse(&text) else { continue };
            handle(k, say, &mut speaker, &mut other);
            k += 1;
        }
    });
    // The second viewer comes a tenth of a second after the first, so the first is the speaker.
    let run = Command::new(env!("CARGO_BIN_EXE_danmu-load"))
        .args(["run", "--url", &format!("ws://{address}/rooms/a/ws"), "--json", "--viewers", "2"])
        .args(["--speakers", "1", "--rate", "50", "--duration", "1", "--connect-rate", "10"])
        .output()
        .unwrap();
    room.join().unwrap();
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    let offered = &report["offered"];
    assert_eq!((&offered["sent"], &offered["unanswered"]), (&50.into(), &0.into()), "{report}");
    assert_eq!((&offered["shown"], &offered["sampled"]), (&48.into(), &1.into()), "{report}");
    assert_eq!(offered["refused"]["busy"], 1, "{report}");
    assert_eq!(offered["ack_ms"]["count"], 49, "{report}");
    let chat = &report["chat"];
    assert_eq!((&chat["expected"], &chat["received"]), (&96.into(), &89.into()), "{report}");
    assert_eq!((&chat["gap_told"], &chat["lost"]), (&2.into(), &5.into()), "{report}");
    assert_eq!((&chat["duplicates"], &chat["surplus"]), (&1.into(), &0.into()), "{report}");
    assert_eq!(chat["latency_ms"]["count"], 89, "{report}");
}
