//! The StatefulSet of room servers, and what its pods need beside it.

use kube::ResourceExt;
use serde_json::{Value, json};

use super::{ADMIN_PORT, BuildError, Input, Object, PUBLIC, PUBLIC_PORT, services};
use crate::{kind::Kind, names, seen::Keys};

/// Longer than the server's own drain, so that the kubelet never kills a server that still moves its viewers.
const GRACE_SECONDS: u32 = 20;
/// Where the fleet's Secret is mounted.
const KEYS: &str = "/etc/danmu/keys";
/// An unprivileged user; the image needs no other.
const USER: u32 = 65_532;

pub(super) fn service_account(input: &Input<'_>) -> Object {
    input.object(Kind::ServiceAccount, input.name.to_owned(), json!({"automountServiceAccountToken": false}))
}

/// Lets the servers read their rooms, if the operator was told a role for that.
pub(super) fn role_binding(input: &Input<'_>) -> Option<Object> {
    let role = input.settings.server_role.as_ref()?;
    // A binding's role cannot be changed: another role, after a release by another name, is another binding.
    let name = format!("{}-{}", input.name, names::hash(role.as_bytes()));
    let subject = json!({"kind": "ServiceAccount", "name": input.name, "namespace": input.owner.namespace});
    let body = json!({
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [subject],
    });
    Some(input.object(Kind::RoleBinding, name, body))
}

/// One pod at a time may be evicted, by us or by a node's drain.
pub(super) fn disruption_budget(input: &Input<'_>) -> Object {
    let spec = json!({
        "maxUnavailable": 1,
        // A pod that never becomes Ready must not stop a node's drain.
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": names::selector(&input.owner.name)},
    });
    input.object(Kind::PodDisruptionBudget, input.name.to_owned(), json!({"spec": spec}))
}

pub(super) fn stateful_set(input: &Input<'_>) -> Result<Object, BuildError> {
    let seen = input.observation;
    let replicas = input.plan.replicas.now;
    let since = if replicas == seen.replicas { seen.replicas_since } else { seen.now };
    let spec = json!({
        "replicas": replicas,
        "serviceName": services::headless(input.name),
        // Pods need nothing of each other to start, and only we know when one may be replaced.
        "podManagementPolicy": "Parallel",
        "updateStrategy": {"type": "OnDelete"},
        "selector": {"matchLabels": names::selector(&input.owner.name)},
        "template": template(input)?,
    });
    let annotations = [(names::REPLICAS_SINCE, since.to_string())];
    Ok(input.labelled(Kind::StatefulSet, input.name.to_owned(), json!({"spec": spec}), &[], &annotations))
}

fn template(input: &Input<'_>) -> Result<Value, BuildError> {
    let fleet = &input.seen.fleet.spec;
    let pod = &fleet.pod;
    let mut annotations = pod.annotations.clone();
    annotations.insert(names::KEYS.to_owned(), input.seen.keys.version.clone());
    let metadata = json!({"labels": names::labels(&input.owner.name), "annotations": annotations});
    let volumes = json!([
        {"name": "keys", "secret": {"secretName": input.seen.keys.secret}},
    ]);
    let mut spec = json!({
        "serviceAccountName": input.name,
        "automountServiceAccountToken": input.settings.server_role.is_some(),
        "terminationGracePeriodSeconds": fleet.drain_seconds + GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": true, "runAsUser": USER, "runAsGroup": USER, "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [spread(input, "kubernetes.io/hostname"), spread(input, "topology.kubernetes.io/zone")],
        "containers": [container(input)?],
        "volumes": volumes,
    });
    if !pod.node_selector.is_empty() {
        spec["nodeSelector"] = json!(pod.node_selector);
    }
    if !pod.tolerations.is_empty() {
        spec["tolerations"] = json!(pod.tolerations);
    }
    if let Some(affinity) = &pod.affinity {
        spec["affinity"] = json!(affinity);
    }
    if !pod.image_pull_secrets.is_empty() {
        spec["imagePullSecrets"] = json!(pod.image_pull_secrets);
    }
    Ok(json!({"metadata": metadata, "spec": spec}))
}

fn spread(input: &Input<'_>, key: &str) -> Value {
    json!({
        "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": names::selector(&input.owner.name)},
    })
}

fn container(input: &Input<'_>) -> Result<Value, BuildError> {
    let fleet = &input.seen.fleet.spec;
    let image = fleet.image.as_ref().or(input.settings.server_image.as_ref()).ok_or(BuildError::NoImage)?;
    let probe = |path: &str, period: u32, failures: u32| {
        json!({
            "httpGet": {"path": path, "port": "admin"},
            "periodSeconds": period, "timeoutSeconds": 2, "failureThreshold": failures,
        })
    };
    let mut container = json!({
        "name": "server",
        "image": image,
        "args": args(input),
        "env": env(input),
        "ports": [
            {"name": PUBLIC, "containerPort": PUBLIC_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "startupProbe": probe("/livez", 1, 60),
        "livenessProbe": probe("/livez", 10, 6),
        // A draining server is not Ready; its endpoints should know soon.
        "readinessProbe": probe("/readyz", 2, 2),
        "securityContext": {
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [
            {"name": "keys", "mountPath": KEYS, "readOnly": true},
        ],
    });
    if let Some(resources) = &fleet.resources {
        container["resources"] = json!(resources);
    }
    Ok(container)
}

/// Flags rather than variables, so that `kubectl describe` shows them; secrets are variables.
fn args(input: &Input<'_>) -> Vec<String> {
    let fleet = &input.seen.fleet;
    // What the fleet says of its servers they read themselves and take up live: as flags it would be a
    // rollout at each edit.
    let mut args = vec![
        "--kubernetes".to_owned(),
        format!("--public=[::]:{PUBLIC_PORT}"),
        format!("--admin=[::]:{ADMIN_PORT}"),
        format!("--fleet={}/{}", input.owner.namespace, fleet.name_any()),
    ];
    let Keys { eddsa, rs256, jwks, .. } = input.seen.keys;
    let key_set = fleet.spec.auth.as_ref().and_then(|auth| auth.jwks.as_ref());
    let files = [
        ("--token-eddsa", "eddsa.pem", eddsa),
        ("--token-rs256", "rs256.pem", rs256),
        // A server takes one key set; that there are two is told by `Degraded`.
        ("--token-jwks", "jwks.json", jwks && key_set.is_none()),
    ];
    for (flag, file, there) in files {
        if there {
            args.push(format!("{flag}={KEYS}/{file}"));
        }
    }
    if let Some(key_set) = key_set {
        let told = [
            ("--token-jwks", Some(&key_set.url)),
            ("--token-audience", key_set.audience.as_ref()),
            ("--token-issuer", key_set.issuer.as_ref()),
        ];
        args.extend(
            told.into_iter().filter_map(|(flag, value)| Some(format!("{flag}={}", verbatim(value?)))),
        );
    }
    if fleet.spec.redis.as_ref().is_some_and(|redis| redis.cluster) {
        args.push("--redis-cluster".to_owned());
    }
    args
}

/// The kubelet puts variables in place of `$(NAME)` in arguments; `$$` is a `$`.
fn verbatim(value: &str) -> String {
    value.replace('$', "$$")
}

fn env(input: &Input<'_>) -> Vec<Value> {
    let keys = &input.seen.keys;
    let secret = |name: &str, secret: &str, key: &str| json!({"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}});
    let mut env = vec![
        secret("DANMU_ADMIN_TOKEN", &keys.secret, crate::keys::ADMIN_TOKEN),
        json!({"name": "DANMU_POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
    ];
    if keys.hs256 {
        env.push(secret("DANMU_TOKEN_SECRET", &keys.secret, crate::keys::TOKEN_SECRET));
    }
    if keys.hooks {
        env.push(secret("DANMU_HOOK_SECRET", &keys.secret, crate::keys::HOOK_SECRET));
    }
    if let Some(redis) = &input.seen.fleet.spec.redis {
        match (&redis.secret_ref, &redis.url) {
            (Some(entry), _) => {
                env.push(secret("DANMU_REDIS", &entry.name, &entry.key));
            }
            (None, Some(address)) => env.push(json!({"name": "DANMU_REDIS", "value": address})),
            (None, None) => {}
        }
    }
    env
}
