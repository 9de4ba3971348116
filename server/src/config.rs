//! What the server is told at start: flags, each also an environment variable.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use clap::Args;
use ipnet::IpNet;

use crate::edge::{origin::Origins, token::Keys};

/// Flags of `danmu-server`.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Folder of DanmuRoom and DanmuFleet manifests, followed live
    #[arg(long, env = "DANMU_ROOMS", value_name = "DIR")]
    pub rooms: PathBuf,
    /// Address for viewers and the page
    #[arg(long, env = "DANMU_PUBLIC", default_value = "[::]:8080", value_name = "ADDR")]
    pub public: String,
    /// Address of the admin API; anything but loopback needs --admin-token
    #[arg(long, env = "DANMU_ADMIN", default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub admin: String,
    /// Bearer token of the admin API
    #[arg(long, env = "DANMU_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub admin_token: Option<String>,
    /// Most connections from one address (IPv6: one /64); 0 is no cap
    #[arg(long, env = "DANMU_PER_ADDRESS_CAP", default_value_t = 0, value_name = "N")]
    pub per_address_cap: usize,
    /// Upgrades let in per second; whoever is over it is told to come back later
    #[arg(long, env = "DANMU_UPGRADES_PER_SECOND", default_value_t = 3000, value_name = "N")]
    pub upgrades_per_second: u32,
    /// Networks of proxies whose X-Forwarded-For counts
    #[arg(long, env = "DANMU_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR")]
    pub trusted_proxies: Vec<String>,
    /// Pages that may connect; none: only pages of this host
    #[arg(long, env = "DANMU_ALLOWED_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub allowed_origins: Vec<String>,
    /// How long SIGTERM gives viewers to move
    #[arg(long, env = "DANMU_DRAIN_SECONDS", default_value_t = 60, value_name = "S")]
    pub drain_seconds: u64,
    /// Secret of HS256 tokens
    #[arg(long, env = "DANMU_TOKEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub token_secret: Option<String>,
    /// File with the public key (PEM) of EdDSA tokens
    #[arg(long, env = "DANMU_TOKEN_EDDSA", value_name = "FILE")]
    pub token_eddsa: Option<PathBuf>,
    /// File with the public key (PEM) of RS256 tokens
    #[arg(long, env = "DANMU_TOKEN_RS256", value_name = "FILE")]
    pub token_rs256: Option<PathBuf>,
    /// Least milliseconds between two flushes of a busy room
    #[arg(long, env = "DANMU_TICK_MS", default_value_t = 50, value_name = "MS")]
    pub tick_ms: u64,
    /// Threads that write to viewers; 0 is one a core
    #[arg(long, env = "DANMU_WORKERS", default_value_t = 0, value_name = "N")]
    pub workers: usize,
    /// File to write every flush down in, for `danmu-load floor --schedule`
    #[arg(long, value_name = "FILE", hide = true)]
    pub record_flushes: Option<PathBuf>,
}

/// Flags that hold together.
#[derive(Debug)]
pub struct Config {
    /// Address for viewers.
    pub public: SocketAddr,
    /// Address of the admin API.
    pub admin: SocketAddr,
    /// Proxies whose headers count.
    pub trusted: Vec<IpNet>,
    /// Pages that may connect.
    pub origins: Origins,
    /// Token keys.
    pub keys: Keys,
}

impl Flags {
    /// Checks all flags against each other.
    ///
    /// # Errors
    /// Every fault, in words.
    pub fn check(&self) -> Result<Config, Vec<String>> {
        let mut faults = Vec::new();
        let public = address("--public", &self.public, &mut faults);
        let admin = address("--admin", &self.admin, &mut faults);
        let token = self.admin_token.as_deref().unwrap_or_default();
        if admin.is_some_and(|admin| !admin.ip().to_canonical().is_loopback()) && token.is_empty() {
            faults.push(format!(
                "--admin: {} can be reached from elsewhere; set --admin-token or use a loopback address",
                self.admin
            ));
        }
        if self.upgrades_per_second == 0 {
            faults.push("--upgrades-per-second: 0 lets nobody in; use at least 1".to_owned());
        }
        if !(1..=3600).contains(&self.drain_seconds) {
            faults.push(format!("--drain-seconds: {} is not between 1 and 3600", self.drain_seconds));
        }
        if !(1..=1000).contains(&self.tick_ms) {
            faults.push(format!("--tick-ms: {} is not between 1 and 1000", self.tick_ms));
        }
        if self.workers > 256 {
            faults.push(format!("--workers: {} is more than 256", self.workers));
        }
        let trusted = self.trusted_proxies.iter().filter_map(|text| network(text, &mut faults)).collect();
        let origins = Origins::parse(&self.allowed_origins).map_err(|errors| {
            faults.extend(errors.into_iter().map(|error| format!("--allowed-origins: {error}")));
        });
        let keys = self.keys(&mut faults);
        match (public, admin, origins, keys) {
            (Some(public), Some(admin), Ok(origins), Some(keys)) if faults.is_empty() => {
                Ok(Config { public, admin, trusted, origins, keys })
            }
            _ => Err(faults),
        }
    }

    fn keys(&self, faults: &mut Vec<String>) -> Option<Keys> {
        let mut read = |flag: &str, file: &Option<PathBuf>| {
            file.as_ref().and_then(|file| {
                std::fs::read(file)
                    .map_err(|error| {
                        faults.push(format!("{flag}: {} cannot be read: {error}", file.display()));
                    })
                    .ok()
            })
        };
        let eddsa = read("--token-eddsa", &self.token_eddsa);
        let rs256 = read("--token-rs256", &self.token_rs256);
        let secret = self.token_secret.as_ref().map(String::as_bytes);
        if secret.is_some_and(|secret| secret.len() < 16) {
            faults.push("--token-secret: shorter than 16 bytes can be guessed; use a longer one".to_owned());
        }
        Keys::new(secret, eddsa.as_deref(), rs256.as_deref())
            .map_err(|error| faults.push(format!("token keys: {error}")))
            .ok()
    }
}

fn address(flag: &str, text: &str, faults: &mut Vec<String>) -> Option<SocketAddr> {
    text.parse()
        .map_err(|_| {
            faults.push(format!(
                "{flag}: `{text}` is no address; write for example 127.0.0.1:9090 or [::]:8080"
            ));
        })
        .ok()
}

fn network(text: &str, faults: &mut Vec<String>) -> Option<IpNet> {
    let alone = || text.parse::<IpAddr>().map(IpNet::from);
    text.parse::<IpNet>()
        .or_else(|_| alone())
        .map_err(|_| {
            faults.push(format!("--trusted-proxies: `{text}` is no network; write for example 10.0.0.0/8"));
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        flags: Flags,
    }

    fn faults(arguments: &[&str]) -> Vec<String> {
        let all = ["danmu-server", "--rooms", "."].iter().chain(arguments);
        Cli::parse_from(all).flags.check().err().unwrap_or_default()
    }

    #[test]
    fn the_defaults_hold_together() {
        assert_eq!(faults(&[]), Vec::<String>::new());
    }

    #[test]
    fn every_fault_is_told_in_one_go() {
        let told = faults(&[
            "--public=nowhere",
            "--admin=0.0.0.0:9090",
            "--trusted-proxies=10.0.0.0/99",
            "--drain-seconds=0",
            "--token-secret=short",
            "--token-eddsa=/does/not/exist",
        ]);
        for flag in
            ["--public", "--admin", "--trusted-proxies", "--drain-seconds", "--token-secret", "--token-eddsa"]
        {
            assert!(told.iter().any(|fault| fault.starts_with(flag)), "{flag}: {told:?}");
        }
    }

    #[test]
    fn an_admin_address_that_others_reach_needs_a_token() {
        assert_eq!(faults(&["--admin=0.0.0.0:9090"]).len(), 1);
        assert_eq!(faults(&["--admin=0.0.0.0:9090", "--admin-token=long-enough"]), Vec::<String>::new());
    }
}
