//! Settings that change while the server runs: those of the DanmuFleet, with what flags give over them.

use danmu_crds::DanmuFleetSpec;
use ipnet::IpNet;

use crate::{
    config::{Config, Flags},
    drain::Drain,
    edge::{listener::Edge, origin::Origins},
};

/// What flags give. It wins over the manifest, now and after every edit.
#[derive(Clone, Debug)]
pub(super) struct Given {
    trusted: Option<Vec<IpNet>>,
    origins: Option<Origins>,
    per_address: Option<usize>,
    upgrades_per_second: Option<u32>,
    drain_seconds: Option<u64>,
}

/// What is in force.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) trusted: Vec<IpNet>,
    pub(super) origins: Origins,
    pub(super) per_address: usize,
    pub(super) upgrades_per_second: u32,
    pub(super) drain_seconds: u64,
}

impl Given {
    pub(super) fn new(flags: &Flags, config: &Config) -> Given {
        Given {
            trusted: config.trusted.clone(),
            origins: config.origins.clone(),
            per_address: flags.per_address_cap,
            upgrades_per_second: flags.upgrades_per_second,
            drain_seconds: flags.drain_seconds,
        }
    }

    pub(super) fn over(&self, fleet: &DanmuFleetSpec) -> Settings {
        let server = &fleet.server;
        // The manifest's networks and origins were checked when it was read.
        let trusted = || server.trusted_proxies.iter().filter_map(|network| network.parse().ok()).collect();
        let origins = || {
            Origins::parse(&server.allowed_origins).unwrap_or_else(|faults| {
                tracing::error!(?faults, "spec.server.allowedOrigins: only pages of this host may connect");
                Origins::default()
            })
        };
        let per_address = || server.per_address_cap.map_or(0, |cap| cap as usize);
        Settings {
            trusted: self.trusted.clone().unwrap_or_else(trusted),
            origins: self.origins.clone().unwrap_or_else(origins),
            per_address: self.per_address.unwrap_or_else(per_address),
            upgrades_per_second: self.upgrades_per_second.unwrap_or(server.upgrades_per_second),
            drain_seconds: self.drain_seconds.unwrap_or(fleet.drain_seconds.into()),
        }
    }
}

impl Settings {
    /// Puts them in force for whoever comes from now on.
    pub(super) fn apply(self, edge: &Edge, drain: &Drain) {
        edge.trusted.store(self.trusted.into());
        edge.origins.store(self.origins.into());
        edge.admission.adjust(self.per_address, self.upgrades_per_second);
        drain.set_seconds(self.drain_seconds);
    }
}

#[cfg(test)]
mod tests {
    use danmu_crds::{ServerSettings, is_origin};
    use proptest::prelude::*;

    use super::*;

    const NOTHING: Given = Given {
        trusted: None,
        origins: None,
        per_address: None,
        upgrades_per_second: None,
        drain_seconds: None,
    };

    fn fleet() -> DanmuFleetSpec {
        DanmuFleetSpec {
            server: ServerSettings {
                trusted_proxies: vec!["10.0.0.0/8".to_owned()],
                per_address_cap: Some(7),
                upgrades_per_second: 11,
                ..ServerSettings::default()
            },
            drain_seconds: 13,
            ..DanmuFleetSpec::default()
        }
    }

    #[test]
    fn without_flags_and_fleet_the_built_in_settings_hold() {
        let settings = NOTHING.over(&DanmuFleetSpec::default());
        assert_eq!(
            (settings.per_address, settings.upgrades_per_second, settings.drain_seconds),
            (0, 3000, 60)
        );
        assert!(settings.trusted.is_empty());
    }

    #[test]
    fn the_fleets_settings_hold_where_no_flag_is_given() {
        let settings = NOTHING.over(&fleet());
        assert_eq!((settings.per_address, settings.upgrades_per_second, settings.drain_seconds), (7, 11, 13));
        assert_eq!(settings.trusted.len(), 1);
    }

    #[test]
    fn a_flag_wins_even_where_it_takes_a_setting_away() {
        let given = Given { trusted: Some(Vec::new()), per_address: Some(0), ..NOTHING };
        let settings = given.over(&fleet());
        assert_eq!((settings.per_address, settings.upgrades_per_second), (0, 11));
        assert!(settings.trusted.is_empty());
    }

    proptest! {
        #[test]
        fn every_origin_that_a_manifest_may_have_can_be_read(
            origin in "([a-z+.]{1,5}://)?([*][.])?[a-z0-9._-]{1,9}(:[0-9]{1,5})?|[*]|null"
        ) {
            prop_assume!(is_origin(&origin));
            prop_assert!(Origins::parse(&[origin]).is_ok());
        }
    }
}
