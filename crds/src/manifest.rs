//! Reads a file of manifests, and tells everything that is wrong with it at once.

mod relations;

use std::sync::LazyLock;

use ipnet::IpNet;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube::CustomResourceExt;
use regex::Regex;
use serde_json::Value;

use crate::schema::{check, clipped};
use crate::{DanmuFleet, DanmuRoom};

/// The largest file of manifests, in bytes: what a ConfigMap holds.
pub const MAX_MANIFEST_BYTES: usize = 1 << 20;

/// More faults than anyone reads at once; the rest of a broken file is not told.
const MAX_FAULTS: usize = 50;

/// One document of a file of manifests.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "taken apart as soon as it is read")]
pub enum Manifest {
    /// A room.
    Room(DanmuRoom),
    /// A fleet.
    Fleet(DanmuFleet),
}

/// Whether `name` may name a room or a fleet: 1 to 63 of a-z, 0-9 and `-`, with no `-` at either end.
pub fn is_room_id(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The manifests in `yaml`, which may hold several documents; `file` only names it in the faults.
///
/// # Errors
/// Every fault of the file (the first 50), each as `file: field: what is wrong and what to do`. The field
/// starts with `document N` where the file has several documents.
pub fn parse_manifests(file: &str, yaml: &str) -> Result<Vec<Manifest>, Vec<String>> {
    if yaml.len() > MAX_MANIFEST_BYTES {
        return Err(vec![format!(
            "{file}: the whole file: has {} bytes; split it into files of at most {MAX_MANIFEST_BYTES}",
            yaml.len()
        )]);
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(yaml).map_err(|error| {
        let reason = error.without_snippet().to_string().replace(char::is_control, " ");
        vec![format!("{file}: the whole file: is not valid YAML ({reason}); correct it")]
    })?;
    let several = documents.len() > 1;
    let mut manifests = Vec::with_capacity(documents.len());
    let mut faults = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        let place = if several { format!("{file}: document {}: ", index + 1) } else { format!("{file}: ") };
        match manifest(document) {
            Ok(manifest) => manifests.push(manifest),
            Err(found) => faults.extend(found.into_iter().map(|fault| format!("{place}{fault}"))),
        }
    }
    faults.truncate(MAX_FAULTS);
    if faults.is_empty() { Ok(manifests) } else { Err(faults) }
}

const API_VERSION: &str = "danmu.live/v1alpha1";

static ROOM_SCHEMA: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(spec_schema::<DanmuRoom>);
static FLEET_SCHEMA: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(spec_schema::<DanmuFleet>);

/// The schema of `.spec`, as the API server has it.
fn spec_schema<K: CustomResourceExt>() -> Option<JSONSchemaProps> {
    let version = K::crd().spec.versions.into_iter().next()?;
    version.schema?.open_api_v3_schema?.properties?.remove("spec")
}

/// A CEL rule of the schema for the entries of a list, in the form for files. The tests hold the two
/// forms against each other.
struct EntryRule {
    holds: fn(&str) -> bool,
    fault: &'static str,
}

const NETWORK: EntryRule = EntryRule {
    holds: is_network,
    fault: "is not a network; write one such as 203.0.113.0/24, or /32 for one address",
};
const ORIGIN: EntryRule = EntryRule {
    holds: is_origin,
    fault: "is not an origin; write one such as https://example.com, https://*.example.com, null or *, in lower case and without a path",
};
const RULES: [(&str, &EntryRule); 4] = [
    ("spec.moderation.bannedNetworks", &NETWORK),
    ("spec.defaults.moderation.bannedNetworks", &NETWORK),
    ("spec.server.trustedProxies", &NETWORK),
    ("spec.server.allowedOrigins", &ORIGIN),
];

/// What `isCIDR` of CEL takes: no IPv4 address in IPv6 form, so that no ban has two forms, and no leading
/// zeros.
fn is_network(text: &str) -> bool {
    let zeros = text.rsplit_once('/').is_some_and(|(_, bits)| bits.len() > 1 && bits.starts_with('0'));
    !zeros
        && text.parse::<IpNet>().is_ok_and(|network| match network {
            IpNet::V4(_) => true,
            IpNet::V6(network) => network.addr().to_ipv4_mapped().is_none(),
        })
}

/// What an entry of `allowedOrigins` looks like, for CEL (RE2) and for [`is_origin`] alike: an origin, every
/// host under a domain, `null` or `*`. The server reads more (upper case, IPv6), but nothing less.
pub(crate) const ORIGIN_PATTERN: &str = r"^([*]|null|([a-z][a-z0-9+.-]*://|([a-z][a-z0-9+.-]*://)?[*][.])[a-z0-9][a-z0-9._-]*(:([0-9]{1,4}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)$";

static ORIGIN_REGEX: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(ORIGIN_PATTERN).ok());

/// Whether `text` may stand in `allowedOrigins`.
pub fn is_origin(text: &str) -> bool {
    ORIGIN_REGEX.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

/// An `https` address as servers read key sets from, for CEL (RE2) and for [`is_https`] alike: a user in it would be
/// told to whoever may read the fleet.
pub(crate) const HTTPS_PATTERN: &str = r"^https://[a-zA-Z0-9][a-zA-Z0-9._-]*(:[0-9]{1,5})?([/?][!-~]*)?$";

static HTTPS_REGEX: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(HTTPS_PATTERN).ok());

/// Whether `text` may be the address of a key set.
fn is_https(text: &str) -> bool {
    HTTPS_REGEX.as_ref().is_some_and(|pattern| pattern.is_match(text))
}

fn manifest(document: Value) -> Result<Manifest, Vec<String>> {
    let Value::Object(fields) = &document else {
        return Err(vec!["the document: is not a manifest; start it with apiVersion and kind".to_owned()]);
    };
    let mut faults = Vec::new();
    if fields.get("apiVersion").and_then(Value::as_str) != Some(API_VERSION) {
        faults.push(format!("apiVersion: is not known; write {API_VERSION}"));
    }
    for unknown in fields
        .keys()
        .filter(|name| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "spec" | "status"))
    {
        faults.push(format!("{}: is no field; remove it", clipped(unknown).escape_debug()));
    }
    if !document.pointer("/metadata/name").and_then(Value::as_str).is_some_and(is_room_id) {
        faults.push("metadata.name: is missing or not allowed; write 1 to 63 of a-z, 0-9 and -, with no - at either end".to_owned());
    }
    let (room, schema) = match fields.get("kind").and_then(Value::as_str) {
        Some("DanmuRoom") => (true, &ROOM_SCHEMA),
        Some("DanmuFleet") => (false, &FLEET_SCHEMA),
        _ => {
            faults.push("kind: is not known; write DanmuRoom or DanmuFleet".to_owned());
            return Err(faults);
        }
    };
    let name = document.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if !room && (name.ends_with("-pods") || name.ends_with("-admin")) {
        faults.push("metadata.name: ends in -pods or -admin; write another, its Service would be taken for another fleet's".to_owned());
    }
    match (fields.get("spec"), schema.as_ref()) {
        (Some(spec), Some(schema)) => check(schema, spec, "spec", &mut faults),
        _ => faults.push("spec: is missing; add it, `spec: {}` takes every default".to_owned()),
    }
    for (list, rule) in RULES {
        check_entries(&document, list, rule, &mut faults);
    }
    if !faults.is_empty() {
        return Err(faults);
    }
    let read = if room {
        serde_json::from_value(document).map(Manifest::Room)
    } else {
        serde_json::from_value(document).map(Manifest::Fleet)
    };
    let manifest =
        read.map_err(|error| vec![format!("the document: cannot be read ({error}); correct it")])?;
    let faults = match &manifest {
        Manifest::Room(room) => relations::of_room(&room.spec),
        Manifest::Fleet(fleet) => relations::of_fleet(&fleet.spec),
    };
    if faults.is_empty() { Ok(manifest) } else { Err(faults) }
}

fn check_entries(document: &Value, list: &str, rule: &EntryRule, faults: &mut Vec<String>) {
    let pointer = format!("/{}", list.replace('.', "/"));
    let entries = document.pointer(&pointer).and_then(Value::as_array);
    for (index, entry) in entries.into_iter().flatten().enumerate() {
        if let Some(text) = entry.as_str().filter(|text| !(rule.holds)(text)) {
            faults.push(format!("{list}[{index}]: {:?} {}", clipped(text), rule.fault));
        }
    }
}

#[cfg(test)]
mod tests;
