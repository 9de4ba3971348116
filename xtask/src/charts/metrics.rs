//! Alerts and dashboard ask for metrics that the server or the operator has, in PromQL that can be read.

use std::{collections::BTreeSet, fs, path::Path};

use promql_parser::{
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use regex::Regex;
use serde_json::Value;

use crate::commands::root;

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// The names that a scrape of the server or of the operator has, from the code that registers them.
fn exported() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    // Made from scratch at each scrape, by server/src/admin/collector.rs.
    let collector = read("server/src/admin/collector.rs");
    for (base, name) in [
        ("rooms", "danmu_rooms"),
        ("shedding_rooms", "danmu_shedding_rooms"),
        ("process_cpu", "process_cpu_seconds_total"),
        ("process_start_time", "process_start_time_seconds"),
        ("process_resident_memory", "process_resident_memory_bytes"),
        ("process_open_fds", "process_open_fds"),
        ("process_max_fds", "process_max_fds"),
    ] {
        assert!(collector.contains(&format!("\"{base}\"")), "{base} is not in collector.rs");
        names.insert(name.to_owned());
    }
    let key_set = read("server/src/edge/metrics.rs");
    for (base, name) in [
        ("token_keys", "danmu_token_keys"),
        ("token_key_reads", "danmu_token_key_reads_total"),
        ("token_key_read_failures", "danmu_token_key_read_failures_total"),
    ] {
        assert!(key_set.contains(&format!("\"{base}\"")), "{base} is not in metrics.rs");
        names.insert(name.to_owned());
    }
    for folder in fs::read_dir(root().join("server/src")).unwrap() {
        let file = folder.unwrap().path().join("metrics.rs");
        if file.exists() {
            names.extend(registered(&file, "danmu_"));
        }
    }
    names.extend(registered(&root().join("server/src/admin/quota.rs"), "danmu_"));
    names.extend(registered(&root().join("operator/src/metrics.rs"), "danmu_operator_"));
    names
}

/// `register("viewers", …, self.viewers.clone())`, with the kind from the field `viewers: Gauge<…>`.
fn registered(file: &Path, prefix: &str) -> Vec<String> {
    let code = fs::read_to_string(file).unwrap();
    let call = Regex::new(
        r#"register(?:_with_unit)?\(\s*"([a-z_]+)",\s*"[^"]*",\s*(?:Unit::(\w+),\s*)?self\.(\w+)\.clone\(\)"#,
    )
    .unwrap();
    let calls: Vec<_> = call.captures_iter(&code).collect();
    assert_eq!(
        calls.len(),
        code.matches("registry.register").count(),
        "{}: a call in another form",
        file.display()
    );
    let mut names = Vec::new();
    for call in calls {
        let unit = call.get(2).map_or(String::new(), |unit| format!("_{}", unit.as_str().to_lowercase()));
        let name = format!("{prefix}{}{unit}", &call[1]);
        let field =
            Regex::new(&format!(r"\b{}: (?:Family<\w+, )?(Counter|Gauge|Histogram)\b", &call[3])).unwrap();
        let kind =
            field.captures(&code).unwrap_or_else(|| panic!("{}: no field {}", file.display(), &call[3]));
        match &kind[1] {
            "Gauge" => names.push(name),
            "Counter" => names.push(format!("{name}_total")),
            _ => names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
        }
    }
    names
}

/// Expressions with where they are; and the names that rules record.
fn rules() -> (Vec<(String, String)>, BTreeSet<String>) {
    let rules: Value = serde_saphyr::from_str(&read("charts/danmu/files/rules.yaml")).unwrap();
    let (mut expressions, mut recorded) = (Vec::new(), BTreeSet::new());
    for rule in
        rules["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap())
    {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        expressions.push((name.to_owned(), rule["expr"].as_str().unwrap().to_owned()));
        recorded.extend(rule["record"].as_str().map(str::to_owned));
    }
    (expressions, recorded)
}

/// The expressions of the panels, and of the lists to choose from (`label_values(SELECTOR, LABEL)`).
fn dashboard(dashboard: &Value) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().unwrap().to_owned();
        panel["targets"].as_array().unwrap().iter().map(move |target| (title.clone(), &target["expr"]))
    });
    let lists = dashboard["templating"]["list"].as_array().unwrap().iter();
    let lists = lists.filter(|list| list["type"] == "query");
    let lists = lists.map(|list| (list["name"].as_str().unwrap().to_owned(), &list["definition"]));
    let chosen = Regex::new(r"^label_values\((.*), \w+\)$").unwrap();
    let plain = |text: &str| {
        let text = text.replace("$__rate_interval", "1m").replace(['$'], "");
        chosen.captures(&text).map_or(text.clone(), |list| list[1].to_owned())
    };
    targets.chain(lists).map(|(title, text)| (title, plain(text.as_str().unwrap()))).collect()
}

fn shipped_dashboard() -> Value {
    serde_json::from_str(&read("charts/danmu/files/dashboard.json")).unwrap()
}

#[derive(Default)]
struct Names(BTreeSet<String>);

impl ExprVisitor for Names {
    type Error = String;

    fn pre_visit(&mut self, expression: &Expr) -> Result<bool, String> {
        let selector = |selector: &VectorSelector| selector.name.clone();
        self.0.extend(match expression {
            Expr::VectorSelector(it) => selector(it),
            Expr::MatrixSelector(it) => selector(&it.vs),
            _ => None,
        });
        Ok(true)
    }
}

fn asked_for(expression: &str) -> BTreeSet<String> {
    let parsed = parser::parse(expression).unwrap_or_else(|fault| panic!("{expression}: {fault}"));
    let mut names = Names::default();
    walk_expr(&mut names, &parsed).unwrap();
    names.0
}

/// What these expressions ask for that is not there, each as `place: name`.
fn unknown(expressions: &[(String, String)], known: &BTreeSet<String>) -> Vec<String> {
    let of = |(place, expression): &(String, String)| {
        let names = asked_for(expression);
        assert!(!names.is_empty(), "{place}: asks for nothing");
        names.difference(known).map(|name| format!("{place}: {name}")).collect::<Vec<_>>()
    };
    expressions.iter().flat_map(of).collect()
}

#[test]
fn alerts_and_dashboard_ask_for_what_there_is() {
    let (rules, recorded) = rules();
    let mut known = exported();
    known.extend(recorded);
    let panels = dashboard(&shipped_dashboard());
    assert!(rules.len() > 15 && panels.len() > 40, "{} rules, {} of panels", rules.len(), panels.len());
    assert_eq!(unknown(&rules, &known), Vec::<String>::new());
    assert_eq!(unknown(&panels, &known), Vec::<String>::new());
}

#[test]
fn a_panel_or_a_list_that_asks_for_what_nobody_has_is_told() {
    let known = exported();
    let mut changed = shipped_dashboard();
    let title = changed["panels"][7]["title"].as_str().unwrap().to_owned();
    changed["panels"][7]["targets"][2]["expr"] = "sum(rate(danmu_gone_total{pod=~\"$pod\"}[1m]))".into();
    changed["templating"]["list"][2]["definition"] = "label_values(danmu_also_gone, pod)".into();
    let told = unknown(&dashboard(&changed), &known);
    assert_eq!(told, [format!("{title}: danmu_gone_total"), "pod: danmu_also_gone".to_owned()]);
}

/// Panels neither share an id nor lie over each other.
#[test]
fn every_panel_has_a_place_of_its_own() {
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in shipped_dashboard()["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["title"]);
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + w <= 24, "{}", panel["title"]);
        for place in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{} lies over another", panel["title"]);
        }
    }
}

#[test]
fn the_names_are_those_of_a_scrape() {
    let known = exported();
    for name in [
        "danmu_viewers",
        "danmu_writes_total",
        "danmu_sent_bytes_total",
        "danmu_fan_out_latency_seconds_bucket",
        "danmu_refused_messages_total",
        "danmu_relay_degraded",
        "danmu_segment_write_seconds_bucket",
        "danmu_segment_lost_messages_total",
        "danmu_token_keys",
        "danmu_operator_leader",
        "danmu_operator_reconciles_total",
        "danmu_operator_plan_seconds_bucket",
    ] {
        assert!(known.contains(name), "{name}");
    }
    for name in ["danmu_viewers_total", "danmu_writes", "danmu_fan_out_latency_seconds"] {
        assert!(!known.contains(name), "{name}");
    }
}

#[test]
fn every_alert_says_what_is_wrong_and_what_to_do() {
    let rules: Value = serde_saphyr::from_str(&read("charts/danmu/files/rules.yaml")).unwrap();
    for rule in
        rules["groups"][0]["rules"].as_array().unwrap().iter().filter(|rule| rule["alert"].is_string())
    {
        for field in ["summary", "description"] {
            assert!(rule["annotations"][field].is_string(), "{}: no {field}", rule["alert"]);
        }
        assert!(
            matches!(rule["labels"]["severity"].as_str(), Some("critical" | "warning")),
            "{}",
            rule["alert"]
        );
    }
}
