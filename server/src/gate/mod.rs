//! May this viewer speak, may this text pass: refused with a code, or accepted.
//!
//! A [`Policy`] is what a room's manifest says, compiled; a [`Gate`] is what happened in the room so far.
//! Nothing here reads a clock or does I/O.

pub mod bucket;
mod moderation;
mod policy;
mod sample;
pub mod text;
mod verdict;
mod words;

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use danmu_crds::Anonymous;
use danmu_wire::{CloseCode, Placing, RefusalCode, Role, Size, Style};
use ipnet::IpNet;

pub use bucket::{Bucket, Buckets, Rate};
pub use moderation::{Full, Listed, MAX_ENTRIES, Moderation, canonical};
pub use policy::{Policy, Shared};
pub use sample::Sampler;
pub use text::clean;
pub use verdict::Verdict;
pub use words::{Words, prepare};

use moderation::{Entries, is_in_any};
use words::Folded;

/// Keys of each rate limit a room remembers: some 5 MB at most with user names of 20 bytes.
const MAX_KEYS: usize = 65_536;
/// What one connection may write, whoever is on it.
const CONNECTION_RATE: Rate = Rate { limit: 20, period: Duration::from_secs(5) };

/// Who writes, from where, as what.
#[derive(Clone, Copy, Debug)]
pub struct Speaker<'a> {
    /// The token's user; none without a token.
    pub user: Option<&'a str>,
    /// The address the viewer comes from.
    pub address: IpAddr,
    /// The token's role.
    pub role: Role,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The reason.
    pub code: RefusalCode,
    /// When the same message may pass, if time is all it needs.
    pub retry: Option<Duration>,
}

impl Refusal {
    fn new(code: RefusalCode) -> Self {
        Self { code, retry: None }
    }

    fn wait(code: RefusalCode) -> impl FnOnce(Duration) -> Self {
        move |wait| Self { code, retry: Some(wait) }
    }
}

/// A text that passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// As it is to be shown.
    pub text: String,
    /// A moderator has to look at it first.
    pub held: bool,
}

#[derive(Debug)]
struct State {
    users: Buckets<String>,
    addresses: Buckets<IpAddr>,
    slow: Buckets<String>,
    muted_users: Entries<String>,
    shadowed_users: Entries<String>,
    /// Slow mode in place of the manifest's.
    slow_mode: Option<u32>,
    banned_users: Entries<String>,
    banned_networks: Entries<IpNet>,
    /// The latest time told, by which full lists are cleared.
    latest: Option<Instant>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            users: Buckets::new(MAX_KEYS),
            addresses: Buckets::new(MAX_KEYS),
            slow: Buckets::new(MAX_KEYS),
            muted_users: Entries::default(),
            shadowed_users: Entries::default(),
            slow_mode: None,
            banned_users: Entries::default(),
            banned_networks: Entries::default(),
            latest: None,
        }
    }
}

/// What happened in one room so far: rate limits, mutes, bans, and what was shown. Bounded in memory.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
}

impl Gate {
    /// Whether a viewer may come in: [`CloseCode::Banned`], or [`CloseCode::NotAllowed`] without a token
    /// where one is needed.
    pub fn enter(
        &self,
        policy: &Policy,
        user: Option<&str>,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), CloseCode> {
        if self.lock(Some(now)).bans(policy, user, address, now) {
            return Err(CloseCode::Banned);
        }
        match (policy.rules.anonymous, user) {
            (Anonymous::Deny, None) => Err(CloseCode::NotAllowed),
            _ => Ok(()),
        }
    }

    /// The text as it is to be shown, or why it is not taken. `connection` is the bucket of the viewer's
    /// connection. The cheap checks come first, and slow mode last: a refused text does not use up the turn.
    pub fn say(
        &self,
        policy: &Policy,
        speaker: &Speaker<'_>,
        connection: &mut Bucket,
        text: &str,
        style: &Style,
        now: Instant,
    ) -> Result<Passed, Refusal> {
        may_speak(policy, speaker)?;
        self.lock(Some(now)).admit(policy, speaker, connection, now)?;
        let text = check_text(policy, text)?;
        if !may_style(speaker.role, style) {
            return Err(Refusal::new(RefusalCode::Style));
        }
        let folded = policy.has_words().then(|| Folded::new(&text));
        let found = |lists: &[Arc<Words>; 2]| {
            folded.as_ref().is_some_and(|folded| lists.iter().any(|words| words.found_in_folded(folded)))
        };
        if found(&policy.block) {
            return Err(Refusal::new(RefusalCode::BlockedWord));
        }
        let exempt = is_exempt(speaker.role);
        let slow = self.slow_mode(policy).filter(|_| !exempt);
        if let Some(slow) = slow {
            match speaker.user {
                Some(user) => self.lock(Some(now)).slow.take(user.to_owned(), slow, now),
                None => connection.take(slow, now),
            }
            .map_err(Refusal::wait(RefusalCode::SlowMode))?;
        }
        // Whoever decides on held messages does not wait for others.
        let held = !exempt && found(&policy.hold);
        let text = match &folded {
            Some(folded) => words::mask(&policy.mask, folded, &text),
            None => text,
        };
        Ok(Passed { text, held })
    }

    /// Seconds between two messages of one viewer: a moderator's word before the manifest's.
    pub fn slow_mode_seconds(&self, policy: &Policy) -> u32 {
        self.lock(None).slow_mode.unwrap_or(policy.rules.slow_mode_seconds)
    }

    /// Sets slow mode in place of the manifest's; none takes that back. Whether there was another one.
    pub fn set_slow_mode(&self, seconds: Option<u32>) -> Option<u32> {
        std::mem::replace(&mut self.lock(None).slow_mode, seconds)
    }

    fn slow_mode(&self, policy: &Policy) -> Option<Rate> {
        slow_rate(self.slow_mode_seconds(policy))
    }

    /// Counts what a user said on another pod against their limits here: a rate limit holds for the user,
    /// whichever pods they are on.
    pub fn charge(&self, policy: &Policy, user: &str, now: Instant) {
        let mut state = self.lock(Some(now));
        // Refused here means used up already, which is all there is to know.
        let _ = state.users.take(user.to_owned(), policy.viewer_rate(), now);
        let seconds = state.slow_mode.unwrap_or(policy.rules.slow_mode_seconds);
        if let Some(slow) = slow_rate(seconds) {
            let _ = state.slow.take(user.to_owned(), slow, now);
        }
    }

    /// Lets the user watch but not write.
    pub fn mute(&self, user: &str, until: Option<Instant>) -> Result<(), Full> {
        let mut state = self.lock(None);
        let latest = state.latest;
        state.muted_users.set(user.to_owned(), until, latest)
    }

    /// Lifts a mute; tells whether there was one.
    pub fn unmute(&self, user: &str) -> bool {
        self.lock(None).muted_users.lift(user)
    }

    /// Lets nobody but the user see what they write.
    pub fn shadow(&self, user: &str, until: Option<Instant>) -> Result<(), Full> {
        let mut state = self.lock(None);
        let latest = state.latest;
        state.shadowed_users.set(user.to_owned(), until, latest)
    }

    /// Lifts a shadow mute; tells whether there was one.
    pub fn unshadow(&self, user: &str) -> bool {
        self.lock(None).shadowed_users.lift(user)
    }

    /// Whether nobody but the user sees what they write.
    pub fn is_shadowed(&self, user: &str, now: Instant) -> bool {
        self.lock(Some(now)).shadowed_users.holds(user, now)
    }

    /// Keeps the user out; who is in must be disconnected besides.
    pub fn ban_user(&self, user: &str, until: Option<Instant>) -> Result<(), Full> {
        let mut state = self.lock(None);
        let latest = state.latest;
        state.banned_users.set(user.to_owned(), until, latest)
    }

    /// Lifts a user's ban; tells whether there was one.
    pub fn unban_user(&self, user: &str) -> bool {
        self.lock(None).banned_users.lift(user)
    }

    /// Keeps a network out. IPv4 networks mapped into IPv6 count as IPv4.
    pub fn ban_network(&self, network: IpNet, until: Option<Instant>) -> Result<(), Full> {
        let mut state = self.lock(None);
        let latest = state.latest;
        state.banned_networks.set(canonical(network), until, latest)
    }

    /// Lifts a network's ban; tells whether there was one of exactly this network.
    pub fn unban_network(&self, network: IpNet) -> bool {
        self.lock(None).banned_networks.lift(&canonical(network))
    }

    /// Lifts what is not to be kept, of mutes, of shadow mutes, of banned users and of banned networks.
    pub fn retain(
        &self,
        muted: impl Fn(&str) -> bool,
        shadowed: impl Fn(&str) -> bool,
        banned: impl Fn(&str) -> bool,
        networks: impl Fn(&IpNet) -> bool,
    ) {
        let mut state = self.lock(None);
        state.muted_users.retain(|user| muted(user));
        state.shadowed_users.retain(|user| shadowed(user));
        state.banned_users.retain(|user| banned(user));
        state.banned_networks.retain(networks);
    }

    /// What moderators have set and is still in force; not what the manifest says.
    pub fn list(&self, now: Instant) -> Moderation {
        let mut state = self.lock(Some(now));
        Moderation {
            muted_users: state.muted_users.list(now),
            shadowed_users: state.shadowed_users.list(now),
            slow_mode_seconds: state.slow_mode,
            banned_users: state.banned_users.list(now),
            banned_networks: state.banned_networks.list(now),
        }
    }

    fn lock(&self, now: Option<Instant>) -> MutexGuard<'_, State> {
        // No step under the lock leaves the state half done, so a panic elsewhere does not close the room.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.latest = state.latest.max(now);
        state
    }
}

impl State {
    fn bans(&self, policy: &Policy, user: Option<&str>, address: IpAddr, now: Instant) -> bool {
        let canonical = address.to_canonical();
        user.is_some_and(|user| policy.banned_users.contains(user) || self.banned_users.holds(user, now))
            || (!policy.banned_networks.is_empty()
                && is_in_any(canonical, |network| policy.banned_networks.contains(network)))
            || self.banned_networks.contains(canonical, now)
    }

    /// Bans and mutes.
    fn standing(&self, policy: &Policy, speaker: &Speaker<'_>, now: Instant) -> Result<(), Refusal> {
        if self.bans(policy, speaker.user, speaker.address, now) {
            return Err(Refusal::new(RefusalCode::Banned));
        }
        let is_muted = |user: &str| policy.muted_users.contains(user) || self.muted_users.holds(user, now);
        if speaker.user.is_some_and(is_muted) {
            return Err(Refusal::new(RefusalCode::Muted));
        }
        Ok(())
    }

    /// Bans, mutes and rate limits.
    fn admit(
        &mut self,
        policy: &Policy,
        speaker: &Speaker<'_>,
        connection: &mut Bucket,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.standing(policy, speaker, now)?;
        let exempt = is_exempt(speaker.role);
        let seconds = self.slow_mode.unwrap_or(policy.rules.slow_mode_seconds);
        match speaker.user {
            None if !exempt => take_anonymous(policy, slow_rate(seconds), connection, now)?,
            _ => connection.take(CONNECTION_RATE, now).map_err(Refusal::wait(RefusalCode::ConnectionRate))?,
        }
        if exempt {
            return Ok(());
        }
        if let Some(user) = speaker.user {
            self.users
                .take(user.to_owned(), policy.viewer_rate(), now)
                .map_err(Refusal::wait(RefusalCode::UserRate))?;
        }
        self.addresses
            .take(household(speaker.address), policy.address_rate(), now)
            .map_err(Refusal::wait(RefusalCode::AddressRate))
    }
}

/// Without a user the connection is all there is to tell viewers apart, so its bucket holds the viewer's
/// limit; in slow mode it holds slow mode's, looked at here and used up only by a text that passes.
fn take_anonymous(
    policy: &Policy,
    slow: Option<Rate>,
    connection: &mut Bucket,
    now: Instant,
) -> Result<(), Refusal> {
    match slow {
        Some(slow) => {
            let mut trial = *connection;
            trial.take(slow, now).map_err(Refusal::wait(RefusalCode::SlowMode))
        }
        None => {
            let viewer = policy.viewer_rate();
            let is_stricter = viewer.period * CONNECTION_RATE.limit > CONNECTION_RATE.period * viewer.limit;
            let (rate, code) = if is_stricter {
                (viewer, RefusalCode::UserRate)
            } else {
                (CONNECTION_RATE, RefusalCode::ConnectionRate)
            };
            connection.take(rate, now).map_err(Refusal::wait(code))
        }
    }
}

fn slow_rate(seconds: u32) -> Option<Rate> {
    (seconds > 0).then(|| Rate { limit: 1, period: Duration::from_secs(seconds.into()) })
}

/// Moderators and publishers keep order in the room: its limits are not for them.
fn is_exempt(role: Role) -> bool {
    matches!(role, Role::Moderator | Role::Publisher)
}

fn may_speak(policy: &Policy, speaker: &Speaker<'_>) -> Result<(), Refusal> {
    match (speaker.role, policy.rules.anonymous, speaker.user) {
        (Role::Speaker | Role::Moderator | Role::Publisher, _, _) | (_, Anonymous::Speak, _) => Ok(()),
        (Role::Viewer, _, None) => Err(Refusal::new(RefusalCode::SignIn)),
        (Role::Viewer, _, Some(_)) => Err(Refusal::new(RefusalCode::WatchOnly)),
    }
}

/// The text, cleaned, if it is fit for the room.
///
/// # Errors
/// [`RefusalCode::Empty`] or [`RefusalCode::TooLong`].
pub fn check_text(policy: &Policy, text: &str) -> Result<String, Refusal> {
    let text = clean(text);
    if text.is_empty() {
        return Err(Refusal::new(RefusalCode::Empty));
    }
    if text.chars().count() > policy.rules.max_length as usize {
        return Err(Refusal::new(RefusalCode::TooLong));
    }
    Ok(text)
}

fn may_style(role: Role, style: &Style) -> bool {
    let plain = style.mode == Placing::Scroll && style.size == Size::Normal;
    match role {
        Role::Viewer => plain && style.color.is_none(),
        Role::Speaker => plain,
        Role::Moderator | Role::Publisher => true,
    }
}

/// What one household or office shares: an IPv4 address, or an IPv6 /64.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests;
