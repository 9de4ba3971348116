//! The operator against a real API server, with pods that run nowhere (kwok) and servers that a test plays
//! ([`world::FakeLoads`]). It needs the cluster of `KUBECONFIG`, with some 20 nodes of 110 pods; each test has a
//! namespace and an operator of its own.
//!
//! `cargo test -p danmu-operator --features kwok --test kwok -- --nocapture` prints times and calls.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends where it goes wrong")]

mod cluster;
mod healing;
mod large;
mod rollout;
mod routes;
mod rules;
mod stages;
mod world;
