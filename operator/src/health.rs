//! `/livez`, `/readyz` and `/metrics`.

use std::{
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::net::TcpListener;

use crate::metrics::Metrics;

/// What is missing, newest word first; asked on each `/readyz`.
type Missing = dyn Fn() -> Vec<&'static str> + Send + Sync;

/// Where this process stands.
#[derive(Clone)]
pub(crate) struct Health {
    missing: Arc<RwLock<Option<Box<Missing>>>>,
    metrics: Arc<Metrics>,
}

impl Health {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { missing: Arc::default(), metrics }
    }

    /// From now on this process is ready once nothing is missing.
    pub(crate) fn waits(&self, missing: impl Fn() -> Vec<&'static str> + Send + Sync + 'static) {
        *self.missing.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(missing));
    }

    /// It is ready to lead, and waits for its turn.
    pub(crate) fn stands_by(&self) {
        *self.missing.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn readiness(&self) -> (StatusCode, String) {
        match &*self.missing.read().unwrap_or_else(PoisonError::into_inner) {
            // Ready to take over, or a rollout of the operator would wait for it forever.
            None => (StatusCode::OK, "ok: standing by, another one leads\n".to_owned()),
            Some(missing) => match missing() {
                missing if missing.is_empty() => (StatusCode::OK, "ok\n".to_owned()),
                missing => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", missing.join(", "))),
            },
        }
    }

    /// Answers on `address` until the process ends.
    pub(crate) async fn serve(self, address: SocketAddr) -> std::io::Result<()> {
        let listener = TcpListener::bind(address).await?;
        axum::serve(listener, self.router()).await
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/readyz", get(async |State(health): State<Self>| health.readiness()))
            .route("/metrics", get(async |State(health): State<Self>| metrics(&health.metrics)))
            .with_state(self)
    }
}

fn metrics(metrics: &Metrics) -> Response {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    match metrics.text() {
        Ok(lines) => ([(header::CONTENT_TYPE, OPEN_METRICS)], lines).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_missing() {
        let health = Health::new(Arc::default());
        assert_eq!(health.readiness().0, StatusCode::OK);
        health.waits(|| vec!["Pods", "Service"]);
        let (status, body) = health.readiness();
        assert_eq!((status, body.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "waiting for Pods, Service\n"));
        health.waits(Vec::new);
        assert_eq!(health.readiness(), (StatusCode::OK, "ok\n".to_owned()));
        health.stands_by();
        assert!(health.readiness().1.contains("another one leads"));
    }

    #[test]
    fn metrics_are_counted_by_reason() {
        let all = Metrics::default();
        all.reconciled("ok", 0.01);
        all.reconciled("ApplyFailed", 0.01);
        let text = all.text().unwrap();
        assert!(text.contains("danmu_operator_reconciles_total{reason=\"ApplyFailed\"} 1"), "{text}");
    }
}
