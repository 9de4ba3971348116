//! The commands of `danmu-server`, run as a user runs them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

#[allow(dead_code, reason = "shared with other test binaries, which use the rest")]
#[path = "support/process.rs"]
mod process;

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use danmu_server::edge::token::{Keys, Sources};

fn danmu_server(arguments: &[&str]) -> Output {
    process::danmu_server().args(arguments).output().unwrap()
}

/// A folder of manifests with so much in it.
fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
    }
    let path = folder.path().to_owned();
    (folder, path)
}

#[test]
fn check_tells_every_fault_of_flags_keys_and_manifests_at_once_and_ends_with_64() {
    let short =
        "-----BEGIN PUBLIC KEY-----\nMBowBQYDK2VwAxEAEREREREREREREREREREREQ==\n-----END PUBLIC KEY-----\n";
    let private = "-----BEGIN PRIVATE KEY-----\nMC4CAQ==\n-----END PRIVATE KEY-----\n";
    let (_kept, keys) = folder(&[("short.pem", short), ("private.pem", private)]);
    let (_rooms, rooms) = folder(&[("room.yaml", "kind: DanmuRoom\nmetadata: {name: Not A Room}\n")]);
    let output = danmu_server(&[
        "check",
        "--rooms",
        rooms.to_str().unwrap(),
        "--admin=0.0.0.0:9090",
        "--metrics-token=",
        "--token-secret=guess me",
        "--token-eddsa",
        keys.join("short.pem").to_str().unwrap(),
        "--token-rs256",
        keys.join("private.pem").to_str().unwrap(),
        "--token-audience=",
    ]);
    assert_eq!(output.status.code(), Some(64));
    let told = String::from_utf8(output.stderr).unwrap();
    for (flag, what_to_do) in [
        ("--admin: ", "set --admin-token"),
        ("--metrics-token: ", "leave it away"),
        ("--token-secret: ", "openssl rand"),
        ("--token-eddsa: ", "-----BEGIN PUBLIC KEY-----"),
        ("--token-rs256: ", "openssl pkey -pubout"),
        ("--token-audience: ", "leave it away"),
        ("room.yaml", ""),
    ] {
        assert!(told.lines().any(|l| l.contains(flag) && l.contains(what_to_do)), "{flag}: {told}");
    }
}

#[test]
fn hooks_need_what_their_requests_are_signed_with() {
    let (_kept, rooms) = folder(&[("fleet.yaml", include_str!("../../examples/hooks/fleet.yaml"))]);
    let check =
        |extra: &[&str]| danmu_server(&[&["check", "--rooms", rooms.to_str().unwrap()], extra].concat());
    let without = check(&[]);
    let told = String::from_utf8_lossy(&without.stderr).into_owned();
    assert!(without.status.code() == Some(64) && told.contains("--hook-secret is missing"), "{told}");
    assert!(check(&["--hook-secret=a secret of two dozen bytes"]).status.success());
}

#[test]
fn a_printed_token_fits_the_server_with_the_same_audience_and_issuer() {
    let secret = "a secret for this test alone";
    let mut arguments = vec!["token", "--secret", secret, "--user", "ann", "--room", "talk"];
    arguments.extend(["--audience", "danmu", "--issuer", "site"]);
    let output = danmu_server(&arguments);
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).unwrap();
    let sources = Sources {
        hs256_secret: Some(secret.as_bytes()),
        audience: Some("danmu"),
        issuer: Some("site"),
        ..Sources::default()
    };
    let claims = Keys::new(&sources).unwrap().verify(token.trim(), 1).unwrap();
    assert_eq!((claims.sub.as_str(), claims.rooms), ("ann", Some(vec!["talk".to_owned()])));
}

#[test]
fn a_token_the_server_would_refuse_is_not_printed() {
    let secret = "a secret for this test alone";
    for (secret, user, words) in [("short", "ann", "guessed"), (secret, "", "1 to 128 characters")] {
        let output = danmu_server(&["token", "--secret", secret, "--user", user]);
        assert_eq!(output.status.code(), Some(64));
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains(words) && output.stdout.is_empty(), "{told}");
    }
}

#[test]
fn without_an_admin_token_the_port_is_open_to_programs_but_not_to_web_pages() {
    let (_kept, rooms) = folder(&[("room.yaml", include_str!("../../examples/worlds-final.yaml"))]);
    let mut command = process::danmu_server();
    command.arg("--rooms").arg(rooms).arg("--workers=1").stderr(Stdio::null());
    let serving = process::Process::start(&mut command);
    let address = serving.admin;
    let ask = |path: &str, extra: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(
            stream,
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n{extra}\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask("/rooms/worlds-final/clear", ""), "200");
    assert_eq!(ask("/rooms/worlds-final/clear", "Origin: https://elsewhere.example\r\n"), "403");
    assert_eq!(ask("/rooms/worlds-final/publish", "Origin: null\r\n"), "403");
    assert_eq!(ask("/drain", "Origin: http://127.0.0.1:8080\r\n"), "403");
    assert_eq!(ask("/drain", ""), "202");
}
