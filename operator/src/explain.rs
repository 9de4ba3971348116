//! `danmu-operator plan --from FILE`: what would be done about a saved observation, and why.

use std::{fs, io::Read, path::Path};

use danmu_plan::{Observation, plan};

/// The plan in sentences, or as JSON.
///
/// # Errors
/// What is wrong with the file, in words.
pub fn explain(file: &Path, json: bool) -> Result<String, String> {
    let place = file.display();
    let text = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        fs::read_to_string(file)
    };
    let text = text.map_err(|error| format!("{place}: cannot be read: {error}"))?;
    let observation: Observation = serde_json::from_str(&text).map_err(|error| {
        format!(
            "{place}: is no observation: {error}; an operator with DANMU_LOG=info,observation=debug logs them"
        )
    })?;
    let plan = plan(&observation);
    if json {
        return serde_json::to_string_pretty(&plan)
            .map(|text| text + "\n")
            .map_err(|error| error.to_string());
    }
    Ok(plan.reasons(&observation.fleet).iter().map(|line| format!("{line}\n")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAVED: &str = r#"{"now": "2026-11-01T18:00:00Z", "replicas": 0, "replicasSince": "2026-11-01T17:00:00Z",
        "fleet": {"name": "danmu-default", "viewersPerPod": 100, "replicas": {"min": 1, "max": 5},
            "headroomPercent": 20, "warmupSeconds": 300, "hotRoomViewers": 50, "maxHotRooms": 10, "drainSeconds": 60},
        "rooms": [{"name": "finals", "expectedViewers": 250}]}"#;

    #[test]
    fn a_saved_observation_is_explained_in_sentences() {
        let folder = std::env::temp_dir().join(format!("danmu-plan-{}", std::process::id()));
        fs::write(&folder, SAVED).unwrap();
        let told = explain(&folder, false).unwrap();
        let plan = explain(&folder, true).unwrap();
        fs::write(&folder, "{}").unwrap();
        let fault = explain(&folder, false).unwrap_err();
        fs::remove_file(&folder).unwrap();
        assert!(told.starts_with("replicas 3: 250 viewers need 3\n"), "{told}");
        assert!(told.contains("finals"), "{told}");
        assert!(serde_json::from_str::<danmu_plan::Plan>(&plan).is_ok());
        assert!(fault.contains("is no observation: missing field"), "{fault}");
    }
}
