//! The operator on a real cluster: that of KUBECONFIG, as `cargo xtask e2e` brings it up. The tests' names sort in the
//! order of a life, from the first install to the uninstall; each makes what it needs, and so runs alone too.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test says what is wrong by a panic"
)]

mod fixture;

mod t01_fresh_install;
mod t02_hot_room;
mod t03_schedule;
mod t04_observed;
mod t05_scale_down;
mod t06_rollout;
mod t07_failures;
mod t08_objects;
mod t09_idle;
mod t10_gateway;
mod t12_demo;
mod t20_uninstall;
