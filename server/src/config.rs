//! What the server is told at start: flags, each also an environment variable.

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use ipnet::IpNet;

use crate::{
    edge::{
        origin::Origins,
        token::{Follow, Keys, Sources},
    },
    hooks::{self, Secret},
    relay::redis::Address,
    rows::Limits,
    traces,
};

/// Flags of `danmu-server`.
#[derive(Args, Clone, Debug)]
pub struct Flags {
    /// Folder of DanmuRoom and DanmuFleet manifests, followed live
    #[arg(long, env = "DANMU_ROOMS", value_name = "DIR")]
    pub rooms: Option<PathBuf>,
    /// Follow the rooms of --fleet in the Kubernetes API instead of a folder
    #[arg(long, env = "DANMU_KUBERNETES")]
    pub kubernetes: bool,
    /// Address for viewers and the page
    #[arg(long, env = "DANMU_PUBLIC", default_value = "[::]:8080", value_name = "ADDR")]
    pub public: String,
    /// Address of the admin API; anything but loopback needs --admin-token
    #[arg(long, env = "DANMU_ADMIN", default_value = "127.0.0.1:9090", value_name = "ADDR")]
    pub admin: String,
    /// Bearer token of the admin API
    #[arg(long, env = "DANMU_ADMIN_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub admin_token: Option<String>,
    /// Bearer token of /metrics; none: /metrics is open
    #[arg(long, env = "DANMU_METRICS_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub metrics_token: Option<String>,
    /// Most connections from one address (IPv6: one /64), 0 is no cap; wins over the DanmuFleet's perAddressCap
    #[arg(long, env = "DANMU_PER_ADDRESS_CAP", value_name = "N")]
    pub per_address_cap: Option<usize>,
    /// Upgrades let in per second, the rest is told to come back later; wins over the DanmuFleet's upgradesPerSecond
    #[arg(long, env = "DANMU_UPGRADES_PER_SECOND", value_name = "N")]
    pub upgrades_per_second: Option<u32>,
    /// Networks of proxies whose X-Forwarded-For counts, empty is none; wins over the DanmuFleet's trustedProxies
    #[arg(long, env = "DANMU_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR")]
    pub trusted_proxies: Option<Vec<String>>,
    /// Pages that may connect, empty is only pages of this host; wins over the DanmuFleet's allowedOrigins
    #[arg(long, env = "DANMU_ALLOWED_ORIGINS", value_delimiter = ',', value_name = "ORIGIN")]
    pub allowed_origins: Option<Vec<String>>,
    /// How long SIGTERM gives viewers to move; wins over the DanmuFleet's drainSeconds
    #[arg(long, env = "DANMU_DRAIN_SECONDS", value_name = "S")]
    pub drain_seconds: Option<u64>,
    /// Secret of HS256 tokens
    #[arg(long, env = "DANMU_TOKEN_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub token_secret: Option<String>,
    /// File with the public key (PEM) of EdDSA tokens
    #[arg(long, env = "DANMU_TOKEN_EDDSA", value_name = "FILE")]
    pub token_eddsa: Option<PathBuf>,
    /// File with the public key (PEM) of RS256 tokens
    #[arg(long, env = "DANMU_TOKEN_RS256", value_name = "FILE")]
    pub token_rs256: Option<PathBuf>,
    /// JSON Web Key Set of EdDSA, RS256 and ES256 tokens: https://…, http:// of this machine, or a file
    #[arg(long, env = "DANMU_TOKEN_JWKS", value_name = "URL|FILE")]
    pub token_jwks: Option<String>,
    /// Seconds between two readings of the key set; a key that is not known is looked for sooner
    #[arg(long, env = "DANMU_TOKEN_JWKS_SECONDS", default_value_t = 300, value_name = "S")]
    pub token_jwks_seconds: u64,
    /// Redis or Valkey for several pods, as redis://host:6379, rediss://… or redis+sentinel://host/service;
    /// without it this process is the whole fleet
    #[arg(long, env = "DANMU_REDIS", hide_env_values = true, value_name = "URL")]
    pub redis: Option<String>,
    /// The Redis address is that of a cluster (several URLs with commas between them are its seeds)
    #[arg(long, env = "DANMU_REDIS_CLUSTER")]
    pub redis_cluster: bool,
    /// File with the certificate (PEM) that signed the Redis server's, if the system does not know it
    #[arg(long, env = "DANMU_REDIS_CA", value_name = "FILE")]
    pub redis_ca: Option<PathBuf>,
    /// File in which what rooms record is kept; without it in Redis, or without that in memory
    #[arg(long, env = "DANMU_SEGMENTS", value_name = "FILE")]
    pub segments: Option<PathBuf>,
    /// The fleet's namespace and name, which all its pods share in Redis
    #[arg(long, env = "DANMU_FLEET", default_value = "local/default", value_name = "NAMESPACE/NAME")]
    pub fleet: String,
    /// This pod's name, by which the operator places rooms; without it viewers are not asked to move to a room's pods
    #[arg(long, env = "DANMU_POD", value_name = "NAME")]
    pub pod: Option<String>,
    /// Throw away what the log brings after a cut, and tell nobody: for the checker, which has to find it
    #[arg(long, hide = true)]
    pub no_recovery: bool,
    /// What the `aud` claim must have; none: `aud` is ignored
    #[arg(long, env = "DANMU_TOKEN_AUDIENCE", value_name = "NAME")]
    pub token_audience: Option<String>,
    /// What the `iss` claim must be; none: `iss` is ignored
    #[arg(long, env = "DANMU_TOKEN_ISSUER", value_name = "NAME")]
    pub token_issuer: Option<String>,
    /// Secret that requests of spec.hooks are signed with: whsec_… with base64, or 24 to 64 bytes
    #[arg(long, env = "DANMU_HOOK_SECRET", hide_env_values = true, value_name = "SECRET")]
    pub hook_secret: Option<String>,
    /// Least milliseconds between two flushes of a busy room
    #[arg(long, env = "DANMU_TICK_MS", default_value_t = 50, value_name = "MS")]
    pub tick_ms: u64,
    /// Threads that write to viewers; 0 is one a core
    #[arg(long, env = "DANMU_WORKERS", default_value_t = 0, value_name = "N")]
    pub workers: usize,
    /// Where traces of sampled messages go, as OTLP over HTTP: a collector such as http://collector:4318; none: no traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,
    /// One message in so many is traced, the same ones on all pods; 0 is none
    #[arg(long, env = "DANMU_TRACE_ONE_IN", default_value_t = 10_000, value_name = "N")]
    pub trace_one_in: u64,
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
    /// Proxies whose headers count, if flags name them.
    pub trusted: Option<Vec<IpNet>>,
    /// Pages that may connect, if flags name them.
    pub origins: Option<Origins>,
    /// Token keys.
    pub keys: Keys,
    /// Where Redis is; none for a process that is the whole fleet.
    pub redis: Option<Address>,
    /// Where traces go; none where nothing is traced.
    pub traces: Option<traces::Settings>,
    /// Limits of a connection; no flag sets them, tests shorten them.
    pub limits: Limits,
    /// The secret of hooks; no flag sets the rest, tests shorten it.
    pub hooks: hooks::Settings,
}

impl Flags {
    /// Checks all flags against each other.
    ///
    /// # Errors
    /// Every fault, in words.
    pub fn check(&self) -> Result<Config, Vec<String>> {
        let mut faults = Vec::new();
        match (&self.rooms, self.kubernetes) {
            (Some(_), false) | (None, true) => {}
            (None, false) => faults.push(
                "--rooms DIR is missing: a folder with DanmuRoom manifests (or --kubernetes in a cluster)"
                    .to_owned(),
            ),
            (Some(_), true) => {
                faults
                    .push("--rooms and --kubernetes: rooms come from one of both; leave one away".to_owned());
            }
        }
        let public = address("--public", &self.public, &mut faults);
        let admin = address("--admin", &self.admin, &mut faults);
        let token = self.admin_token.as_deref().unwrap_or_default();
        if admin.is_some_and(|admin| !admin.ip().to_canonical().is_loopback()) && token.is_empty() {
            faults.push(format!(
                "--admin: {} can be reached from elsewhere; set --admin-token or use a loopback address",
                self.admin
            ));
        }
        if self.metrics_token.as_deref() == Some("") {
            faults.push("--metrics-token: it is empty; leave it away for open /metrics".to_owned());
        }
        for (flag, token) in [("--admin-token", &self.admin_token), ("--metrics-token", &self.metrics_token)]
        {
            if token.as_deref().is_some_and(|token| !can_be_sent(token)) {
                faults.push(format!(
                    "{flag}: no request can carry it; use visible ASCII, without spaces at the ends"
                ));
            }
        }
        if self.upgrades_per_second == Some(0) {
            faults.push("--upgrades-per-second: 0 lets nobody in; use at least 1".to_owned());
        }
        if let Some(seconds) = self.drain_seconds.filter(|seconds| !(1..=3600).contains(seconds)) {
            faults.push(format!("--drain-seconds: {seconds} is not between 1 and 3600"));
        }
        if !(1..=1000).contains(&self.tick_ms) {
            faults.push(format!("--tick-ms: {} is not between 1 and 1000", self.tick_ms));
        }
        if self.workers > 256 {
            faults.push(format!("--workers: {} is more than 256", self.workers));
        }
        let trusted = given(self.trusted_proxies.as_deref())
            .map(|list| list.iter().filter_map(|text| network(text, &mut faults)).collect());
        let origins = given(self.allowed_origins.as_deref())
            .map(|list| Origins::parse(&list))
            .transpose()
            .map_err(|errors| {
                faults.extend(errors.into_iter().map(|error| format!("--allowed-origins: {error}")));
            });
        let keys = self.keys(&mut faults);
        let redis = self.redis(&mut faults);
        let hooks =
            hooks::Settings { secret: self.secret_of_hooks(&mut faults), ..hooks::Settings::default() };
        let traces = self.traces(&mut faults);
        if self.segments.is_some() && redis.is_some() {
            faults.push(
                "--segments and --redis: pods share what is recorded in Redis; leave --segments away"
                    .to_owned(),
            );
        }
        match (public, admin, origins, keys) {
            (Some(public), Some(admin), Ok(origins), Some(keys)) if faults.is_empty() => {
                let limits = Limits::default();
                Ok(Config { public, admin, trusted, origins, keys, redis, traces, limits, hooks })
            }
            _ => Err(faults),
        }
    }

    fn secret_of_hooks(&self, faults: &mut Vec<String>) -> Option<Secret> {
        let text = self.hook_secret.as_deref().filter(|text| !text.is_empty())?;
        Secret::parse(text).map_err(|fault| faults.push(format!("--hook-secret: {fault}"))).ok()
    }

    fn traces(&self, faults: &mut Vec<String>) -> Option<traces::Settings> {
        let endpoint = self.otlp_endpoint.as_ref().filter(|endpoint| !endpoint.is_empty())?;
        let one_in = NonZeroU64::new(self.trace_one_in)?;
        traces::Settings::parse(endpoint, one_in)
            .map_err(|fault| faults.push(format!("--otlp-endpoint: {fault}")))
            .ok()
    }

    fn redis(&self, faults: &mut Vec<String>) -> Option<Address> {
        let is_name = |name: &str| (1..=253).contains(&name.len()) && name.bytes().all(is_name_byte);
        if self.fleet.split_once('/').is_none_or(|(namespace, name)| !is_name(namespace) || !is_name(name)) {
            faults.push(format!("--fleet: `{}` is not of the form namespace/name", self.fleet));
        }
        let ca = self.redis_ca.as_ref().and_then(|file| {
            std::fs::read(file)
                .map_err(|error| {
                    faults.push(format!("--redis-ca: {} cannot be read: {error}", file.display()));
                })
                .ok()
        });
        let url = self.redis.as_ref().filter(|url| !url.is_empty())?;
        Address::parse(url, self.redis_cluster, ca)
            .map_err(|error| faults.push(format!("--redis: {error}")))
            .ok()
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
        for (flag, value) in
            [("--token-audience", &self.token_audience), ("--token-issuer", &self.token_issuer)]
        {
            if value.as_deref() == Some("") {
                faults
                    .push(format!("{flag}: it is empty, and no token would fit; leave it away to take any"));
            }
        }
        if !(10..=86_400).contains(&self.token_jwks_seconds) {
            faults.push(format!(
                "--token-jwks-seconds: {} is not between 10 and 86400",
                self.token_jwks_seconds
            ));
        }
        let follow = Follow { refresh: Duration::from_secs(self.token_jwks_seconds), ..Follow::default() };
        let sources = Sources {
            hs256_secret: self.token_secret.as_ref().map(String::as_bytes),
            eddsa_pem: eddsa.as_deref(),
            rs256_pem: rs256.as_deref(),
            jwks: self.token_jwks.as_deref().filter(|place| !place.is_empty()).map(|place| (place, follow)),
            audience: self.token_audience.as_deref(),
            issuer: self.token_issuer.as_deref(),
        };
        Keys::new(&sources).map_err(|all| faults.extend(all.iter().map(ToString::to_string))).ok()
    }
}

/// What Kubernetes names are made of; braces would break the hash tag of our keys.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-' || byte == b'.'
}

/// Whether `Authorization: Bearer` can hold it.
fn can_be_sent(token: &str) -> bool {
    token.trim() == token && token.chars().all(|c| c == ' ' || c.is_ascii_graphic())
}

/// A list that was given, which may be empty: `--trusted-proxies=` trusts none, whatever the manifest says.
fn given(list: Option<&[String]>) -> Option<Vec<String>> {
    list.map(|list| list.iter().filter(|entry| !entry.trim().is_empty()).cloned().collect())
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
            "--token-jwks=http://id.example.com/keys",
            "--token-jwks-seconds=1",
            "--hook-secret=short",
            "--otlp-endpoint=collector:4318",
        ]);
        for flag in [
            "--public",
            "--admin",
            "--trusted-proxies",
            "--drain-seconds",
            "--token-secret",
            "--token-eddsa",
            "--token-jwks:",
            "--otlp-endpoint",
            "--token-jwks-seconds",
            "--hook-secret",
        ] {
            assert!(told.iter().any(|fault| fault.starts_with(flag)), "{flag}: {told:?}");
        }
    }

    #[test]
    fn nothing_is_traced_without_an_endpoint_or_at_a_rate_of_none() {
        let traces = |arguments: &[&str]| {
            let all = ["danmu-server", "--rooms", "."].iter().chain(arguments);
            Cli::parse_from(all).flags.check().unwrap().traces.map(|settings| settings.one_in.get())
        };
        assert_eq!(traces(&["--otlp-endpoint="]), None);
        assert_eq!(traces(&["--otlp-endpoint=http://c:4318", "--trace-one-in=0"]), None);
        assert_eq!(traces(&["--otlp-endpoint=http://c:4318"]), Some(10_000));
    }

    #[test]
    fn a_list_that_is_given_empty_is_empty_and_one_that_is_not_given_is_the_manifests() {
        let config = |arguments: &[&str]| {
            let all = ["danmu-server", "--rooms", "."].iter().chain(arguments);
            Cli::parse_from(all).flags.check().unwrap()
        };
        assert_eq!(config(&[]).trusted, None);
        assert_eq!(config(&["--trusted-proxies="]).trusted, Some(Vec::new()));
        assert_eq!(config(&["--trusted-proxies=10.0.0.0/8,::1"]).trusted.unwrap().len(), 2);
    }

    #[test]
    fn an_admin_address_that_others_reach_needs_a_token() {
        assert_eq!(faults(&["--admin=0.0.0.0:9090"]).len(), 1);
        assert_eq!(faults(&["--admin=0.0.0.0:9090", "--admin-token=long-enough"]), Vec::<String>::new());
    }

    #[test]
    fn a_file_of_segments_is_for_a_process_that_is_alone() {
        assert_eq!(faults(&["--segments=a.redb"]), Vec::<String>::new());
        assert_eq!(faults(&["--segments=a.redb", "--redis=redis://127.0.0.1"]).len(), 1);
    }

    #[test]
    fn an_empty_metrics_token_is_no_open_door() {
        assert_eq!(faults(&["--metrics-token="]).len(), 1);
        assert_eq!(faults(&["--metrics-token=scraper"]), Vec::<String>::new());
    }

    #[test]
    fn a_bearer_token_that_no_header_can_carry_is_told() {
        for token in ["ends with a space ", "弾幕", "line\nbreak"] {
            let flags = [format!("--admin-token={token}"), format!("--metrics-token={token}")];
            assert_eq!(faults(&flags.each_ref().map(String::as_str)).len(), 2, "{token:?}");
        }
    }

    #[test]
    fn the_readme_has_every_flag_with_its_variable() {
        let readme = include_str!("../../README.md");
        let command = Flags::augment_args(clap::Command::new("danmu-server"));
        for flag in command.get_arguments().filter(|flag| !flag.is_hide_set()) {
            let (name, variable) = (flag.get_long().unwrap(), flag.get_env().unwrap().to_str().unwrap());
            let rows = [format!("| `--{name} "), format!("| `--{name}` ")];
            let told = readme.lines().find(|line| rows.iter().any(|row| line.starts_with(row)));
            assert!(
                told.is_some_and(|line| line.contains(&format!("| `{variable}` |"))),
                "{name} {variable}"
            );
        }
    }
}
