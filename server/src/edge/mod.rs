//! What comes in: accept, admission, HTTP, upgrade, token, and the viewer's session.

pub mod address;
pub mod admission;
mod danmu;
mod http;
pub mod listener;
pub mod metrics;
pub mod origin;
pub mod pages;
pub mod protocols;
pub mod session;
pub mod token;
