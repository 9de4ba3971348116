//! The admin port: publish, moderate, look, drain.
