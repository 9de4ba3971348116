//! What a red run leaves behind to look at.

use std::{
    fs::{self, File},
    path::Path,
    process::Stdio,
};

use super::{Cluster, kubectl};

/// Kinds that tell what happened; no Secrets.
const OBJECTS: &str = "nodes,pods,services,endpointslices,statefulsets,deployments,replicasets,\
                       controllerrevisions,poddisruptionbudgets,configmaps,leases,networkpolicies";
/// Those that are there only once their definitions are.
const CUSTOM_OBJECTS: [&str; 4] = [
    "danmurooms,danmufleets",
    "gatewayclasses,gateways,httproutes",
    "backendtrafficpolicies,clienttrafficpolicies,envoyproxies",
    "ingresses",
];

/// Writes as much as can be had: that something is missing must not hide the rest.
pub(super) fn collect(cluster: &dyn Cluster, folder: &Path) {
    println!("==> logs, events and objects are collected");
    let (pods, components) = (folder.join("pods"), folder.join("components"));
    for folder in [&pods, &components] {
        if let Err(error) = fs::create_dir_all(folder) {
            println!("    {}: {error}", folder.display());
        }
    }
    cluster.write_logs(&components);
    let write = |name: &str, arguments: &[&str]| {
        let Ok(file) = File::create(folder.join(name)) else { return };
        let Ok(faults) = file.try_clone() else { return };
        let mut command = kubectl(cluster, arguments);
        // The API server may be what is broken.
        command.arg("--request-timeout=20s").stdout(file).stderr(Stdio::from(faults));
        let _ = command.status();
    };
    write("overview.txt", &["get", "pods,danmurooms,danmufleets", "--all-namespaces", "--output=wide"]);
    write("events.txt", &["get", "events", "--all-namespaces", "--sort-by=.metadata.creationTimestamp"]);
    write("descriptions.txt", &["describe", "nodes,pods", "--all-namespaces"]);
    write("objects.yaml", &["get", OBJECTS, "--all-namespaces", "--output=yaml"]);
    for kinds in CUSTOM_OBJECTS {
        let name = kinds.split(',').next().unwrap_or(kinds);
        write(&format!("{name}.yaml"), &["get", kinds, "--all-namespaces", "--output=yaml"]);
    }
    for (namespace, pod) in running_pods(cluster) {
        for (ending, previous) in [("log", "--previous=false"), ("previous.log", "--previous=true")] {
            let name = format!("pods/{namespace}.{pod}.{ending}");
            let options = ["logs", "--all-containers", "--timestamps", "--prefix", previous];
            write(&name, &[&options[..], &["--namespace", &namespace, &pod]].concat());
        }
    }
}

/// Namespaces and names of all pods.
fn running_pods(cluster: &dyn Cluster) -> Vec<(String, String)> {
    let template = "{range .items[*]}{.metadata.namespace} {.metadata.name}{\"\\n\"}{end}";
    let template = format!("--output=jsonpath={template}");
    let mut list = kubectl(cluster, &["get", "pods", "--all-namespaces", "--request-timeout=20s", &template]);
    let output = list.output().map(|output| output.stdout).unwrap_or_default();
    let text = String::from_utf8_lossy(&output).into_owned();
    text.lines().filter_map(|line| line.split_once(' ')).map(|(n, p)| (n.to_owned(), p.to_owned())).collect()
}
