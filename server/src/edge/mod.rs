//! What comes in: accept, admission, HTTP, upgrade, token, and the viewer's session.

pub mod address;
pub mod admission;
pub mod origin;
pub mod protocols;
pub mod token;
