//! The release goes, and leaves nothing but the definitions, and what users made.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams},
    discovery::{Discovery, verbs},
};

use crate::fixture::{RELEASE, Release, command, until};

#[tokio::test(flavor = "multi_thread")]
async fn uninstalling_leaves_nothing_but_the_definitions() {
    let release = Release::installed().await;
    release.heal().await;
    // A room outlives its fleet: it is the user's. So is the Gateway.
    let gateways = release.dynamic("gateway.networking.k8s.io", "v1", "Gateway", RELEASE);
    gateways.delete("viewers", &DeleteParams::default()).await.unwrap();
    let uninstall = ["uninstall", RELEASE, "--namespace", RELEASE, "--wait"];
    command(&release.given.helm, &uninstall, Duration::from_secs(120))
        .await
        .unwrap_or_else(|why| panic!("{why}"));
    let gone = until(Duration::from_secs(90), "nothing of Danmu but definitions and rooms", async || {
        let left = left(&release.client).await?;
        if left.is_empty() { Ok(()) } else { Err(left.join("\n")) }
    });
    gone.await.unwrap_or_else(|why| panic!("{why}"));
    let definitions: Api<CustomResourceDefinition> = Api::all(release.client.clone());
    for name in ["danmurooms.danmu.live", "danmufleets.danmu.live"] {
        assert!(definitions.get_opt(name).await.unwrap().is_some(), "{name} is kept");
    }
}

/// Everything that can be listed and is Danmu's, by its name, labels or namespace.
async fn left(client: &Client) -> Result<Vec<String>, String> {
    let found = Discovery::new(client.clone()).run().await.map_err(|error| error.to_string())?;
    let mut left = Vec::new();
    for group in found.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
            // Kinds that are listed only by name, or not by us, hold nothing of ours.
            let Ok(objects) = api.list_metadata(&ListParams::default()).await else { continue };
            for object in objects {
                let name = object.name_any();
                let namespace = object.namespace();
                let labels = object
                    .labels()
                    .iter()
                    .any(|(key, value)| key.contains("danmu") || value.contains("danmu"));
                if (labels || name.contains("danmu") || namespace.as_deref() == Some(RELEASE))
                    && !is_expected(&resource.kind, &name)
                {
                    left.push(format!("{} {}/{name}", resource.kind, namespace.unwrap_or_default()));
                }
            }
        }
    }
    Ok(left)
}

/// The definitions with their release, the users' rooms, and what every namespace has.
fn is_expected(kind: &str, name: &str) -> bool {
    match kind {
        "CustomResourceDefinition" | "APIService" => name.ends_with("danmu.live"),
        "Secret" => name.starts_with("sh.helm.release.v1.danmu-crds."),
        "DanmuRoom" => true,
        "Namespace" => name == RELEASE,
        "ServiceAccount" => name == "default",
        "ConfigMap" => name == "kube-root-ca.crt",
        // News of what has gone is kept for an hour.
        "Event" => true,
        _ => false,
    }
}
