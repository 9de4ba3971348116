//! What is free on each pod, and quickly: the first pods, in order of preference, with so much free.

/// Pods that rooms may be placed on, the preferred first.
#[derive(Clone)]
pub(crate) struct Slots {
    pods: Vec<u32>,
    /// Slot by ordinal.
    by_pod: Vec<Option<u32>>,
    /// A binary tree of maxima over what is free; the leaves begin at `leaves`.
    tree: Vec<u64>,
    leaves: usize,
    /// What was reserved beyond what was free, so that overfull pods share that too.
    over: Vec<u64>,
    /// The largest free at the start: what an empty pod offers.
    largest: u64,
    /// Marks the slots that a search leaves out.
    left_out: Vec<bool>,
}

impl Slots {
    /// Slots from (ordinal, free), the preferred first.
    pub(crate) fn new(free: &[(u32, u64)]) -> Self {
        let leaves = free.len().next_power_of_two();
        let mut tree = vec![0; leaves * 2];
        let mut by_pod = vec![None; free.iter().map(|&(pod, _)| pod as usize + 1).max().unwrap_or(0)];
        for (slot, &(pod, viewers)) in (0u32..).zip(free) {
            tree[leaves + slot as usize] = viewers;
            by_pod[pod as usize] = Some(slot);
        }
        for node in (1..leaves).rev() {
            tree[node] = tree[node * 2].max(tree[node * 2 + 1]);
        }
        let largest = tree[1];
        let pods: Vec<u32> = free.iter().map(|&(pod, _)| pod).collect();
        Self {
            left_out: vec![false; pods.len()],
            over: vec![0; pods.len()],
            pods,
            by_pod,
            tree,
            leaves,
            largest,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.pods.len()
    }

    pub(crate) fn pod(&self, slot: usize) -> u32 {
        self.pods[slot]
    }

    pub(crate) fn slot(&self, pod: u32) -> Option<usize> {
        self.by_pod.get(pod as usize).copied().flatten().map(|slot| slot as usize)
    }

    pub(crate) fn free(&self, slot: usize) -> u64 {
        self.tree[self.leaves + slot]
    }

    pub(crate) fn largest(&self) -> u64 {
        self.largest
    }

    pub(crate) fn most_free(&self) -> u64 {
        self.tree[1]
    }

    pub(crate) fn total_free(&self) -> u64 {
        self.tree[self.leaves..].iter().sum()
    }

    pub(crate) fn reserve(&mut self, slot: usize, viewers: u64) {
        let free = self.free(slot);
        self.over[slot] += viewers.saturating_sub(free);
        self.set(slot, free.saturating_sub(viewers));
    }

    /// Takes back a reservation that was not over what was free.
    pub(crate) fn release(&mut self, slot: usize, viewers: u64) {
        self.set(slot, self.free(slot) + viewers);
    }

    fn set(&mut self, slot: usize, free: u64) {
        let mut node = self.leaves + slot;
        self.tree[node] = free;
        while node > 1 {
            node /= 2;
            let most = self.tree[node * 2].max(self.tree[node * 2 + 1]);
            if self.tree[node] == most {
                break;
            }
            self.tree[node] = most;
        }
    }

    /// The first `count` slots with at least `share` free, apart from some.
    pub(crate) fn find(&mut self, count: usize, share: u64, apart_from: &[usize]) -> Option<Vec<usize>> {
        self.mark(apart_from, true);
        let found = self.first(count, share);
        self.mark(apart_from, false);
        found
    }

    fn mark(&mut self, slots: &[usize], left_out: bool) {
        for &slot in slots {
            self.left_out[slot] = left_out;
        }
    }

    fn first(&self, count: usize, share: u64) -> Option<Vec<usize>> {
        let mut found = Vec::with_capacity(count.min(self.len()));
        let mut from = 0;
        while found.len() < count {
            let slot = self.next(from, share)?;
            if !self.left_out[slot] {
                found.push(slot);
            }
            from = slot + 1;
        }
        Some(found)
    }

    /// The first slot at or after `from` with at least `share` free.
    fn next(&self, from: usize, share: u64) -> Option<usize> {
        if from >= self.len() {
            return None;
        }
        let mut node = self.leaves + from;
        while self.tree[node] < share {
            // To the right; up, as long as this is a right child.
            while node & 1 == 1 {
                node /= 2;
                if node <= 1 {
                    return None;
                }
            }
            node += 1;
        }
        while node < self.leaves {
            node *= 2;
            if self.tree[node] < share {
                node += 1;
            }
        }
        // The leaves beyond the last slot have nothing free; a share of 0 finds them too.
        Some(node - self.leaves).filter(|&slot| slot < self.len())
    }

    /// All slots, the freest first, then in order of preference.
    pub(crate) fn by_free(&self) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..self.len()).collect();
        slots.sort_by_key(|&slot| (std::cmp::Reverse(self.free(slot)), self.over[slot]));
        slots
    }

    /// The slots with the fewest viewers over what was free, when nothing is.
    pub(crate) fn least_over(&self, count: usize) -> Vec<usize> {
        let mut slots: Vec<usize> = (0..self.len()).collect();
        if (1..slots.len()).contains(&count) {
            slots.select_nth_unstable_by_key(count - 1, |&slot| (self.over[slot], slot));
        }
        slots.truncate(count);
        slots
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_first_slots_with_enough_free() {
        let mut slots = Slots::new(&[(3, 10), (0, 5), (7, 10), (1, 7), (2, 10)]);
        assert_eq!(slots.find(2, 7, &[]), Some(vec![0, 2]));
        assert_eq!(slots.find(2, 7, &[0]), Some(vec![2, 3]));
        assert_eq!(slots.find(4, 10, &[]), None);
        slots.reserve(2, 8);
        assert_eq!(slots.find(2, 10, &[]), Some(vec![0, 4]));
        assert_eq!(slots.free(2), 2);
        assert_eq!(slots.find(5, 0, &[]), Some(vec![0, 1, 2, 3, 4]));
        assert_eq!(slots.find(6, 0, &[]), None, "padding is no slot");
    }

    #[test]
    fn no_slots_find_nothing() {
        let mut slots = Slots::new(&[]);
        assert_eq!(slots.find(1, 0, &[]), None);
        assert_eq!(slots.find(0, 9, &[]), Some(Vec::new()));
        assert_eq!((slots.most_free(), slots.slot(3)), (0, None));
    }
}
