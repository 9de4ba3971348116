//! The port itself. `axum::serve` has no deadline for a request's head and no bound on connections.

use std::{sync::Arc, time::Duration};

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Semaphore};

/// A head must be whole, and the next one begun, within this time.
const HEAD_DEADLINE: Duration = Duration::from_secs(15);
/// Most connections at a time; the rest waits in the kernel's queue. They come out of the descriptors that
/// are kept from viewers.
const CONNECTIONS: usize = 128;
/// Most bytes of a request's head.
const HEAD_BYTES: usize = 16 * 1024;

/// Serves for as long as the process lives.
pub async fn serve(listener: TcpListener, router: Router) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of descriptors, most likely: wait instead of spinning.
                tracing::warn!(%error, "accept failed on the admin port");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Whoever keeps many connections open must not keep health probes out.
        let crowded = places.available_permits() < CONNECTIONS / 2;
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_DEADLINE)
                .max_buf_size(HEAD_BYTES)
                .keep_alive(!crowded)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "an admin connection ended badly");
            }
            drop(place);
        });
    }
}
