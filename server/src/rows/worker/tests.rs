use super::*;

/// Takes whoever comes and does nothing.
struct Nothing;

impl Handler for Nothing {
    type Viewer = ();
    type Order = ();

    fn opened(&self, (): &mut (), _: &mut Io<'_>) {}
    fn text(&self, (): &mut (), _: &str, _: &mut Io<'_>) {}
    fn binary(&self, (): &mut (), _: &[u8], _: &mut Io<'_>) {}
    fn due(&self, (): &mut (), _: &mut Io<'_>) {}
    fn visit(&self, (): &mut (), (): &(), _: &mut Io<'_>) {}
    fn closed(&self, (): (), _: Option<CloseCode>, _: usize) {}
}

#[test]
fn a_drain_wakes_the_worker_only_until_its_deadline() {
    let (inboxes, mut polls) = Inboxes::new(1).unwrap();
    let (handler, metrics) = (Arc::new(Nothing), Arc::new(Metrics::default()));
    let mut worker = Worker::new(0, polls.remove(0), inboxes, handler, Limits::default(), metrics);
    let idle = worker.patience();
    assert!(idle > DRAIN_STEP);
    let deadline = worker.now + Duration::from_secs(60);
    worker.obey(Command::Drain { order: Arc::new(()), spread_until: deadline, deadline });
    worker.step_drain();
    assert_eq!(worker.patience(), DRAIN_STEP);
    worker.now = deadline;
    worker.wheel = Wheel::new(deadline);
    worker.step_drain();
    assert_eq!(worker.patience(), idle, "a process that stays drained must sleep");
    worker.obey(Command::Undrain);
    assert!(worker.drain.is_none());
}
