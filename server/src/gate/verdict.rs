//! Why a text would be refused: for whoever asks, before anybody is.

use std::time::Instant;

use danmu_wire::RefusalCode;

use super::{
    Gate, Policy, Refusal, Speaker, check_text, clean, is_exempt, may_speak,
    words::{self, Folded},
};

/// What would happen to a text, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Why it would not be taken.
    pub refused: Option<RefusalCode>,
    /// What would be shown.
    pub text: String,
    /// A moderator would have to look at it first.
    pub held: bool,
    /// Only its sender would see it.
    pub shadowed: bool,
    /// Words found, with the list each is on (`block`, `mask` or `hold`).
    pub words: Vec<(&'static str, String)>,
}

impl Gate {
    /// What would happen to a text of this speaker, without counting it: rate limits and slow mode are left
    /// out.
    pub fn explain(&self, policy: &Policy, speaker: &Speaker<'_>, text: &str, now: Instant) -> Verdict {
        let state = self.lock(Some(now));
        let standing = may_speak(policy, speaker).and_then(|()| state.standing(policy, speaker, now));
        let shadowed = speaker.user.is_some_and(|user| state.shadowed_users.holds(user, now));
        drop(state);
        let checked = check_text(policy, text);
        let text = checked.clone().unwrap_or_else(|_| clean(text));
        let folded = Folded::new(&text);
        let mut found = Vec::new();
        for (list, words) in [("block", &policy.block), ("mask", &policy.mask), ("hold", &policy.hold)] {
            let all = words.iter().flat_map(|words| words.all_in(&folded));
            found.extend(all.map(|word| (list, word.to_owned())));
        }
        let has = |name| found.iter().any(|(list, _)| *list == name);
        let blocked = if has("block") { Err(Refusal::new(RefusalCode::BlockedWord)) } else { Ok(()) };
        let refused = standing.and(checked.map(drop)).and(blocked).err().map(|refusal| refusal.code);
        let held = refused.is_none() && has("hold") && !is_exempt(speaker.role);
        Verdict { refused, text: words::mask(&policy.mask, &folded, &text), held, shadowed, words: found }
    }
}
