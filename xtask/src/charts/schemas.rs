//! JSON schemas for kubeconform, from what the authors publish with their Go modules: Kubernetes' OpenAPI
//! document, and the CustomResourceDefinitions of Gateway API, Envoy Gateway and our own.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value, json};

use crate::{
    commands::root,
    go::{ENVOY_GATEWAY, GATEWAY_API, KUBERNETES, module},
};

/// Modules with the folder of their definitions.
const DEFINITIONS: [(&str, &str); 2] =
    [(GATEWAY_API, "config/crd/standard"), (ENVOY_GATEWAY, "charts/gateway-helm/charts/crds/crds/generated")];

/// Writes one file a kind, and returns the folder.
pub(super) fn write(folder: &Path) -> Result<PathBuf, String> {
    println!("==> schemas of Kubernetes {KUBERNETES}, Gateway API, Envoy Gateway");
    let folder = std::path::absolute(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let openapi = module(&format!("k8s.io/kubernetes@v{KUBERNETES}"))?.join("api/openapi-spec/swagger.json");
    let mut kinds = of_openapi(&serde_json::from_str(&read(&openapi)?).map_err(in_file(&openapi))?);
    let mut folders = vec![root().join("crds")];
    for (name, folder) in DEFINITIONS {
        folders.push(module(name)?.join(folder));
    }
    for folder in folders {
        let files = fs::read_dir(&folder).map_err(in_file(&folder))?;
        for path in files
            .flatten()
            .map(|file| file.path())
            .filter(|path| path.extension().is_some_and(|e| e == "yaml"))
        {
            let documents: Vec<Value> = serde_saphyr::from_multiple(&read(&path)?).map_err(in_file(&path))?;
            // Gateway API has a policy among its definitions; it has no versions, and so no schema.
            kinds.extend(documents.iter().flat_map(of_definition));
        }
    }
    for (name, schema) in kinds {
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, schema.to_string()).map_err(in_file(&path))?;
    }
    Ok(folder)
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(in_file(path))
}

fn in_file<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> String {
    move |error| format!("{}: {error}", path.display())
}

/// As kubeconform's `{{.ResourceKind}}{{.KindSuffix}}` has it: of the group, the first label only.
fn name(kind: &str, group: &str, version: &str) -> String {
    let group = group.split('.').next().filter(|group| !group.is_empty());
    [Some(kind), group, Some(version)].into_iter().flatten().collect::<Vec<_>>().join("-").to_lowercase()
}

/// A schema for each kind of an OpenAPI 2 document, with the definitions that it needs.
fn of_openapi(document: &Value) -> Vec<(String, Value)> {
    let Some(definitions) = document["definitions"].as_object() else { return Vec::new() };
    let mut strict: Map<String, Value> =
        definitions.iter().map(|(name, schema)| (name.clone(), strict(schema))).collect();
    // Written as a string there; `cpu: 1` is as good.
    strict.insert(
        "io.k8s.apimachinery.pkg.api.resource.Quantity".into(),
        json!({"type": ["string", "number"]}),
    );
    let mut kinds = Vec::new();
    for (definition, schema) in definitions {
        // DeleteOptions and such have many; nobody applies them.
        let [kind] = schema["x-kubernetes-group-version-kind"].as_array().map_or(&[][..], Vec::as_slice)
        else {
            continue;
        };
        let (mut todo, mut needed) = (vec![definition.clone()], BTreeSet::new());
        while let Some(next) = todo.pop() {
            if needed.insert(next.clone()) {
                references(&strict[&next], &mut todo);
            }
        }
        let text = |field: &str| kind[field].as_str().unwrap_or_default();
        let needed: Map<_, _> =
            needed.into_iter().map(|name| (name.clone(), strict[&name].clone())).collect();
        let schema = json!({"$ref": format!("#/definitions/{definition}"), "definitions": needed});
        kinds.push((name(text("kind"), text("group"), text("version")), schema));
    }
    kinds
}

/// A schema for each version of a CustomResourceDefinition.
fn of_definition(definition: &Value) -> Vec<(String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let spec = &definition["spec"];
    let kind = text(&spec["names"]["kind"]);
    let versions = spec["versions"].as_array().map_or(&[][..], Vec::as_slice);
    versions
        .iter()
        .map(|version| {
            let mut schema = version["schema"]["openAPIV3Schema"].clone();
            if let Some(fields) = schema["properties"].as_object_mut() {
                // What every object has besides.
                for (field, kind) in [("apiVersion", "string"), ("kind", "string"), ("metadata", "object")] {
                    fields.insert(field.into(), json!({"type": kind}));
                }
            }
            (name(&kind, &text(&spec["group"]), &text(&version["name"])), strict(&schema))
        })
        .collect()
}

/// The same schema, in JSON Schema's words, that refuses fields it does not know.
fn strict(schema: &Value) -> Value {
    let fields = match schema {
        Value::Array(list) => return list.iter().map(strict).collect(),
        Value::Object(fields) => fields,
        other => return other.clone(),
    };
    let is = |field: &str| fields.get(field).is_some_and(|value| *value == true);
    if fields.get("format").is_some_and(|format| format == "int-or-string")
        || is("x-kubernetes-int-or-string")
    {
        return json!({"type": ["string", "integer"]});
    }
    // Fields may be called like a keyword (those of CustomResourceDefinitions are): then they have a schema.
    let is_keyword = |field: &str, value: &Value| {
        !value.is_object() && (field.starts_with("x-kubernetes-") || field == "nullable")
    };
    let mut made: Map<String, Value> = fields
        .iter()
        .filter(|(field, value)| !is_keyword(field, value))
        .map(|(field, value)| (field.clone(), strict(value)))
        .collect();
    let Some(kind) = fields.get("type").and_then(Value::as_str) else { return Value::Object(made) };
    if is("nullable") {
        made.insert("type".into(), json!([kind, "null"]));
    }
    let open = is("x-kubernetes-preserve-unknown-fields") || is("x-kubernetes-embedded-resource");
    if fields.contains_key("properties") && !open {
        made.entry("additionalProperties").or_insert(false.into());
    }
    Value::Object(made)
}

fn references(schema: &Value, found: &mut Vec<String>) {
    match schema {
        Value::Array(list) => list.iter().for_each(|schema| references(schema, found)),
        Value::Object(fields) => {
            if let Some(name) =
                fields.get("$ref").and_then(Value::as_str).and_then(|it| it.strip_prefix("#/definitions/"))
            {
                found.push(name.to_owned());
            }
            fields.values().for_each(|schema| references(schema, found));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_has_the_definitions_that_it_needs_and_no_others() {
        let gvk = json!([{"group": "apps", "version": "v1", "kind": "Thing"}]);
        let document = json!({"definitions": {
            "Thing": {"type": "object", "x-kubernetes-group-version-kind": gvk,
                      "properties": {"part": {"$ref": "#/definitions/Part"}, "port": {"type": "string", "format": "int-or-string"}}},
            "Part": {"type": "object", "properties": {"name": {"type": "string"}}},
            "Other": {"type": "object"},
        }});
        let kinds = of_openapi(&document);
        assert_eq!(kinds.len(), 1);
        let (name, schema) = &kinds[0];
        assert_eq!(name, "thing-apps-v1");
        assert_eq!(schema["definitions"].as_object().unwrap().keys().collect::<Vec<_>>(), ["Part", "Thing"]);
        let thing = &schema["definitions"]["Thing"];
        assert_eq!(thing["additionalProperties"], false);
        assert_eq!(thing["properties"]["port"]["type"], json!(["string", "integer"]));
    }

    #[test]
    fn our_own_kinds_refuse_a_field_they_do_not_know() {
        let text = fs::read_to_string(root().join("crds/danmurooms.yaml")).unwrap();
        let kinds = of_definition(&serde_saphyr::from_str(&text).unwrap());
        let (name, schema) = &kinds[0];
        assert_eq!(name, "danmuroom-danmu-v1alpha1");
        assert_eq!(schema["properties"]["spec"]["additionalProperties"], false);
        assert_eq!(schema["properties"]["metadata"], json!({"type": "object"}));
    }
}
