//! Turns fleets and rooms into pods, slices and routes.
//!
//! A reconcile of a fleet is `observe` (stores, no I/O) → `danmu_plan::plan` → `build` → `apply` → `report`, in
//! `controller`. Everything between the stores and the client is pure. The program is [`run`]; [`Operator`] is the part
//! of it that needs neither a lease nor servers, for tests against a real API.

mod apply;
mod build;
mod controller;
mod discovery;
mod explain;
mod health;
mod keys;
mod kind;
mod leader;
mod loads;
mod metrics;
mod names;
mod observe;
mod once;
mod operator;
mod report;
mod run;
mod seen;
mod stores;
mod tell;
#[cfg(test)]
mod trials;
mod unreadable;

pub use build::Settings;
pub use explain::explain;
pub use loads::{LoadError, Loads, Target};
pub use names::OPERATOR;
pub use once::{Found, state};
pub use operator::Operator;
pub use run::{Options, RunError, run};
pub use seen::Told;
