//! What the figures were measured on, and what Linux says of a process.

use std::fs;

/// The machine in one line.
pub(super) fn facts() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after_colon = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        line.and_then(|line| line.split_once(':').map(|(_, value)| value.trim().to_owned()))
    };
    let model = after_colon(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown CPU".to_owned());
    let memory = after_colon(&read("/proc/meminfo"), "MemTotal")
        .and_then(|total| total.trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kilobytes| kilobytes / 1024 / 1024);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{} cores of {model}, {memory} GiB, Linux {}, load before the start {}",
        cores(),
        kernel.trim(),
        load.split(' ').next().unwrap_or("?"),
    )
}

/// Cores that we may use.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// CPU seconds (user and system) a process has used; to a hundredth.
pub(super) fn cpu_seconds(id: u32) -> Result<f64, String> {
    let text =
        fs::read_to_string(format!("/proc/{id}/stat")).map_err(|error| format!("process {id}: {error}"))?;
    // The second field is the name in brackets, and may have blanks. USER_HZ is 100 on every Linux.
    let fields: Vec<&str> =
        text.rsplit_once(')').map_or("", |(_, rest)| rest).split_ascii_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
    match (ticks(11), ticks(12)) {
        (Some(user), Some(system)) => Ok((user + system) as f64 / 100.0),
        _ => Err(format!("process {id}: /proc/{id}/stat cannot be understood")),
    }
}

/// Resident bytes of a process.
pub(super) fn resident_bytes(id: u32) -> Result<u64, String> {
    let text =
        fs::read_to_string(format!("/proc/{id}/status")).map_err(|error| format!("process {id}: {error}"))?;
    text.lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| format!("process {id}: /proc/{id}/status has no VmRSS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_process_uses_memory_and_time() {
        let id = std::process::id();
        let before = cpu_seconds(id).unwrap();
        let mut sum = 0_u64;
        while cpu_seconds(id).unwrap() - before < 0.02 {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(resident_bytes(id).unwrap() > 100_000);
    }
}
