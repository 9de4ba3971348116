//! Where Redis is: one server, a cluster, or sentinels that know.

use redis::{
    Client, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, RedisError, TlsCertificates,
    cluster::{ClusterClient, ClusterClientBuilder},
    io::tcp::TcpSettings,
    sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType},
};

/// Why an address is none.
#[derive(Debug, thiserror::Error)]
pub enum AddressError {
    /// The URL cannot be read.
    #[error(
        "`{url}` is no Redis address ({why}); write for example redis://user:password@host:6379, rediss://… for TLS, or redis+sentinel://host:26379/service"
    )]
    Url {
        /// What was given, without its password.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Several servers, but no cluster.
    #[error("several addresses are those of a cluster: add --redis-cluster, or give one address")]
    Several,
    /// A sentinel address without the service's name.
    #[error(
        "a sentinel address ends with the name of the service, as in redis+sentinel://host:26379/mymaster"
    )]
    Service,
}

/// Where Redis is.
#[derive(Clone, Debug)]
pub struct Address {
    pub(super) kind: Kind,
    certificates: Option<TlsCertificates>,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Single(ConnectionInfo),
    Cluster(Vec<ConnectionInfo>),
    Sentinel { nodes: Vec<ConnectionInfo>, service: String, tls: bool },
}

impl Address {
    /// Reads an address: a URL, or several with commas between them for a cluster. `ca` is a PEM file's
    /// content for a TLS server whose certificate the system does not know.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(urls: &str, cluster: bool, ca: Option<Vec<u8>>) -> Result<Address, AddressError> {
        let certificates = ca.map(|pem| TlsCertificates { client_tls: None, root_cert: Some(pem) });
        if let Some((scheme, rest)) = urls.split_once("+sentinel://") {
            let (hosts, service) = rest.rsplit_once('/').ok_or(AddressError::Service)?;
            if service.is_empty() {
                return Err(AddressError::Service);
            }
            let (credentials, hosts) = hosts.rsplit_once('@').map_or(("", hosts), |(c, hosts)| (c, hosts));
            let at = if credentials.is_empty() { "" } else { "@" };
            let nodes = hosts
                .split(',')
                .map(|host| node(&format!("redis://{credentials}{at}{host}")))
                .collect::<Result<_, _>>()?;
            let kind = Kind::Sentinel { nodes, service: service.to_owned(), tls: scheme == "rediss" };
            return Ok(Address { kind, certificates });
        }
        let mut nodes = urls.split(',').map(node).collect::<Result<Vec<_>, _>>()?;
        let kind = match (cluster, nodes.len()) {
            (true, _) => Kind::Cluster(nodes),
            (false, 1) => Kind::Single(nodes.remove(0)),
            (false, _) => return Err(AddressError::Several),
        };
        Ok(Address { kind, certificates })
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    pub(super) fn cluster(&self, nodes: Vec<ConnectionInfo>) -> ClusterClientBuilder {
        let builder = ClusterClient::builder(nodes)
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(TcpSettings::default().set_nodelay(true));
        match &self.certificates {
            Some(certificates) => builder.certs(certificates.clone()),
            None => builder,
        }
    }

    pub(super) fn single(&self, node: ConnectionInfo) -> Result<Client, RedisError> {
        match &self.certificates {
            Some(certificates) => Client::build_with_tls(node, certificates.clone()),
            None => Client::open(node),
        }
    }

    pub(super) fn sentinel(
        &self,
        nodes: Vec<ConnectionInfo>,
        service: &str,
        tls: bool,
    ) -> Result<SentinelClient, RedisError> {
        let settings = nodes.first().map(|node| node.redis_settings().clone()).unwrap_or_default();
        let mut builder = SentinelClientBuilder::new(
            nodes.into_iter().map(|node| node.addr().clone()),
            service,
            SentinelServerType::Master,
        )?
        .set_client_to_redis_protocol(ProtocolVersion::RESP3)
        .set_client_to_redis_tcp_settings(TcpSettings::default().set_nodelay(true));
        if let Some(user) = settings.username() {
            builder = builder.set_client_to_redis_username(user);
        }
        if let Some(password) = settings.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if tls {
            builder = builder.set_client_to_redis_tls_mode(redis::TlsMode::Secure);
            if let Some(certificates) = &self.certificates {
                builder = builder.set_client_to_redis_certificates(certificates.clone());
            }
        }
        builder.build()
    }
}

fn node(url: &str) -> Result<ConnectionInfo, AddressError> {
    let info = url
        .trim()
        .into_connection_info()
        .map_err(|error| AddressError::Url { url: without_password(url), why: error.to_string() })?;
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    // A small packet must not wait for the answer to the one before (Nagle): it would cost 40 ms.
    Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

/// A password must not end up in a log.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://…@{host}"),
        _ => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_server_a_cluster_and_sentinels_are_told_apart() {
        let kind = |url: &str, cluster| Address::parse(url, cluster, None).unwrap().kind;
        assert!(matches!(kind("redis://u:p@127.0.0.1:6379/2", false), Kind::Single(_)));
        assert!(matches!(kind("rediss://127.0.0.1:6379", false), Kind::Single(_)));
        assert!(matches!(kind("redis://a:1,redis://b:2", true), Kind::Cluster(nodes) if nodes.len() == 2));
        match kind("redis+sentinel://u:p@a:26379,b:26379/mymaster", false) {
            Kind::Sentinel { nodes, service, tls } => {
                assert_eq!((nodes.len(), service.as_str(), tls), (2, "mymaster", false));
                assert_eq!(nodes[0].redis_settings().password(), Some("p"));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_wrong_address_is_told_without_its_password() {
        let told = Address::parse("http://me:secret@host", false, None).unwrap_err().to_string();
        assert!(told.contains("http://…@host") && !told.contains("secret"), "{told}");
        assert!(Address::parse("redis://a:1,redis://b:1", false, None).is_err());
        assert!(Address::parse("redis+sentinel://a:1", false, None).is_err());
    }
}
