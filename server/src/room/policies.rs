//! The catalog's policies, compiled: what did not change is kept, and rooms that name the same lists share them.

use std::{collections::HashMap, sync::Arc};

use danmu_crds::{RoomPolicy, WordList};

use crate::{
    catalog::{Catalog, WordSet},
    gate::{Policy, Shared, Words},
};

/// Lists of words, one after the other.
type Lists = Vec<Arc<WordSet>>;

/// A compiled policy, with the lists it was compiled with.
#[derive(Clone)]
pub(super) struct Compiled {
    /// Of block, mask and hold.
    lists: [Lists; 3],
    pub(super) policy: Arc<Policy>,
}

/// Compiled policies of a catalog.
#[derive(Default)]
pub(super) struct Policies {
    listed: HashMap<String, Compiled>,
    unlisted: Option<Compiled>,
    joined: Vec<(Lists, Arc<Words>)>,
    /// Addresses of rooms that have pods of their own, of which this is none.
    pub(super) elsewhere: HashMap<String, Arc<str>>,
    /// Sub-rooms of rooms that are placed on this pod.
    placed: HashMap<String, Arc<[u32]>>,
}

impl Policies {
    pub(super) fn of(&self, id: &str) -> Option<&Compiled> {
        self.listed.get(id).or(self.unlisted.as_ref())
    }

    /// The sub-rooms of the room that are placed on this pod; empty where none are told.
    pub(super) fn placed(&self, id: &str) -> Arc<[u32]> {
        self.placed.get(id).cloned().unwrap_or_default()
    }

    pub(super) fn listed(&self) -> impl Iterator<Item = &str> {
        self.listed.keys().map(String::as_str)
    }

    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &RoomPolicy)> {
        self.listed.iter().map(|(id, compiled)| (id.as_str(), &**compiled.policy.rules()))
    }

    /// Compiles what changed since `old`.
    pub(super) fn compile(catalog: &Catalog, old: &Policies) -> Policies {
        let mut next = Policies {
            elsewhere: catalog.elsewhere.clone(),
            placed: catalog.sub_rooms.clone(),
            ..Policies::default()
        };
        for (id, source) in &catalog.rooms {
            let compiled = next.one(catalog, source, old.listed.get(id), old);
            next.listed.insert(id.clone(), compiled);
        }
        if let Some(source) = &catalog.unlisted {
            let compiled = next.one(catalog, source, old.unlisted.as_ref(), old);
            next.unlisted = Some(compiled);
        }
        next
    }

    fn one(
        &mut self,
        catalog: &Catalog,
        source: &Arc<RoomPolicy>,
        known: Option<&Compiled>,
        old: &Policies,
    ) -> Compiled {
        let mut lists = <[Lists; 3]>::default();
        for (named, words) in catalog.lists(source) {
            let list = match named.list {
                WordList::Block => 0,
                WordList::Mask => 1,
                WordList::Hold => 2,
            };
            lists[list].push(Arc::clone(words));
        }
        let [block, mask, hold] = lists.each_ref().map(|lists| self.join(lists, old));
        if let Some(known) = known
            && Arc::ptr_eq(known.policy.rules(), source)
            && known.lists.iter().zip(&lists).all(|(before, now)| is_same(before, now))
        {
            return known.clone();
        }
        let policy = Policy::compile_with(Arc::clone(source), Shared { block, mask, hold });
        Compiled { lists, policy: Arc::new(policy) }
    }

    /// The lists as one, compiled once for all rooms.
    fn join(&mut self, lists: &Lists, old: &Policies) -> Option<Arc<Words>> {
        if lists.is_empty() {
            return None;
        }
        let known = self.joined.iter().chain(&old.joined).find(|(known, _)| is_same(known, lists));
        if let Some((_, words)) = known {
            let words = Arc::clone(words);
            if !self.joined.iter().any(|(known, _)| is_same(known, lists)) {
                self.joined.push((lists.clone(), Arc::clone(&words)));
            }
            return Some(words);
        }
        let all: Vec<&str> = lists.iter().flat_map(|list| list.iter()).map(|word| &**word).collect();
        let words = Arc::new(Words::compile(&all));
        self.joined.push((lists.clone(), Arc::clone(&words)));
        Some(words)
    }
}

fn is_same(a: &Lists, b: &Lists) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests {
    use danmu_crds::WordSource;

    use super::*;

    fn catalog(lists: &[(&str, &Arc<WordSet>)], rooms: &[(&str, &Arc<RoomPolicy>)]) -> Catalog {
        Catalog {
            words: lists.iter().map(|(name, words)| ((*name).to_owned(), Arc::clone(words))).collect(),
            rooms: rooms.iter().map(|(id, policy)| ((*id).to_owned(), Arc::clone(policy))).collect(),
            ..Catalog::default()
        }
    }

    fn naming(names: &[&str]) -> Arc<RoomPolicy> {
        let source = |name: &&str| WordSource { config_map: (*name).to_owned(), list: WordList::Block };
        Arc::new(RoomPolicy { words_from: names.iter().map(source).collect(), ..RoomPolicy::default() })
    }

    #[test]
    fn rooms_that_name_the_same_lists_share_them_and_keep_them_over_edits_of_others() {
        let one: Arc<WordSet> = Arc::new(vec!["one".into()]);
        let (a, b) = (naming(&["one"]), naming(&["one"]));
        let first =
            Policies::compile(&catalog(&[("one", &one)], &[("a", &a), ("b", &b)]), &Policies::default());
        assert_eq!(first.joined.len(), 1, "compiled once for both");
        let c = naming(&[]);
        let next = Policies::compile(&catalog(&[("one", &one)], &[("a", &a), ("b", &c)]), &first);
        assert!(Arc::ptr_eq(&next.listed["a"].policy, &first.listed["a"].policy));
        assert!(Arc::ptr_eq(&next.joined[0].1, &first.joined[0].1));
        let edited: Arc<WordSet> = Arc::new(vec!["two".into()]);
        let last = Policies::compile(&catalog(&[("one", &edited)], &[("a", &a)]), &next);
        assert!(!Arc::ptr_eq(&last.listed["a"].policy, &next.listed["a"].policy));
        assert_eq!(last.joined.len(), 1, "what nobody names is let go");
    }
}
