//! Checks a value against the schema that the API server enforces, so that a manifest read from a file
//! has the very ranges of one applied to a cluster: the numbers are written once, on the types.

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::Value;

/// Takes away formats of numbers that Rust has and Kubernetes does not know: it warns of each. Their ranges are written
/// beside them.
pub(crate) fn plain_numbers(schema: &mut schemars::Schema) {
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
        schema.remove("format");
    }
}

/// Adds to `faults` everything in `value` that `schema` forbids, each as `field: what is wrong`.
pub(crate) fn check(schema: &JSONSchemaProps, value: &Value, field: &str, faults: &mut Vec<String>) {
    if value.is_null() && schema.nullable == Some(true) {
        return;
    }
    if let Some(allowed) = &schema.enum_ {
        let names: Vec<&str> = allowed.iter().filter_map(|v| v.0.as_str()).collect();
        if !allowed.iter().any(|allowed| allowed.0 == *value) {
            faults.push(format!("{field}: is {}; write one of {}", told(value), names.join(", ")));
        }
        return;
    }
    match (schema.type_.as_deref(), value) {
        (Some("object"), Value::Object(_)) => object(schema, value, field, faults),
        (Some("array"), Value::Array(_)) => array(schema, value, field, faults),
        (Some("string"), Value::String(text)) => string(schema, text, field, faults),
        (Some("boolean"), Value::Bool(_)) => {}
        (Some("integer"), Value::Number(number)) if number.is_i64() || number.is_u64() => {
            integer(schema, number.as_f64().unwrap_or(f64::MAX), value, field, faults);
        }
        (Some(wanted), _) => {
            let quote = if wanted == "string" { " in quotes" } else { "" };
            faults.push(format!("{field}: is {}; write {}{quote}", told(value), kind(wanted)));
        }
        (None, _) => {}
    }
}

fn object(schema: &JSONSchemaProps, value: &Value, field: &str, faults: &mut Vec<String>) {
    let Some(fields) = value.as_object() else { return };
    if let Some(most) = schema.max_properties.filter(|most| fields.len() as i64 > *most) {
        faults.push(format!("{field}: has {} entries; keep at most {most}", fields.len()));
    }
    if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
        for (name, value) in fields {
            check(schema, value, &format!("{field}.{}", clipped(name).escape_debug()), faults);
        }
    }
    let Some(properties) = &schema.properties else { return };
    for (name, value) in fields {
        match properties.get(name) {
            Some(schema) => check(schema, value, &format!("{field}.{name}"), faults),
            None => {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                faults.push(format!(
                    "{field}.{}: is no field; remove it or write one of {}",
                    clipped(name).escape_debug(),
                    known.join(", ")
                ));
            }
        }
    }
    for missing in schema.required.iter().flatten().filter(|name| !fields.contains_key(*name)) {
        faults.push(format!("{field}.{missing}: is missing; add it"));
    }
}

fn array(schema: &JSONSchemaProps, value: &Value, field: &str, faults: &mut Vec<String>) {
    let Some(entries) = value.as_array() else { return };
    if let Some(most) = schema.max_items.filter(|most| entries.len() as i64 > *most) {
        faults.push(format!("{field}: has {} entries; keep at most {most}", entries.len()));
    }
    if schema.min_items.is_some_and(|least| (entries.len() as i64) < least) {
        faults.push(format!("{field}: is empty; write something or remove it"));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (index, entry) in entries.iter().enumerate() {
            check(schema, entry, &format!("{field}[{index}]"), faults);
        }
    }
}

fn string(schema: &JSONSchemaProps, text: &str, field: &str, faults: &mut Vec<String>) {
    let length = text.chars().count() as i64;
    if schema.min_length.is_some_and(|least| length < least) {
        faults.push(format!("{field}: is empty; write something or remove it"));
    }
    if let Some(most) = schema.max_length.filter(|most| length > *most) {
        faults.push(format!("{field}: has {length} characters; write at most {most}"));
    }
    if schema.format.as_deref() == Some("date-time") && text.parse::<Timestamp>().is_err() {
        faults.push(format!("{field}: is no moment; write one such as 2026-11-01T18:00:00Z"));
    }
}

fn integer(schema: &JSONSchemaProps, number: f64, value: &Value, field: &str, faults: &mut Vec<String>) {
    let least = schema.minimum.unwrap_or(f64::MIN);
    let most = schema.maximum.unwrap_or(f64::MAX);
    if number < least || number > most {
        faults.push(format!("{field}: is {value}; write a number from {least} to {most}"));
    }
}

fn kind(wanted: &str) -> &'static str {
    match wanted {
        "object" => "fields below it",
        "array" => "a list",
        "string" => "text",
        "integer" => "a whole number",
        "boolean" => "true or false",
        _ => "another kind of value",
    }
}

/// The value as a person would name it, cut so that a fault stays one line.
fn told(value: &Value) -> String {
    match value {
        Value::Null => "empty".to_owned(),
        Value::Object(_) => "a map of fields".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::String(text) => format!("{:?}", clipped(text)),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// At most 40 characters of text from a manifest.
pub(crate) fn clipped(text: &str) -> String {
    text.chars().take(40).collect()
}
