//! Whether the cluster has the Gateway API. It may come later: nothing needs a restart then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream};
use kube::Client;
use tracing::{debug, info};

use crate::kind::GATEWAY_API;

const EVERY: Duration = Duration::from_secs(30);

/// `watched`, once there are HTTPRoutes; `found` says so.
pub(crate) fn once_there<S: Stream>(
    client: Client,
    found: Arc<AtomicBool>,
    watched: S,
) -> impl Stream<Item = S::Item> {
    let wait = async move {
        while !has_routes(&client).await {
            tokio::time::sleep(EVERY).await;
        }
        info!("the cluster has HTTPRoutes");
        found.store(true, Ordering::Release);
        watched
    };
    stream::once(wait).flatten()
}

async fn has_routes(client: &Client) -> bool {
    match client.list_api_group_resources(GATEWAY_API).await {
        Ok(list) => list.resources.iter().any(|resource| resource.name == "httproutes"),
        Err(error) => {
            debug!(%error, "no Gateway API");
            false
        }
    }
}
