//! The cluster of the kubeconfig: a fleet, its pods, and ways to their servers.

use std::{net::SocketAddr, time::Duration};

use danmu_client::{Publisher, Retries};
use danmu_operator::{Found, state};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config, ResourceExt,
    api::ListParams,
    client::UpgradeConnectionError,
    config::{KubeConfigOptions, Kubeconfig},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, copy_bidirectional},
    net::{TcpListener, TcpStream},
};

/// Ports of a server's pod, as the operator sets them.
const ADMIN: u16 = 9090;
pub(crate) const PUBLIC: u16 = 8080;
const DEADLINE: Duration = Duration::from_secs(10);

/// A fleet in a cluster.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    pub(crate) namespace: String,
    pub(crate) found: Found,
    token: String,
}

impl Cluster {
    pub(crate) async fn connect(
        namespace: Option<String>,
        context: Option<String>,
        fleet: Option<String>,
    ) -> Result<Cluster, String> {
        let config = config(context).await?;
        let namespace = namespace.unwrap_or_else(|| config.default_namespace.clone());
        let client =
            Client::try_from(config).map_err(|error| format!("the kubeconfig cannot be used: {error}"))?;
        let fleet = match fleet {
            Some(fleet) => fleet,
            None => only_fleet(&client, &namespace).await?,
        };
        let found = Found::read(&client, &namespace, &fleet).await;
        let found = found
            .map_err(|error| told(&error, &format!("the fleet {fleet} in the namespace {namespace}")))?;
        let token = found.admin_token(&client).await?;
        Ok(Cluster { client, namespace, found, token })
    }

    /// The fleet, rooms and pods as they are now.
    pub(crate) async fn look_again(&mut self) -> Result<(), String> {
        let fleet = self.found.fleet.name_any();
        let found = Found::read(&self.client, &self.namespace, &fleet).await;
        self.found = found.map_err(|error| told(&error, &format!("the fleet {fleet}")))?;
        Ok(())
    }

    /// The admin API of a pod's server.
    pub(crate) async fn server(&self, pod: &str) -> Result<Publisher, String> {
        if !self.found.pods.iter().any(|known| known.name_any() == pod) {
            let names: Vec<String> = self.found.pods.iter().map(ResourceExt::name_any).collect();
            let fleet = self.found.fleet.name_any();
            return Err(match names.as_slice() {
                [] => format!("the fleet {fleet} has no pods"),
                names => format!("{pod} is no pod of the fleet {fleet}; it has {}", names.join(", ")),
            });
        }
        let address = self.forward(pod, ADMIN).await?;
        let publisher =
            Publisher::new(&format!("http://{address}"), &self.token).map_err(|error| error.to_string())?;
        Ok(publisher.retries(Retries { tries: 2, ..Retries::default() }))
    }

    /// The admin API of any Ready pod's server: they all reach every room.
    pub(crate) async fn any_server(&self) -> Result<Publisher, String> {
        self.server(&ready(&self.found.pods).ok_or_else(|| self.nobody())?.name_any()).await
    }

    pub(crate) fn nobody(&self) -> String {
        let (fleet, count) = (self.found.fleet.name_any(), self.found.pods.len());
        format!(
            "none of the {count} pods of the fleet {fleet} is Ready; see: kubectl get pods -n {} -l danmu.live/fleet={fleet}",
            self.namespace
        )
    }

    /// A local address that leads to a port of a pod, while this process runs. The first way there is tried at
    /// once, so that what stands in it is told in words.
    pub(crate) async fn forward(&self, pod: &str, port: u16) -> Result<SocketAddr, String> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let first = open(&api, pod, port).await?;
        let local = |error: std::io::Error| format!("no local port: {error}");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(local)?;
        let address = listener.local_addr().map_err(local)?;
        let pod = pod.to_owned();
        tokio::spawn(async move {
            let mut first = Some(first);
            while let Ok((socket, _)) = listener.accept().await {
                let (api, pod, ready) = (api.clone(), pod.clone(), first.take());
                tokio::spawn(carry(socket, api, pod, port, ready));
            }
        });
        Ok(address)
    }
}

/// The first pod that is Ready.
pub(crate) fn ready(pods: &[Pod]) -> Option<&Pod> {
    pods.iter().find(|pod| state(pod).1 && pod.metadata.deletion_timestamp.is_none())
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn carry(mut socket: TcpStream, api: Api<Pod>, pod: String, port: u16, ready: Option<Box<dyn Stream>>) {
    let stream = match ready {
        Some(stream) => Ok(stream),
        None => open(&api, &pod, port).await,
    };
    // An end without an answer is told by whoever waits for it.
    if let Ok(mut stream) = stream {
        let _ = copy_bidirectional(&mut socket, &mut stream).await;
    }
}

async fn open(api: &Api<Pod>, pod: &str, port: u16) -> Result<Box<dyn Stream>, String> {
    let opened = tokio::time::timeout(DEADLINE, api.portforward(pod, &[port])).await;
    let mut forwarder = opened
        .map_err(|_| format!("no port-forward to {pod} within {} s", DEADLINE.as_secs()))?
        .map_err(|error| forward_told(&error, pod))?;
    let stream = forwarder.take_stream(port).ok_or_else(|| format!("no port-forward to {pod}"))?;
    // The forwarder's task ends with its streams.
    Ok(Box::new(stream))
}

async fn config(context: Option<String>) -> Result<Config, String> {
    let Some(context) = context else {
        return Config::infer().await.map_err(|error| format!("there is no usable kubeconfig: {error}"));
    };
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let file = Kubeconfig::read().map_err(|error| format!("the kubeconfig cannot be read: {error}"))?;
    Config::from_custom_kubeconfig(file, &options)
        .await
        .map_err(|error| format!("the context {context} cannot be used: {error}"))
}

async fn only_fleet(client: &Client, namespace: &str) -> Result<String, String> {
    let api: Api<danmu_crds::DanmuFleet> = Api::namespaced(client.clone(), namespace);
    let fleets = api.list(&ListParams::default()).await;
    let fleets = fleets.map_err(|error| told(&error, &format!("the fleets in the namespace {namespace}")))?;
    choose(fleets.items.iter().map(ResourceExt::name_any).collect(), namespace)
}

fn choose(mut names: Vec<String>, namespace: &str) -> Result<String, String> {
    match names.len() {
        0 => Err(format!("no DanmuFleet in the namespace {namespace}; name another with -n")),
        1 => Ok(names.remove(0)),
        _ => Err(format!(
            "the namespace {namespace} has several fleets; name one with --fleet: {}",
            names.join(", ")
        )),
    }
}

/// What the API says, in words.
fn told(error: &kube::Error, what: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            format!("you may not read {what}: {}", status.message)
        }
        // The API server's own page for a path that no resource has.
        kube::Error::Api(status) if status.code == 404 && status.message.contains("page not found") => {
            format!(
                "{what} cannot be read: the cluster has no DanmuFleets; is the chart danmu-crds installed?"
            )
        }
        kube::Error::Api(status) if status.code == 404 => {
            format!("there is no such thing as {what}: {}", status.message)
        }
        error => format!("{what}: {}", words(error)),
    }
}

/// Without the API's whole answer, which the error shows too.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        error => error.to_string(),
    }
}

fn forward_told(error: &kube::Error, pod: &str) -> String {
    let code = match error {
        kube::Error::Api(status) => Some(status.code),
        kube::Error::UpgradeConnection(UpgradeConnectionError::ProtocolSwitch(status)) => {
            Some(status.as_u16())
        }
        _ => None,
    };
    match code {
        Some(403) => format!(
            "you may not port-forward to {pod}: the RBAC verbs `get` and `create` on pods/portforward are needed (this command asks servers through it)"
        ),
        Some(404) => format!("the pod {pod} is gone"),
        _ => format!("no port-forward to {pod}: {}", words(error)),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn one_fleet_needs_no_name_and_several_are_named() {
        assert_eq!(choose(vec!["a".into()], "live"), Ok("a".into()));
        assert!(choose(vec![], "live").unwrap_err().contains("no DanmuFleet in the namespace live"));
        assert!(choose(vec!["a".into(), "b".into()], "live").unwrap_err().ends_with("--fleet: a, b"));
    }

    #[test]
    fn what_is_not_allowed_is_told_with_what_is_needed() {
        let denied =
            kube::Error::Api(Box::new(Status { code: 403, message: "no".into(), ..Status::default() }));
        assert_eq!(told(&denied, "the fleet x"), "you may not read the fleet x: no");
        assert!(forward_told(&denied, "danmu-x-0").contains("pods/portforward"));
        let broken =
            kube::Error::Api(Box::new(Status { code: 500, message: "no node".into(), ..Status::default() }));
        assert_eq!(forward_told(&broken, "danmu-x-0"), "no port-forward to danmu-x-0: no node");
    }

    #[test]
    fn only_a_ready_pod_is_asked() {
        let pod = |ready: &str| -> Pod {
            serde_json::from_value(
                serde_json::json!({"status": {"conditions": [{"type": "Ready", "status": ready}]}}),
            )
            .unwrap()
        };
        assert!(ready(&[pod("False")]).is_none());
        assert!(ready(&[pod("False"), pod("True")]).is_some());
    }
}
