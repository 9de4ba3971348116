//! Worker threads that own their sockets; a room's viewers on one thread are its rows.
