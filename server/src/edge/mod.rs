//! What comes in: accept, admission, HTTP, upgrade, token, and the viewer's session.
