//! May this viewer speak, may this text pass: refused with a code, or accepted.
