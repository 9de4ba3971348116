//! A connection to Redis, whichever kind it is. Commands and pub/sub use one each: a slow script must not
//! delay what is pushed.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use redis::{
    AsyncConnectionConfig, Cmd, FromRedisValue, PushInfo, RedisError, ScriptInvocation, Value,
    aio::{ConnectionLike, MultiplexedConnection},
    cluster_async::ClusterConnection,
    cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo},
};

use super::address::{Address, Kind};

/// For a connection to one server to be made.
const CONNECT: Duration = Duration::from_secs(1);
/// For all of it: of a cluster's nodes, or of the sentinels, some may be silent, and each costs its time.
const CONNECT_ALL: Duration = Duration::from_secs(6);
/// For a command to be answered.
pub(super) const ANSWER: Duration = Duration::from_secs(2);
/// For a ping: with one every 2 s a half-open link is noticed within 5 s.
const PONG: Duration = Duration::from_millis(2500);
/// Channels in one SUBSCRIBE.
const CHANNELS: usize = 1000;
/// Commands on their way; more wait in the caller.
const PIPELINE: usize = 1024;

/// A connection; clones share it.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Connection {
    /// Connects. `pushed` takes what is pushed and must not block.
    pub(crate) async fn open(
        address: &Address,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, RedisError> {
        let opened = tokio::time::timeout(CONNECT_ALL, Connection::open_patiently(address, pushed)).await;
        opened.unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    async fn open_patiently(
        address: &Address,
        pushed: impl Fn(PushInfo) + Send + Sync + 'static,
    ) -> Result<Connection, RedisError> {
        let push_sender = move |info: PushInfo| -> Result<(), redis::aio::SendError> {
            pushed(info);
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(ANSWER))
            .set_pipeline_buffer_size(PIPELINE);
        match &address.kind {
            Kind::Single(node) => {
                let client = address.single(node.clone())?;
                let config = config.set_push_sender(push_sender);
                Ok(Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Kind::Sentinel { nodes, service, tls } => {
                let mut sentinel = address.sentinel(nodes.clone(), service, *tls)?;
                let client = sentinel.async_get_client().await?;
                let config = config.set_push_sender(push_sender);
                Ok(Connection::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Kind::Cluster(nodes) => {
                let client = address
                    .cluster(nodes.clone())
                    .connection_timeout(CONNECT)
                    .response_timeout(ANSWER)
                    .push_sender(push_sender)
                    .build()?;
                Ok(Connection::Cluster(client.get_async_connection().await?))
            }
        }
    }

    /// The publishing command: on a cluster only the shard's own nodes hear it.
    pub(super) fn publish(&self) -> &'static str {
        match self {
            Connection::Single(_) => "PUBLISH",
            Connection::Cluster(_) => "SPUBLISH",
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Connection::Cluster(_))
    }

    /// Publishes packets of one channel, in this order.
    pub(super) async fn publish_all(&self, channel: &str, packets: &[&[u8]]) -> Result<(), RedisError> {
        let mut pipeline = redis::pipe();
        for packet in packets {
            pipeline.cmd(self.publish()).arg(channel).arg(packet).ignore();
        }
        match self.clone() {
            Connection::Single(mut connection) => pipeline.exec_async(&mut connection).await,
            Connection::Cluster(mut connection) => pipeline.exec_async(&mut connection).await,
        }
    }

    /// Sends a command.
    pub(crate) async fn send(&self, command: &Cmd) -> Result<Value, RedisError> {
        match self.clone() {
            Connection::Single(mut connection) => connection.req_packed_command(command).await,
            Connection::Cluster(mut connection) => connection.req_packed_command(command).await,
        }
    }

    pub(crate) async fn invoke(&self, script: &ScriptInvocation<'_>) -> Result<Value, RedisError> {
        match self.clone() {
            Connection::Single(mut connection) => script.invoke_async(&mut connection).await,
            Connection::Cluster(mut connection) => script.invoke_async(&mut connection).await,
        }
    }

    /// Subscribes to channels, a thousand at a time. On a cluster each is a command of its own, because
    /// they live on different shards.
    pub(super) async fn subscribe(&self, channels: &[String]) -> Result<(), RedisError> {
        for some in channels.chunks(CHANNELS) {
            match self.clone() {
                Connection::Single(mut connection) => connection.subscribe(some).await?,
                Connection::Cluster(connection) => {
                    let each = some.iter().map(|channel| {
                        let mut connection = connection.clone();
                        async move { connection.ssubscribe(channel).await }
                    });
                    try_join_all(each).await?;
                }
            }
        }
        Ok(())
    }

    /// Unsubscribes; that it fails does no harm.
    pub(super) async fn unsubscribe(&self, channels: &[String]) {
        for some in channels.chunks(CHANNELS) {
            match self.clone() {
                Connection::Single(mut connection) => {
                    let _ = connection.unsubscribe(some).await;
                }
                Connection::Cluster(connection) => {
                    let each = some.iter().map(|channel| {
                        let mut connection = connection.clone();
                        async move { connection.sunsubscribe(channel).await }
                    });
                    join_all(each).await;
                }
            }
        }
    }

    /// Whether the other end still answers, as a primary. A cluster redirects by itself.
    pub(super) async fn is_primary(&self) -> bool {
        let Connection::Single(mut connection) = self.clone() else { return self.ping().await };
        let mut info = redis::cmd("INFO");
        info.arg("replication");
        let answer = tokio::time::timeout(PONG, connection.req_packed_command(&info)).await;
        let Ok(Ok(answer)) = answer else { return false };
        String::from_redis_value(answer).is_ok_and(|told| !told.contains("role:slave"))
    }

    /// Whether the other end still answers.
    pub(super) async fn ping(&self) -> bool {
        let answered = async {
            let ping = redis::cmd("PING");
            match self.clone() {
                Connection::Single(mut connection) => connection.req_packed_command(&ping).await,
                Connection::Cluster(mut connection) => {
                    let all = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                    connection.route_command(ping, all).await
                }
            }
        };
        matches!(tokio::time::timeout(PONG, answered).await, Ok(Ok(_)))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_cluster() { "Cluster" } else { "Single" })
    }
}
