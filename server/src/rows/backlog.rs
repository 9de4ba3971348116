//! What a slow viewer is owed. Exists only while bytes wait, so an idle viewer has none.
//!
//! A slow viewer gets every priority frame and only the newest chat frame; a frame that was begun is
//! always finished. All of it refers to shared bytes, so a stalled viewer costs references, not copies.

use std::{collections::VecDeque, io, time::Instant};

use bytes::Bytes;
use danmu_wire::{Event, Gap, Lane, frame};

use super::{Flush, Frames, Limits};

/// Why a backlog cannot take more: the viewer is closed with 4008.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Overflow;

#[derive(Debug)]
pub(super) struct Backlog {
    /// The rest of a frame that was begun: it goes first, whatever happens.
    cut: Bytes,
    /// Personal frames, in order.
    personal: VecDeque<Bytes>,
    personal_bytes: usize,
    /// Priority frames, in order.
    priority: VecDeque<Bytes>,
    /// The newest chat frame and how many messages are in it.
    chat: Option<(Bytes, u32)>,
    /// Chat messages skipped since the viewer was last told.
    skipped: u64,
    /// When the viewer last took a byte.
    pub(super) progressed: Instant,
}

impl Backlog {
    pub(super) fn new(now: Instant) -> Self {
        Backlog {
            cut: Bytes::new(),
            personal: VecDeque::new(),
            personal_bytes: 0,
            priority: VecDeque::new(),
            chat: None,
            skipped: 0,
            progressed: now,
        }
    }

    /// The first `written` bytes of a flush went out before the socket was full.
    pub(super) fn begin_flush(&mut self, frames: &Frames, chats: u32, written: usize) {
        if written == 0 {
            self.priority.extend(frames.priority());
            self.chat = frames.chat().map(|chat| (chat, chats));
        } else if written < frames.priority {
            self.cut = frames.bytes.slice(written..frames.priority);
            self.chat = frames.chat().map(|chat| (chat, chats));
        } else if written == frames.priority {
            self.chat = frames.chat().map(|chat| (chat, chats));
        } else {
            self.cut = frames.bytes.slice(written..);
        }
    }

    /// The rest of a personal frame whose start went out.
    pub(super) fn begin_personal(&mut self, rest: Bytes) {
        self.cut = rest;
    }

    /// A whole flush while the viewer is behind. Answers how many chat messages it skips for it.
    pub(super) fn flush(&mut self, frames: &Frames, flush: &Flush, limits: &Limits) -> Result<u64, Overflow> {
        if let Some(priority) = frames.priority() {
            if self.priority.len() >= limits.owed_priority {
                return Err(Overflow);
            }
            self.priority.push_back(priority);
        }
        let Some(chat) = frames.chat() else { return Ok(0) };
        let skipped = self.chat.replace((chat, flush.chats)).map_or(0, |(_, chats)| u64::from(chats));
        self.skipped += skipped;
        Ok(skipped)
    }

    /// A personal frame while the viewer is behind.
    pub(super) fn personal(&mut self, frame: Bytes, limits: &Limits) -> Result<(), Overflow> {
        self.personal_bytes += frame.len();
        if self.personal_bytes > limits.owed_personal {
            return Err(Overflow);
        }
        self.personal.push_back(frame);
        Ok(())
    }

    /// The viewer changes room: what it was owed of the old one must not come behind the new one's `joined`.
    pub(super) fn leave_room(&mut self) {
        self.priority.clear();
        self.chat = None;
        self.skipped = 0;
    }

    /// Whether a frame has been begun: nothing else may be written before its end.
    pub(super) fn is_cut(&self) -> bool {
        !self.cut.is_empty()
    }

    /// Writes as much as the socket takes. `Ok(true)` when nothing is owed any more.
    ///
    /// # Errors
    /// Those of the socket other than `WouldBlock`.
    pub(super) fn write(
        &mut self,
        now: Instant,
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> io::Result<bool> {
        loop {
            if self.cut.is_empty() && !self.next() {
                return Ok(true);
            }
            match write(&self.cut) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    self.cut = self.cut.slice(written..);
                    self.progressed = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Picks the next frame owed: personal, priority, the gap told, then the newest chat.
    fn next(&mut self) -> bool {
        if let Some(frame) = self.personal.pop_front() {
            self.personal_bytes -= frame.len();
            self.cut = frame;
        } else if let Some(frame) = self.priority.pop_front() {
            self.cut = frame;
        } else if self.skipped > 0 {
            let gap = Gap { lane: Lane::Chat, dropped: Some(std::mem::take(&mut self.skipped)), epoch: None };
            self.cut = frame::personal(&[Event::Gap(gap)]).into();
        } else if let Some((frame, _)) = self.chat.take() {
            self.cut = frame;
        } else {
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::rows::Flushed;

    struct Nobody;
    impl Flushed for Nobody {
        fn flushed(self: Arc<Self>, _: &Flush) {}
    }

    fn flush(sequence: u64, priority: bool, chat: bool) -> (Frames, Flush) {
        let mut bytes = Vec::new();
        if priority {
            frame::push_text(&mut bytes, format!("p{sequence}").as_bytes());
        }
        let at = bytes.len();
        if chat {
            frame::push_text(&mut bytes, format!("c{sequence}").as_bytes());
        }
        let frames = Frames { bytes: bytes.into(), priority: at };
        let frames_by_format = [Some(frames.clone()), None];
        let chats = u32::from(chat);
        (frames, Flush::new(1, sequence, frames_by_format, chats, Instant::now(), 1, Arc::new(Nobody)))
    }

    /// The payloads of unmasked short frames; panics when a frame is cut.
    fn payloads(mut bytes: &[u8]) -> Vec<String> {
        let mut payloads = Vec::new();
        while let [0x81, length, rest @ ..] = bytes {
            let (payload, after) = rest.split_at(usize::from(*length));
            payloads.push(String::from_utf8(payload.to_vec()).unwrap());
            bytes = after;
        }
        assert!(bytes.is_empty());
        payloads
    }

    #[test]
    fn a_slow_viewer_gets_every_priority_frame_and_the_newest_chat() {
        let now = Instant::now();
        let mut backlog = Backlog::new(now);
        let (first, f) = flush(1, true, true);
        backlog.begin_flush(&first, f.chats, 0);
        for sequence in 2..=5 {
            let (frames, f) = flush(sequence, sequence == 3, true);
            backlog.flush(&frames, &f, &Limits::default()).unwrap();
        }
        let mut got = Vec::new();
        assert!(
            backlog
                .write(now, |b| {
                    got.extend_from_slice(b);
                    Ok(b.len())
                })
                .unwrap()
        );
        assert_eq!(payloads(&got), ["p1", "p3", r#"[{"ev":"gap","lane":"chat","dropped":4}]"#, "c5"]);
    }

    #[test]
    fn priority_frames_past_the_bound_end_the_viewer_instead_of_growing() {
        let limits = Limits { owed_priority: 3, ..Limits::default() };
        let mut backlog = Backlog::new(Instant::now());
        for sequence in 1..=3 {
            let (frames, f) = flush(sequence, true, false);
            assert_eq!(backlog.flush(&frames, &f, &limits), Ok(0));
        }
        let (frames, f) = flush(4, true, false);
        assert_eq!(backlog.flush(&frames, &f, &limits), Err(Overflow));
    }

    proptest! {
        /// The socket takes any number of bytes at any time: no frame is ever cut, none is doubled,
        /// priority frames are whole and in order, and chats are either received or told as a gap.
        #[test]
        fn whatever_the_socket_takes_the_stream_stays_whole(
            first in 0usize..12,
            steps in proptest::collection::vec((any::<bool>(), any::<bool>(), 0usize..20), 1..40),
        ) {
            let now = Instant::now();
            let mut stream = Vec::new();
            let (frames, f) = flush(1, true, true);
            let written = first.min(frames.bytes.len() - 1);
            stream.extend_from_slice(&frames.bytes[..written]);
            let mut backlog = Backlog::new(now);
            backlog.begin_flush(&frames, f.chats, written);
            let mut chats = 1;
            let mut expected = vec!["p1".to_owned()];
            for (index, (priority, chat, takes)) in steps.into_iter().enumerate() {
                let sequence = index as u64 + 2;
                let (frames, f) = flush(sequence, priority, chat);
                backlog.flush(&frames, &f, &Limits::default()).unwrap();
                chats += u64::from(chat);
                if priority { expected.push(format!("p{sequence}")); }
                let mut room = takes;
                let done = backlog.write(now, |b| {
                    if room == 0 { return Err(io::ErrorKind::WouldBlock.into()); }
                    let n = b.len().min(room);
                    room -= n;
                    stream.extend_from_slice(&b[..n]);
                    Ok(n)
                }).unwrap();
                prop_assert!(done || room == 0);
            }
            let done = backlog.write(now, |b| { stream.extend_from_slice(b); Ok(b.len()) }).unwrap();
            prop_assert!(done);
            let got = payloads(&stream);
            let priorities: Vec<String> = got.iter().filter(|p| p.starts_with('p')).cloned().collect();
            prop_assert_eq!(priorities, expected);
            let received = got.iter().filter(|p| p.starts_with('c')).count() as u64;
            let told: u64 = got.iter().filter_map(|p| {
                let events: Vec<Event> = serde_json::from_str(p).ok()?;
                match events.first()? { Event::Gap(gap) => gap.dropped, _ => None }
            }).sum();
            prop_assert_eq!(received + told, chats);
        }
    }
}
