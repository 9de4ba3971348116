use super::*;

fn slots(free: &[u64]) -> Slots {
    let free: Vec<(u32, u64)> = (0u32..).zip(free.iter().copied()).collect();
    Slots::new(&free)
}

fn wish(room: usize, viewers: u64, previous: &[(u32, u32)]) -> Wish<'static> {
    let previous = previous.iter().map(|&(pod, viewers)| Share { pod, viewers }).collect();
    Wish { room, viewers, min_pods: 1, previous: Cow::Owned(previous) }
}

/// The shares of each room, as (pod, viewers).
fn placed(wishes: &[Wish<'_>], free: &[u64]) -> Vec<Vec<(u32, u32)>> {
    let placed = place(wishes, &mut slots(free), Spread::Any).unwrap();
    placed
        .iter()
        .map(|placement| placement.shares.iter().map(|share| (share.pod, share.viewers)).collect())
        .collect()
}

#[test]
fn a_room_gets_equal_shares_on_the_fewest_lowest_pods_that_fit() {
    assert_eq!(placed(&[wish(0, 100, &[])], &[100; 4]), [[(0, 100)]]);
    assert_eq!(placed(&[wish(0, 101, &[])], &[100; 4]), [[(0, 51), (1, 50)]]);
    assert_eq!(placed(&[wish(0, 101, &[])], &[100, 20, 100, 100]), [[(0, 51), (2, 50)]]);
}

#[test]
fn what_no_single_pod_holds_is_spread_over_what_is_free() {
    assert_eq!(placed(&[wish(0, 90, &[])], &[30, 30, 30, 10]), [[(0, 30), (1, 30), (2, 30)]]);
}

#[test]
fn a_room_is_on_at_least_as_many_pods_as_it_asks_for_if_there_are_so_many() {
    let spread = Wish { min_pods: 3, ..wish(0, 10, &[]) };
    assert_eq!(placed(&[spread], &[100; 4]), [[(0, 4), (1, 3), (2, 3)]]);
    let spread = Wish { min_pods: 3, ..wish(0, 10, &[]) };
    assert_eq!(placed(&[spread], &[100; 2]), [[(0, 5), (1, 5)]]);
}

#[test]
fn a_room_that_still_fits_does_not_move_to_lower_pods() {
    assert_eq!(placed(&[wish(0, 90, &[(2, 80)])], &[100; 4]), [[(2, 90)]]);
}

#[test]
fn a_room_that_grows_keeps_its_pods_and_gets_more() {
    assert_eq!(placed(&[wish(0, 150, &[(2, 80)])], &[100; 4]), [[(0, 75), (2, 75)]]);
}

#[test]
fn a_room_that_grows_does_not_push_out_one_that_does_not() {
    let rooms = [wish(0, 90, &[(0, 50)]), wish(1, 50, &[(0, 50)])];
    assert_eq!(placed(&rooms, &[100, 100]), [vec![(0, 45), (1, 45)], vec![(0, 50)]]);
}

#[test]
fn one_full_pod_of_many_is_replaced_rather_than_all_shares_cut() {
    let large = wish(0, 400, &[(0, 90), (1, 90), (2, 90), (3, 90)]);
    assert_eq!(placed(&[large], &[100, 100, 95, 100, 100, 100]), [[(0, 100), (1, 100), (3, 100), (4, 100)]]);
}

#[test]
fn a_room_gives_pods_back_only_with_some_to_spare() {
    assert_eq!(placed(&[wish(0, 90, &[(0, 60), (1, 60)])], &[100; 2]), [vec![(0, 45), (1, 45)]]);
    assert_eq!(placed(&[wish(0, 80, &[(0, 60), (1, 60)])], &[100; 2]), [vec![(0, 80)]]);
}

#[test]
fn a_pod_that_is_gone_is_replaced_and_the_others_stay() {
    assert_eq!(placed(&[wish(0, 180, &[(1, 90), (7, 90)])], &[100; 3]), [[(0, 90), (1, 90)]]);
}

#[test]
fn what_does_not_fit_is_placed_as_well_as_it_can_be_and_counted() {
    let wishes = [wish(0, 250, &[]), wish(1, 60, &[])];
    assert_eq!(place(&wishes, &mut slots(&[100; 2]), Spread::Tidy), None);
    let placed = place(&wishes, &mut slots(&[100; 2]), Spread::Any).unwrap();
    let shares = |viewers| vec![Share { pod: 0, viewers }, Share { pod: 1, viewers }];
    assert_eq!((&placed[0].shares, placed[0].uncovered), (&shares(125), 50));
    assert_eq!((placed[1].shares.len(), placed[1].uncovered), (1, 60));
}

#[test]
fn an_overfull_fleet_is_not_restless() {
    let mut rooms: Vec<Wish<'_>> = (0..6).map(|room| wish(room, 70, &[])).collect();
    let mut before = Vec::new();
    for _ in 0..3 {
        let now = placed(&rooms, &[100; 3]);
        assert!(before.is_empty() || before == now);
        rooms = (0..6).map(|room| wish(room, 70, &now[room])).collect();
        before = now;
    }
}

#[test]
fn without_pods_nothing_is_placed() {
    let placed = place(&[wish(0, 5, &[(0, 5)])], &mut slots(&[]), Spread::Any).unwrap();
    assert_eq!((placed[0].shares.len(), placed[0].uncovered), (0, 5));
}
