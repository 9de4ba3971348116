//! The operator on a real cluster: that of KUBECONFIG, as `cargo xtask e2e` brings it up. The tests' names sort in the
//! order of a life, from the first install to the uninstall; each makes what it needs, and so runs alone too.

mod fixture;

mod t01_fresh_install;
mod t02_hot_room;
