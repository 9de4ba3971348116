//! Spans on their way to a collector: a bounded queue, one task, and nobody who waits for it.

use std::{io, num::NonZeroU64, time::Duration};

use bytes::Bytes;
use hyper::{Request, Response, Uri};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, Status, TraceFlags, TraceState},
};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{ExporterBuildError, Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkError,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use prometheus_client::{metrics::counter::Counter, registry::Registry};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::Span;
use crate::https::Https;

/// Spans that wait to be exported.
const QUEUE: usize = 4096;
/// Most spans of one export.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// Longest answer of a collector; there is next to nothing in it.
const ANSWER: usize = 64 * 1024;
/// How long one export may take, and the last ones together at the end of the process.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where traces go, and of how many messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The collector's traces endpoint.
    pub endpoint: Uri,
    /// One message in so many is traced.
    pub one_in: NonZeroU64,
}

impl Settings {
    /// Reads an endpoint as `OTEL_EXPORTER_OTLP_ENDPOINT` has it: the signal's own path is not in it.
    ///
    /// # Errors
    /// In words.
    pub fn parse(endpoint: &str, one_in: NonZeroU64) -> Result<Settings, String> {
        let fault = || format!("`{endpoint}` is no address; write for example http://collector:4318");
        let whole: Uri =
            format!("{}/v1/traces", endpoint.trim_end_matches('/')).parse().map_err(|_| fault())?;
        let is_http = matches!(whole.scheme_str(), Some("http" | "https"));
        if !is_http || whole.host().is_none_or(str::is_empty) || whole.query().is_some() {
            return Err(fault());
        }
        Ok(Settings { endpoint: whole, one_in })
    }
}

/// Which process the spans are of.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The pod's name, or whatever else no other process has.
    pub instance: String,
    /// The fleet's namespace and name.
    pub fleet: String,
}

/// There is no way to the endpoint.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// No TLS.
    #[error("traces: this machine's certificate authorities cannot be read: {0}")]
    Roots(io::Error),
    /// What `OTEL_EXPORTER_OTLP_…` variables say does not hold together.
    #[error("traces: {0}")]
    Exporter(#[from] ExporterBuildError),
}

/// What is counted of traces.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Spans that the collector took.
    pub exported: Counter,
    /// Spans that are lost.
    pub dropped: Counter,
}

impl Metrics {
    /// Registers all of them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("trace_exported_spans", "Spans that the collector took", self.exported.clone());
        registry.register(
            "trace_dropped_spans",
            "Spans lost: the queue was full, or the collector did not take them",
            self.dropped.clone(),
        );
    }
}

enum Told {
    Span(Box<SpanData>),
    /// All before this is to be exported.
    Settle(oneshot::Sender<()>),
}

/// Where spans wait.
#[derive(Debug)]
pub(super) struct Queue {
    told: mpsc::Sender<Told>,
    scope: InstrumentationScope,
    metrics: Metrics,
}

impl Queue {
    pub(super) fn start(settings: &Settings, origin: Origin, metrics: Metrics) -> Result<Queue, Fault> {
        let exporter = exporter(settings, origin)?;
        let (told, queue) = mpsc::channel(QUEUE);
        let place = settings.endpoint.to_string();
        tokio::spawn(Task { exporter, place, metrics: metrics.clone(), is_away: false }.run(queue));
        let scope =
            InstrumentationScope::builder("danmu-server").with_version(env!("CARGO_PKG_VERSION")).build();
        Ok(Queue { told, scope, metrics })
    }

    /// Called by worker threads: what does not fit is lost, and counted.
    pub(super) fn tell(&self, span: Span) {
        let data = Box::new(SpanData {
            span_context: SpanContext::new(span.trace, span.id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: span.parent,
            parent_span_is_remote: span.is_remote,
            span_kind: span.kind,
            name: span.name.into(),
            start_time: span.from,
            end_time: span.until.max(span.from),
            attributes: span.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        });
        if self.told.try_send(Told::Span(data)).is_err() {
            self.drop_one();
        }
    }

    pub(super) fn drop_one(&self) {
        self.metrics.dropped.inc();
    }

    pub(super) async fn settle(&self) {
        let (done, settled) = oneshot::channel();
        let _ = timeout(DEADLINE, async {
            if self.told.send(Told::Settle(done)).await.is_ok() {
                let _ = settled.await;
            }
        })
        .await;
    }
}

/// The library's own client would have HTTP/2 compiled into the server.
#[derive(Debug)]
struct Http(Https);

#[async_trait::async_trait]
impl HttpClient for Http {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (head, body) = request.into_parts();
        let asked = self.0.request(head.method, &head.uri, head.headers, body, ANSWER);
        let (status, body) = timeout(DEADLINE, asked).await??;
        let mut answer = Response::new(body);
        *answer.status_mut() = status;
        Ok(answer)
    }
}

fn exporter(settings: &Settings, origin: Origin) -> Result<SpanExporter, Fault> {
    let https = Https::new(1).map_err(Fault::Roots)?;
    let mut exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(Http(https))
        .with_endpoint(settings.endpoint.to_string())
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(DEADLINE)
        .build()?;
    let resource = Resource::builder_empty()
        .with_service_name("danmu-server")
        .with_attributes([
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", origin.instance),
            KeyValue::new("danmu.fleet", origin.fleet),
        ])
        .build();
    exporter.set_resource(&resource);
    Ok(exporter)
}

struct Task {
    exporter: SpanExporter,
    place: String,
    metrics: Metrics,
    /// The last export failed, and that was told.
    is_away: bool,
}

impl Task {
    /// Exports until the process ends.
    async fn run(mut self, mut queue: mpsc::Receiver<Told>) {
        while let Some(first) = queue.recv().await {
            let until = Instant::now() + GATHER;
            let (mut batch, mut settled, mut next) = (Vec::new(), None, Some(first));
            while let Some(told) = next {
                match told {
                    Told::Span(span) => batch.push(*span),
                    Told::Settle(done) => settled = Some(done),
                }
                if batch.len() >= BATCH || settled.is_some() {
                    break;
                }
                next = timeout_at(until, queue.recv()).await.ok().flatten();
            }
            self.export(batch).await;
            if let Some(done) = settled {
                let _ = done.send(());
            }
        }
    }

    async fn export(&mut self, batch: Vec<SpanData>) {
        let spans = batch.len() as u64;
        if spans == 0 {
            return;
        }
        let exported = timeout(DEADLINE, self.exporter.export(batch)).await;
        match exported.unwrap_or(Err(OTelSdkError::Timeout(DEADLINE))) {
            Ok(()) => {
                self.metrics.exported.inc_by(spans);
                if std::mem::take(&mut self.is_away) {
                    tracing::info!(endpoint = self.place, "traces can be exported again");
                }
            }
            Err(error) => {
                self.metrics.dropped.inc_by(spans);
                if !std::mem::replace(&mut self.is_away, true) {
                    tracing::warn!(endpoint = self.place, %error, "traces cannot be exported and are lost; more of this is not told");
                }
            }
        }
    }
}
