//! The figures, for people and for machines.

use serde_json::{Value, json};

use super::statistics::Middle;

/// One figure.
#[derive(Clone, Debug)]
pub(super) struct Row {
    scenario: &'static str,
    what: String,
    /// The figure; `None` is a scenario that failed.
    value: Option<Middle>,
    /// More than one measurement is behind it.
    has_interval: bool,
    unit: &'static str,
    /// At most.
    goal: Option<f64>,
    /// Said beside it.
    note: String,
    /// Something was lost, or could not be measured.
    broken: bool,
}

impl Row {
    /// A figure of several measurements; those that could not be made are not in it.
    pub(super) fn new(scenario: &'static str, what: &str, values: &[f64], unit: &'static str) -> Row {
        Row {
            scenario,
            what: what.to_owned(),
            value: Middle::of(values),
            has_interval: values.len() > 1,
            unit,
            goal: None,
            note: String::new(),
            broken: values.is_empty(),
        }
    }

    /// A scenario without figures.
    pub(super) fn failed(scenario: &'static str, fault: &str) -> Row {
        Row { note: fault.to_owned(), ..Row::new(scenario, "FAILED", &[], "") }
    }

    /// It should be at most so much.
    pub(super) fn goal(mut self, goal: f64) -> Row {
        self.goal = Some(goal);
        self
    }

    /// Said beside it.
    pub(super) fn note(mut self, note: impl Into<String>) -> Row {
        self.note = note.into();
        self
    }

    /// Says what went wrong; nothing when nothing did.
    pub(super) fn problems(mut self, problems: &[String]) -> Row {
        if !problems.is_empty() {
            self.broken = true;
            let joint = if self.note.is_empty() { "" } else { "; " };
            self.note = format!("{}{joint}PROBLEM: {}", self.note, problems.join(", "));
        }
        self
    }

    /// Whether the benchmark itself went wrong, or something was lost.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    fn verdict(&self) -> &'static str {
        match (self.goal, self.value) {
            _ if self.broken => "BROKEN",
            (Some(goal), Some(value)) if value.median <= goal => "met",
            (Some(goal), Some(value)) if value.low <= goal => "open",
            (Some(_), Some(_)) => "missed",
            _ => "",
        }
    }

    fn cells(&self) -> [String; 6] {
        let number = |value: f64| match value.abs() {
            0.0..10.0 => format!("{value:.3}"),
            10.0..1000.0 => format!("{value:.1}"),
            _ => format!("{value:.0}"),
        };
        let shown =
            self.value.map_or_else(String::new, |value| format!("{} {}", number(value.median), self.unit));
        let interval = self
            .value
            .filter(|_| self.has_interval)
            .map_or_else(String::new, |value| format!("{}–{}", number(value.low), number(value.high)));
        let goal = self.goal.map_or_else(String::new, |goal| format!("≤ {goal}"));
        [self.scenario.to_owned(), self.what.clone(), shown, interval, goal, self.verdict().to_owned()]
    }
}

/// A table in columns.
pub(super) fn text(rows: &[Row]) -> String {
    let head = ["scenario", "figure", "median", "interval", "goal", ""].map(str::to_owned);
    let cells: Vec<[String; 6]> = std::iter::once(head).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let notes = std::iter::once("").chain(rows.iter().map(|row| row.note.as_str()));
    let lines = cells.iter().zip(notes).map(|(row, note)| {
        let padded = row.iter().zip(&widths).map(|(cell, width)| {
            let blanks = " ".repeat(width - cell.chars().count());
            format!("{cell}{blanks}  ")
        });
        format!("{}{note}", padded.collect::<String>()).trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// All of it as JSON.
pub(super) fn json(machine: &str, pairs: u32, rows: &[Row]) -> String {
    let rows: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "scenario": row.scenario,
                "figure": row.what,
                "median": row.value.map(|value| value.median),
                "low": row.value.map(|value| value.low),
                "high": row.value.map(|value| value.high),
                "unit": row.unit,
                "goal": row.goal,
                "verdict": row.verdict(),
                "note": row.note,
            })
        })
        .collect();
    format!("{:#}\n", json!({"machine": machine, "pairs": pairs, "rows": rows}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_missed_only_when_the_whole_interval_is_over_it() {
        let verdict = |values: &[f64]| Row::new("write", "ratio", values, "×").goal(1.08).verdict();
        assert_eq!(verdict(&[1.0, 1.05, 1.2]), "met");
        assert_eq!(verdict(&[1.0, 1.1, 1.2]), "open");
        assert_eq!(verdict(&[1.09, 1.1, 1.2]), "missed");
        assert_eq!(verdict(&[]), "BROKEN");
    }

    #[test]
    fn a_loss_is_told_whatever_the_figure() {
        let row = Row::new("write", "ratio", &[1.0], "×").goal(2.0).problems(&["3 lost".to_owned()]);
        assert!(row.is_broken());
        assert!(text(&[row]).contains("BROKEN  PROBLEM: 3 lost"));
    }
}
