//! Whether the cluster has the Gateway API. It may come later: nothing needs a restart then.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use kube::Client;
use tracing::{debug, info};

use crate::kind::GATEWAY_API;

const EVERY: Duration = Duration::from_secs(30);
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// What the cluster said of it. Until it said something, a plan would take routes for missing.
#[derive(Default)]
pub(crate) struct GatewayApi {
    known: OnceLock<()>,
    there: AtomicBool,
}

impl GatewayApi {
    /// Whether there are HTTPRoutes.
    pub(crate) fn is_there(&self) -> bool {
        self.there.load(Ordering::Acquire)
    }

    /// Whether the cluster has answered once.
    pub(crate) fn is_known(&self) -> bool {
        self.known.get().is_some()
    }

    pub(crate) fn said(&self, there: bool) {
        self.there.store(there, Ordering::Release);
        self.known.get_or_init(|| ());
    }
}

/// `watched`, once there are HTTPRoutes; `found` says so.
pub(crate) fn once_there<S: Stream>(
    client: Client,
    found: Arc<GatewayApi>,
    watched: S,
) -> impl Stream<Item = S::Item> {
    let wait = async move {
        loop {
            match has_routes(&client).await {
                Ok(there) => {
                    found.said(there);
                    if there {
                        info!("the cluster has HTTPRoutes");
                        return watched;
                    }
                    tokio::time::sleep(EVERY).await;
                }
                Err(error) => {
                    debug!(%error, "no word of the Gateway API");
                    tokio::time::sleep(AFTER_ERROR).await;
                }
            }
        }
    };
    stream::once(wait).flatten()
}

async fn has_routes(client: &Client) -> Result<bool, kube::Error> {
    match client.list_api_group_resources(GATEWAY_API).await {
        Ok(list) => Ok(list.resources.iter().any(|resource| resource.name == "httproutes")),
        // By the code: the API server answers for a group that it does not know in plain text.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use hyper::http::{Request, Response};
    use kube::client::Body;

    use super::*;

    #[tokio::test]
    async fn a_cluster_that_does_not_know_the_group_is_one_without_routes() {
        let (service, mut handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        tokio::spawn(async move {
            let (_, send) = handle.next_request().await.unwrap();
            let body = Body::from(b"404 page not found\n".to_vec());
            send.send_response(Response::builder().status(404).body(body).unwrap());
        });
        assert!(!has_routes(&Client::new(service, "default")).await.unwrap());
    }
}
