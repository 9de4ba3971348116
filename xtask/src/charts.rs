//! `cargo xtask charts`: Helm's lint, every combination of values in `charts/danmu/ci` rendered, and what comes
//! out checked by kubeconform against the schemas of Kubernetes, Gateway API, Envoy Gateway and our own.
//! Not checked: ServiceMonitor and PrometheusRule, whose schemas no module brings; their expressions are, in
//! `metrics`.

#[cfg(test)]
mod metrics;
mod schemas;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    commands::{program, root, step},
    go::{self, HELM, Tool},
    server::target,
};

/// The newest Kubernetes that the charts are checked for, and the oldest they allow.
const KUBERNETES: [&str; 2] = [go::KUBERNETES, "1.32.0"];

const KUBECONFORM: Tool =
    Tool { name: "kubeconform", package: "github.com/yannh/kubeconform/cmd/kubeconform", version: "v0.8.0" };

/// Values that must be refused, each with the word that the refusal has.
const REFUSED: [(&str, &str); 4] = [
    ("operator.replica=3", "replica"),
    ("fleet.name=Not_A_Name", "fleet/name"),
    ("redis.url=redis://user:password@host", "redis/url"),
    ("gateway.envoyGateway.enabled=true", "gateway.name"),
];

pub(crate) fn run() -> Result<(), String> {
    let (helm, kubeconform) = (HELM.install()?, KUBECONFORM.install()?);
    let folder = target().join("charts");
    let schemas = schemas::write(&folder.join("schemas"))?;
    println!("==> charts");
    let rendered = folder.join("rendered");
    // What an earlier run left must not be checked instead.
    let _ = fs::remove_dir_all(&rendered);
    fs::create_dir_all(&rendered).map_err(|error| format!("{}: {error}", rendered.display()))?;
    let charts = root().join("charts");
    for kubernetes in KUBERNETES {
        for (chart, values) in combinations(&charts)? {
            let mut arguments = vec!["--kube-version".to_owned(), kubernetes.to_owned()];
            let mut name = chart.clone();
            if let Some(values) = values {
                name = format!("{name}-{}", values.file_stem().unwrap_or_default().to_string_lossy());
                arguments.extend(["--values".to_owned(), values.display().to_string()]);
            }
            output(
                Command::new(&helm).args(["lint", "--strict", &chart]).args(&arguments).current_dir(&charts),
            )?;
            let made = output(
                Command::new(&helm)
                    .args(["template", "ci", &chart, "--namespace", "live"])
                    .args(&arguments)
                    .current_dir(&charts),
            )?;
            let file = rendered.join(format!("{name}-{kubernetes}.yaml"));
            fs::write(&file, made).map_err(|error| format!("{}: {error}", file.display()))?;
        }
    }
    for (value, word) in REFUSED {
        refused(&helm, &charts, value, word)?;
    }
    let location = format!("{}/{{{{.ResourceKind}}}}{{{{.KindSuffix}}}}.json", schemas.display());
    let mut check = program(&kubeconform, &["-strict", "-summary", "-schema-location", &location], ".");
    check.args(["-skip", "ServiceMonitor,PrometheusRule"]).arg(&rendered);
    step("kubeconform", check)
}

/// Each chart with each of its files of values, and without one.
fn combinations(charts: &Path) -> Result<Vec<(String, Option<PathBuf>)>, String> {
    let mut all = vec![("danmu-crds".to_owned(), None), ("danmu".to_owned(), None)];
    for chart in ["danmu-crds", "danmu"] {
        let folder = charts.join(chart).join("ci");
        let files = fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        all.extend(files.flatten().map(|file| (chart.to_owned(), Some(file.path()))));
    }
    all.sort();
    Ok(all)
}

fn output(command: &mut Command) -> Result<String, String> {
    let told = format!("{command:?}");
    let output = command.output().map_err(|error| format!("{told}: {error}"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    Err(format!("{told}:\n{stdout}{}", String::from_utf8_lossy(&output.stderr)))
}

fn refused(helm: &Path, charts: &Path, value: &str, word: &str) -> Result<(), String> {
    let mut template = Command::new(helm);
    template.args(["template", "ci", "danmu", "--kube-version", KUBERNETES[0], "--set", value]);
    match output(template.current_dir(charts)) {
        Ok(_) => Err(format!("charts/danmu: --set {value} is taken; values.schema.json should refuse it")),
        Err(fault) if fault.lines().skip(1).any(|line| line.contains(word)) => Ok(()),
        Err(fault) => Err(format!("charts/danmu: --set {value} is refused for another reason: {fault}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(path: &str) -> String {
        fs::read_to_string(root().join("charts").join(path)).unwrap()
    }

    fn yaml(path: &str) -> Value {
        serde_saphyr::from_str(&read(path)).unwrap()
    }

    /// `a.b.c` of everything that is no map, or an empty one.
    fn leaves(path: &str, value: &Value, found: &mut Vec<String>) {
        match value.as_object().filter(|fields| !fields.is_empty()) {
            None => found.push(path.to_owned()),
            Some(fields) => {
                for (name, value) in fields {
                    leaves(&format!("{path}.{name}"), value, found);
                }
            }
        }
    }

    #[test]
    fn the_readme_of_a_chart_has_every_value() {
        for chart in ["danmu", "danmu-crds"] {
            let readme = read(&format!("{chart}/README.md"));
            let rows: String = readme.lines().filter(|line| line.starts_with("| `")).collect();
            let mut values = Vec::new();
            for (name, value) in yaml(&format!("{chart}/values.yaml")).as_object().unwrap() {
                leaves(name, value, &mut values);
            }
            for value in values {
                // Requests and limits, and labels with dots, stand in one row with what they are of.
                let known = value.split_inclusive('.').scan(String::new(), |path, part| {
                    path.push_str(part);
                    Some(path.trim_end_matches('.').to_owned())
                });
                let told = known.into_iter().any(|path| rows.contains(&format!("`{path}`")));
                assert!(told, "{chart}/README.md: no row of {value}");
            }
        }
    }

    #[test]
    fn charts_have_the_version_of_the_workspace() {
        for chart in ["danmu", "danmu-crds"] {
            let about = yaml(&format!("{chart}/Chart.yaml"));
            assert_eq!(about["version"], env!("CARGO_PKG_VERSION"), "{chart}");
            assert_eq!(about["appVersion"], env!("CARGO_PKG_VERSION"), "{chart}");
        }
    }
}
