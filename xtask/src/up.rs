//! `cargo xtask up`: everything built, the server on `examples/`, and a bot that chats.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use crate::{
    commands::{cargo, step},
    page,
    server::{Server, examples},
};

/// The room of `examples/` in which anonymous viewers may write.
const ROOM: &str = "worlds-final";

/// What the bot says, in turn; every fifth line comes with a gift.
const LINES: &[&str] =
    &["666", "what a play!", "前方高能", "gg", "哈哈哈哈", "here it comes", "nice!", "泪目", "GOAL", "wow"];

pub(crate) fn run(port: u16) -> Result<(), String> {
    if page::has_npm() {
        page::build()?;
    } else {
        println!("npm is missing: the server is built without the page");
    }
    step("server build", cargo(&["build", "--release", "--package", "danmu-server"]))?;
    // Ctrl-C reaches the server as well; we wait for it instead of leaving it behind.
    ctrlc::set_handler(|| println!("\nending …")).map_err(|error| format!("signals: {error}"))?;
    let mut server = Server::start("release", &examples(), &["--public", &format!("[::]:{port}")])?;
    println!("\n  The page:  http://localhost:{port}/rooms/{ROOM}");
    println!("  All rooms: http://localhost:{port}/");
    println!(
        "  Try:       curl -H 'Content-Type: application/json' {}/rooms/{ROOM}/publish \\",
        server.admin
    );
    println!("                  -d '{{\"kind\":\"gift\",\"gift\":\"rocket\",\"user\":\"you\"}}'");
    println!("  Ctrl-C ends it.\n");
    let admin = server.admin.trim_start_matches("http://").to_owned();
    thread::spawn(move || chat(&admin));
    server.wait()
}

fn chat(admin: &str) {
    for (number, line) in LINES.iter().cycle().enumerate() {
        let user = format!("bot-{}", number % 4 + 1);
        let mut body = format!(r#"{{"kind":"chat","user":"{user}","name":"{user}","text":"{line}"}}"#);
        if number % 5 == 4 {
            body = format!(
                r#"{{"kind":"gift","gift":"rose","count":{},"user":"{user}","name":"{user}"}}"#,
                number % 9 + 1
            );
        }
        if publish(admin, &body).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(700 + (number as u64 * 331) % 1100));
    }
}

fn publish(admin: &str, body: &str) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(
        stream,
        "POST /rooms/{ROOM}/publish HTTP/1.1\r\nHost: {admin}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )?;
    stream.read_to_end(&mut Vec::new()).map(|_| ())
}
