//! Where a room's policy comes from: a folder of DanmuRoom manifests, followed live.
