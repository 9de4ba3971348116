//! What it is worth to divide a room: the same viewers and the same messages, in one audience and in several.

use super::{
    measure::{Measured, Subject},
    scenarios::{Faults, OPEN, Scale},
    table::Row,
};

const SUB_ROOMS: f64 = 8.0;

/// CPU of the server for each message said, undivided and with 8 sub-rooms.
pub(super) fn sub_rooms(scale: &Scale) -> Result<Vec<Row>, String> {
    let viewers = scale.viewers(8000).max(800);
    let (count, seconds) = (viewers.to_string(), scale.seconds(6));
    let mut options = vec!["--viewers", &count, "--speakers", "80", "--rate", "10", "--duration", &seconds];
    options.extend(["--connect-rate", "2500"]);
    let divided = format!("  subRooms: {SUB_ROOMS}\n{OPEN}");
    let (mut costs, mut ratios, mut faults) = ([Vec::new(), Vec::new()], Vec::new(), Faults::default());
    for pair in 1..=scale.pairs {
        // Which of the two comes first alternates: warming up must not favour one.
        let order = if pair % 2 == 0 { [1, 0] } else { [0, 1] };
        let mut times = [0.0; 2];
        for which in order {
            let run = Subject::start([OPEN, &divided][which])?.run(&options)?;
            let said = run.number("/messages/shown");
            times[which] = run.used.cpu_seconds / said.max(1.0) * 1e6;
            costs[which].push(times[which]);
            if which == 0 {
                faults.add(&run);
            } else {
                faults.problems.extend(unlike_a_division(&run, said * viewers as f64));
            }
        }
        println!(
            "    {pair}/{}: {:.0} µs a message undivided, {:.0} µs divided",
            scale.pairs, times[0], times[1]
        );
        ratios.push(times[1] / times[0]);
    }
    let ratio = Row::new("sub-rooms", "CPU per message said, 8 sub-rooms ÷ undivided", &ratios, "×");
    Ok(vec![
        faults.told(ratio.goal(0.25), "of all CPU, also of what a message costs before it is shown"),
        Row::new("sub-rooms", "  undivided", &costs[0], "µs"),
        Row::new("sub-rooms", "  8 sub-rooms", &costs[1], "µs"),
    ])
}

/// The load does not know who is in which sub-room, so it calls lost what others were told. All that can be held against
/// the run is that about an eighth of what an undivided room delivers came, and that everything was shown.
fn unlike_a_division(run: &Measured, undivided: f64) -> Option<String> {
    let part = run.number("/deliveries/received") / undivided.max(1.0) * SUB_ROOMS;
    let refused = run.number("/messages/sampled");
    (!(0.8..=1.2).contains(&part) || refused > 0.0)
        .then(|| format!("{part:.2} of an eighth was delivered, {refused} messages were left out"))
}
