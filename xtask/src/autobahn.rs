//! Autobahn's cases against the rows engine, compared with the results the tree expects.

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use serde::Deserialize;

use crate::{
    commands::{apt_get_install, cargo, exists, program, root, step},
    server::target,
};

const FOLDER: &str = "server/tests/autobahn";
/// Cases run at once; most of their time is waiting.
const AT_ONCE: &str = "4";

/// `expected.json`: every case is OK but the exceptions, each with its reason.
#[derive(Deserialize)]
struct Expected {
    /// The name in the echo's `Server` header, under which the runner files the results.
    agent: String,
    /// How many cases there are: none may go missing.
    cases: usize,
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    /// Cases, or whole groups as `12.*`.
    cases: Vec<String>,
    behavior: String,
    close: String,
    /// Why this is right, for readers.
    reason: String,
}

/// One line of the runner's `index.json`.
#[derive(Deserialize)]
struct Judged {
    behavior: String,
    #[serde(rename = "behaviorClose")]
    close: String,
}

type Report = BTreeMap<String, BTreeMap<String, Judged>>;

/// Runs all cases; fails on any that is not as expected.
pub(crate) fn run() -> Result<(), String> {
    let runner = runner()?;
    step("echo build", cargo(&["build", "--package", "danmu-server", "--example", "echo"]))?;
    let echo = Echo::start()?;
    let report = target().join("autobahn");
    let _ = fs::remove_dir_all(&report);
    println!("==> Autobahn's cases");
    // It ends with 1 when any case is not OK in its own eyes; the comparison below decides.
    let output = Command::new(&runner)
        .args(["--parallelism", AT_ONCE, "--outdir"])
        .arg(&report)
        .arg(&echo.address)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{}: {error}", runner.display()))?;
    drop(echo);
    let index = report.join("index.json");
    let judged: Report = read(&index).map_err(|fault| {
        format!("Autobahn's cases: {fault}; {}", String::from_utf8_lossy(&output.stderr).trim())
    })?;
    let expected: Expected = read(&root().join(FOLDER).join("expected.json"))?;
    let changed = compare(&expected, &judged);
    if changed.is_empty() {
        println!("    Autobahn's cases: {}, all as expected", expected.cases);
        return Ok(());
    }
    Err(format!("Autobahn's cases:\n  {}\nthe report: {}", changed.join("\n  "), report.display()))
}

/// What is not as expected, a line each.
fn compare(expected: &Expected, report: &Report) -> Vec<String> {
    let Some(judged) = report.get(&expected.agent) else {
        return vec![format!("the report has no results of {}", expected.agent)];
    };
    let mut changed = Vec::new();
    if judged.len() != expected.cases {
        changed.push(format!("{} cases were run, {} were expected", judged.len(), expected.cases));
    }
    for (case, result) in judged {
        let exception = expected.exceptions.iter().find(|exception| exception.covers(case));
        let wanted = exception.map_or(("OK", "OK"), |e| (e.behavior.as_str(), e.close.as_str()));
        let got = (result.behavior.as_str(), result.close.as_str());
        if got != wanted {
            let why = exception.map_or(String::new(), |exception| format!(" ({})", exception.reason));
            changed.push(format!("{case}: {}, close {}; expected {wanted:?}{why}", got.0, got.1));
        }
    }
    changed
}

impl Exception {
    fn covers(&self, case: &str) -> bool {
        self.cases.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(group) => case.starts_with(group),
            None => case == pattern,
        })
    }
}

fn read<T: for<'a> Deserialize<'a>>(file: &Path) -> Result<T, String> {
    let text = fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
    serde_json::from_slice(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// The runner's program, installed into a folder of its own when it is not there.
fn runner() -> Result<PathBuf, String> {
    // The name has the version of requirements.txt: a new one is installed beside it.
    let folder = target().join("tools/kosoku-0.1.0");
    let runner = folder.join("bin/kosoku");
    // A moved repository has the file, but its first line leads to where the interpreter was.
    if Command::new(&runner).arg("--help").output().is_ok_and(|output| output.status.success()) {
        return Ok(runner);
    }
    if !exists("python3") {
        apt_get_install(&["python3", "python3-venv"])?;
    }
    let path = folder.to_string_lossy();
    let venv = || program("python3", &["-m", "venv", "--clear", &path], ".");
    if step("Python environment", venv()).is_err() {
        // Debian keeps what this needs in a package of its own.
        apt_get_install(&["python3-venv"])?;
        step("Python environment", venv())?;
    }
    let requirements = format!("{FOLDER}/requirements.txt");
    let mut install = program(
        folder.join("bin/pip"),
        &["install", "--quiet", "--disable-pip-version-check", "--require-hashes", "--requirement"],
        ".",
    );
    install.arg(requirements);
    step("kosoku", install)?;
    Ok(runner)
}

/// The echo over the rows engine; ended when dropped.
struct Echo {
    child: Child,
    address: String,
}

impl Echo {
    fn start() -> Result<Echo, String> {
        let binary = target().join("debug/examples/echo");
        let mut child = Command::new(&binary)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{}: {error}", binary.display()))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        let address = line.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        let echo = Echo { child, address };
        if echo.address.starts_with("ws://") {
            Ok(echo)
        } else {
            Err("the echo did not start; its faults are above".into())
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(results: &[(&str, &str, &str)]) -> Vec<String> {
        let expected = Expected {
            agent: "us".into(),
            cases: 2,
            exceptions: vec![Exception {
                cases: vec!["12.*".into()],
                behavior: "UNIMPLEMENTED".into(),
                close: "OK".into(),
                reason: "not offered".into(),
            }],
        };
        let judged = results
            .iter()
            .map(|(case, behavior, close)| {
                ((*case).to_owned(), Judged { behavior: (*behavior).into(), close: (*close).into() })
            })
            .collect();
        compare(&expected, &BTreeMap::from([("us".to_owned(), judged)]))
    }

    #[test]
    fn results_as_expected_are_no_change() {
        assert!(changed(&[("1.1.1", "OK", "OK"), ("12.1.1", "UNIMPLEMENTED", "OK")]).is_empty());
    }

    #[test]
    fn a_worse_a_better_and_a_missing_case_are_changes() {
        assert_eq!(changed(&[("1.1.1", "FAILED", "OK"), ("12.1.1", "UNIMPLEMENTED", "OK")]).len(), 1);
        assert_eq!(changed(&[("1.1.1", "OK", "UNCLEAN"), ("12.1.1", "OK", "OK")]).len(), 2);
        assert_eq!(changed(&[("1.1.1", "OK", "OK")]).len(), 1);
        assert_eq!(
            compare(&Expected { agent: "us".into(), cases: 0, exceptions: vec![] }, &BTreeMap::new()).len(),
            1
        );
    }
}
