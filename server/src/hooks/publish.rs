//! Asks the publish hook what becomes of a message.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use danmu_crds::{OnFailure, PublishHook};
use hyper::StatusCode;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Breaker, Metrics, Post};
use crate::https::Fault;

/// Questions under way at once: a slow hook must not gather everybody's messages.
const UNDER_WAY: usize = 256;
/// Longest answer, in bytes.
const MAX_ANSWER: usize = 8 * 1024;

/// What is asked.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Question<'a> {
    /// The room.
    pub room: &'a str,
    /// The message's id.
    pub id: &'a str,
    /// The sender's `sub`; none without a token.
    pub user: Option<&'a str>,
    /// The sender's name.
    pub name: Option<&'a str>,
    /// The text, as it would be shown.
    pub text: &'a str,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is shown, or this text in its place.
    Show(Option<String>),
    /// It is refused, for this reason.
    Refuse(Option<String>),
    /// It waits for a moderator.
    Hold,
    /// The hook gave no answer, and without one nothing is shown.
    TryLater,
}

#[derive(Deserialize)]
struct Told {
    verdict: Verdict,
    text: Option<String>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Allow,
    Refuse,
    Hold,
}

/// A hook, and how it has been doing.
#[derive(Debug)]
pub(super) struct Asker {
    hook: PublishHook,
    post: Option<Post>,
    places: Semaphore,
    breaker: Breaker,
    health: Mutex<Health>,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Health {
    /// In a row.
    failures: u32,
    /// Until when nobody asks.
    until: Option<Instant>,
}

impl Health {
    /// Whether it may be asked now. After a pause one may, and the others once that one had its answer.
    fn may_ask(&mut self, breaker: Breaker, now: Instant) -> bool {
        if self.failures < breaker.failures {
            return true;
        }
        let over = self.until.is_none_or(|until| now >= until);
        if over {
            self.until = Some(now + breaker.pause);
        }
        over
    }

    fn answered(&mut self) {
        *self = Health::default();
    }

    /// Whether it is left alone from now on.
    fn failed(&mut self, breaker: Breaker, now: Instant) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures >= breaker.failures {
            self.until = Some(now + breaker.pause);
        }
        self.failures == breaker.failures
    }
}

impl Asker {
    pub(super) fn new(
        hook: PublishHook,
        post: Option<Post>,
        breaker: Breaker,
        metrics: Arc<Metrics>,
    ) -> Asker {
        Asker { hook, post, places: Semaphore::new(UNDER_WAY), breaker, health: Mutex::default(), metrics }
    }

    pub(super) fn hook(&self) -> &PublishHook {
        &self.hook
    }

    pub(super) async fn ask(
        &self,
        question: &Question<'_>,
        clean: impl Fn(&str) -> Option<String>,
    ) -> Answer {
        self.answer(question, clean).await.unwrap_or_else(|reason| {
            self.metrics.failed(reason);
            match self.hook.on_failure {
                OnFailure::Allow => Answer::Show(None),
                OnFailure::Refuse => Answer::TryLater,
            }
        })
    }

    /// The hook's word, or why there is none.
    async fn answer(
        &self,
        question: &Question<'_>,
        clean: impl Fn(&str) -> Option<String>,
    ) -> Result<Answer, &'static str> {
        let post = self.post.as_ref().ok_or("unready")?;
        let _place = self.places.try_acquire().map_err(|_| "busy")?;
        let asked = Instant::now();
        if !self.health(|health| health.may_ask(self.breaker, asked)) {
            return Err("circuit_open");
        }
        let body = serde_json::to_vec(question).unwrap_or_default();
        let sent = post.send(question.id, body.into(), MAX_ANSWER);
        let deadline = Duration::from_millis(self.hook.deadline_ms.into());
        let answer = match tokio::time::timeout(deadline, sent).await {
            Ok(Ok((StatusCode::OK, bytes))) => read(&bytes, clean).ok_or("bad_answer"),
            Ok(Ok(_)) => Err("status"),
            Ok(Err(Fault::TooLong)) => Err("bad_answer"),
            Ok(Err(Fault::Away(_))) => Err("unreachable"),
            Err(_) => Err("deadline"),
        };
        self.metrics.asked(asked.elapsed());
        match &answer {
            Ok(_) => self.health(Health::answered),
            Err(reason) => {
                if self.health(|health| health.failed(self.breaker, Instant::now())) {
                    let (url, pause) = (&*self.hook.url, self.breaker.pause);
                    tracing::warn!(
                        url,
                        reason,
                        ?pause,
                        "the publish hook fails and is left alone for a while"
                    );
                }
            }
        }
        answer
    }

    fn health<T>(&self, look: impl FnOnce(&mut Health) -> T) -> T {
        look(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The answer, if it is one. A text that cannot be shown makes it none.
fn read(bytes: &[u8], clean: impl Fn(&str) -> Option<String>) -> Option<Answer> {
    let told: Told = serde_json::from_slice(bytes).ok()?;
    Some(match told.verdict {
        Verdict::Allow => Answer::Show(match told.text {
            Some(text) => Some(clean(&text)?),
            None => None,
        }),
        // A reason that cannot be shown is left away: the word itself is clear.
        Verdict::Refuse => Answer::Refuse(told.reason.as_deref().and_then(clean)),
        Verdict::Hold => Answer::Hold,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BREAKER: Breaker = Breaker { failures: 3, pause: Duration::from_secs(5) };

    #[test]
    fn a_hook_that_fails_is_left_alone_and_then_tried_by_one() {
        let (mut health, now) = (Health::default(), Instant::now());
        let told: Vec<bool> = (0..4).map(|_| health.failed(BREAKER, now)).collect();
        assert_eq!(told, [false, false, true, false], "the log says it once");
        let later = now + BREAKER.pause;
        assert!(!health.may_ask(BREAKER, later - Duration::from_millis(1)));
        assert!(health.may_ask(BREAKER, later));
        assert!(!health.may_ask(BREAKER, later), "the others wait for the first one's answer");
        health.failed(BREAKER, later);
        assert!(!health.may_ask(BREAKER, later + Duration::from_secs(4)));
        health.answered();
        assert!(health.may_ask(BREAKER, later));
    }

    #[test]
    fn single_failures_between_answers_do_not_stop_the_asking() {
        let (mut health, now) = (Health::default(), Instant::now());
        for _ in 0..10 {
            health.failed(BREAKER, now);
            health.failed(BREAKER, now);
            assert!(health.may_ask(BREAKER, now));
            health.answered();
        }
    }

    #[test]
    fn only_what_is_an_answer_is_one() {
        let clean = |text: &str| (text.len() < 10).then(|| text.trim().to_owned());
        let read = |text: &str| read(text.as_bytes(), clean);
        assert_eq!(read(r#"{"verdict":"allow"}"#), Some(Answer::Show(None)));
        assert_eq!(read(r#"{"verdict":"allow","text":" a "}"#), Some(Answer::Show(Some("a".to_owned()))));
        assert_eq!(read(r#"{"verdict":"hold","score":0.7}"#), Some(Answer::Hold));
        assert_eq!(
            read(r#"{"verdict":"refuse","reason":"rude"}"#),
            Some(Answer::Refuse(Some("rude".to_owned())))
        );
        assert_eq!(read(r#"{"verdict":"refuse","reason":"much too long"}"#), Some(Answer::Refuse(None)));
        for bad in
            ["", "{}", "allow", r#"{"verdict":"maybe"}"#, r#"{"verdict":"allow","text":"much too long"}"#]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
