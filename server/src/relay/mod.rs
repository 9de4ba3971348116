//! From the pod that publishes to every pod that has viewers; in memory for now.
