//! `danmu-load run` beside a room of a few lines that answers by rule, so that every number is known.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    net::{Shutdown, TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use danmu_wire::{Ack, Chat, Event, Gap, Lane, Move, Op, RefusalCode, Refused, frame};
use serde_json::Value;
use tungstenite::{
    Message, WebSocket,
    handshake::server::{Request, Response},
};

#[derive(Default)]
struct Room {
    viewers: Vec<TcpStream>,
    said: u64,
    /// After the 30th message the last viewer is asked to move and the one before it is cut.
    moves: bool,
}

impl Room {
    /// Every tenth message is refused, every tenth is left out; the others are shown to all, but the
    /// first viewer misses every tenth and is told so.
    fn say(&mut self, speaker: &TcpStream, text: String, reference: Option<String>) {
        self.said += 1;
        if self.moves && self.said == 30 {
            let [.., cut, moved] = self.viewers.as_slice() else { panic!("two viewers at least") };
            write(moved, &[Event::Move(Move { url: None, within_ms: 1000 })]);
            cut.shutdown(Shutdown::Both).unwrap();
        }
        let chat = Event::Chat(Chat { id: "A".into(), text, n: 1, ..Chat::default() });
        let ack =
            |shown| Event::Ack(Ack { reference: reference.clone(), id: "A".into(), shown, held: false });
        match self.said % 10 {
            0 => {
                let code = RefusalCode::SlowMode;
                let refused = Refused { reference, code, text: code.text().into(), retry_ms: None };
                write(speaker, &[Event::Refused(refused)]);
            }
            1 => write(speaker, &[ack(false), chat]),
            rest => {
                write(speaker, &[ack(true)]);
                let gap = Event::Gap(Gap { lane: Lane::Chat, dropped: Some(1), epoch: None });
                for (number, viewer) in self.viewers.iter().enumerate() {
                    let missed = rest == 2 && number == 0;
                    write(viewer, std::slice::from_ref(if missed { &gap } else { &chat }));
                }
            }
        }
    }
}

fn write(mut viewer: &TcpStream, events: &[Event]) {
    // A viewer that has gone needs nothing any more.
    let _ = std::io::Write::write_all(&mut viewer, &frame::personal(events));
}

fn serve(room: &Mutex<Room>, mut socket: WebSocket<TcpStream>) {
    while let Ok(message) = socket.read() {
        if let Message::Text(text) = message {
            let Ok(Op::Say(say)) = Op::parse(&text) else { panic!("{text}") };
            room.lock().unwrap().say(socket.get_ref(), say.text, say.reference);
        }
    }
}

/// Serves until the test ends; answers the room's address.
fn start(moves: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}/rooms/test/ws", listener.local_addr().unwrap());
    let room = Arc::new(Mutex::new(Room { moves, ..Room::default() }));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, room) = (stream.unwrap(), Arc::clone(&room));
            thread::spawn(move || {
                let choose = |_: &Request, mut response: Response| {
                    let protocol = danmu_wire::PROTOCOL_JSON.parse().unwrap();
                    response.headers_mut().insert("sec-websocket-protocol", protocol);
                    Ok(response)
                };
                let socket = tungstenite::accept_hdr(stream, choose).unwrap();
                room.lock().unwrap().viewers.push(socket.get_ref().try_clone().unwrap());
                write(socket.get_ref(), &[Event::Joined(Box::default())]);
                serve(&room, socket);
            });
        }
    });
    url
}

fn run(url: &str, options: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_danmu-load"))
        .args(["run", "--json", "--url", url])
        .args(options)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn offered_is_shown_and_left_out_and_refused_and_each_delivery_is_told_or_made() {
    let talk = ["--viewers", "20", "--speakers", "5", "--rate", "100", "--duration", "1", "--threads", "2"];
    let report = run(&start(false), &talk);
    let messages = &report["messages"];
    assert_eq!(
        (&messages["offered"], &messages["shown"], &messages["sampled"]),
        (&100.into(), &80.into(), &10.into())
    );
    assert_eq!(messages["refused"], serde_json::json!({"slow_mode": 10}));
    assert_eq!((&messages["unanswered"], &messages["ack_ms"]["count"]), (&0.into(), &90.into()));
    let deliveries = &report["deliveries"];
    assert_eq!((&deliveries["expected"], &deliveries["received"]), (&1600.into(), &1590.into()));
    assert_eq!((&deliveries["told"], &deliveries["lost"]), (&10.into(), &0.into()));
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
    assert_eq!(report["own"]["lateness_ms"]["count"], 100);
}

#[test]
fn in_the_old_test_every_viewer_speaks_once() {
    let report = run(&start(false), &["--viewers", "30", "--once-within", "1", "--processes", "2"]);
    assert_eq!(report["messages"]["offered"], 30, "{report}");
    assert_eq!((&report["messages"]["shown"], &report["deliveries"]["lost"]), (&24.into(), &0.into()));
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
}

#[test]
fn who_follows_goes_where_it_is_asked_to_and_comes_back_after_a_cut() {
    let talk = ["--viewers", "20", "--speakers", "5", "--rate", "100", "--duration", "2", "--follow"];
    let report = run(&start(true), &talk);
    assert_eq!((&report["moves"], &report["follow"]["rejoined"]), (&1.into(), &2.into()), "{report}");
    assert_eq!(report["follow"]["cuts"].as_object().unwrap().len(), 1, "{report}");
    let deliveries = &report["deliveries"];
    assert_eq!((&deliveries["viewers"], &deliveries["lost"]), (&20.into(), &0.into()), "{report}");
    assert_eq!(report["problems"], serde_json::json!([]), "{report}");
}
