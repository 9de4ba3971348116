//! The CustomResourceDefinitions as files: in `crds/` for `kubectl apply` and for review, and as templates of
//! the chart `danmu-crds`.

use std::{fs, path::Path};

use danmu_crds::{DanmuFleet, DanmuRoom};
use kube::CustomResourceExt;

const WRITTEN: &str = "# Written by `cargo xtask crds` from the types in crds/src; do not edit.\n";

/// What the chart adds to a definition's metadata.
const METADATA: &str = r#"  labels:
    app.kubernetes.io/part-of: danmu
    app.kubernetes.io/managed-by: {{ .Release.Service }}
  {{- if or .Values.keep .Values.annotations }}
  annotations:
    {{- if .Values.keep }}
    helm.sh/resource-policy: keep
    {{- end }}
    {{- with .Values.annotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- end }}
"#;

/// Writes the definitions below `root`, the repository's, or with `check` only compares them with what is there.
pub(crate) fn run(root: &Path, check: bool) -> Result<(), String> {
    let definitions = [("danmurooms.yaml", DanmuRoom::crd()), ("danmufleets.yaml", DanmuFleet::crd())];
    for (name, definition) in definitions {
        let yaml =
            serde_saphyr::to_string(&definition).map_err(|e| format!("{name}: cannot be made: {e}"))?;
        let template = template(&yaml).ok_or_else(|| format!("{name}: has no metadata.name"))?;
        write(&root.join("crds").join(name), &format!("{WRITTEN}{yaml}"), check)?;
        let templates = root.join("charts/danmu-crds/templates");
        write(&templates.join(name), &format!("{WRITTEN}{template}"), check)?;
    }
    Ok(())
}

fn write(path: &Path, text: &str, check: bool) -> Result<(), String> {
    if !check {
        fs::write(path, text).map_err(|e| format!("{}: cannot be written: {e}", path.display()))
    } else if fs::read_to_string(path).ok().as_deref() == Some(text) {
        Ok(())
    } else {
        Err(format!("{}: differs from the types; run `cargo xtask crds`", path.display()))
    }
}

/// The definition as a template of Helm's.
fn template(yaml: &str) -> Option<String> {
    // A description with braces is text, not a template.
    let yaml = yaml.replace("{{", r#"{{ "{{" }}"#);
    let name = yaml.find("\nmetadata:\n  name: ")? + "\nmetadata:\n".len();
    let end = name + yaml[name..].find('\n')? + 1;
    Some(format!("{}{METADATA}{}", &yaml[..end], &yaml[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::root;

    fn empty_repository() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["crds", "charts/danmu-crds/templates"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        dir
    }

    #[test]
    fn the_files_in_the_repository_are_those_of_the_types() {
        run(&root(), true).unwrap();
    }

    #[test]
    fn the_check_fails_on_a_file_that_is_missing_or_edited() {
        for file in ["crds/danmufleets.yaml", "charts/danmu-crds/templates/danmufleets.yaml"] {
            let dir = empty_repository();
            assert!(run(dir.path(), true).unwrap_err().contains("run `cargo xtask crds`"));
            run(dir.path(), false).unwrap();
            run(dir.path(), true).unwrap();
            fs::write(dir.path().join(file), "edited").unwrap();
            assert!(run(dir.path(), true).unwrap_err().contains(file));
        }
    }

    #[test]
    fn the_written_yaml_reads_back_as_the_definition() {
        let dir = empty_repository();
        run(dir.path(), false).unwrap();
        let text = fs::read_to_string(dir.path().join("crds/danmurooms.yaml")).unwrap();
        let read: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition =
            serde_saphyr::from_str(&text).unwrap();
        assert_eq!(read, DanmuRoom::crd());
    }

    #[test]
    fn braces_of_a_description_are_no_template() {
        let made =
            template("kind: X\nmetadata:\n  name: x\nspec:\n  description: such as {{ this }}\n").unwrap();
        assert!(made.contains("  name: x\n  labels:\n"), "{made}");
        assert!(made.ends_with("spec:\n  description: such as {{ \"{{\" }} this }}\n"), "{made}");
    }
}
