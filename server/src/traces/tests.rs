use proptest::prelude::*;

use super::*;

fn one_in(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).unwrap()
}

#[test]
fn about_one_message_in_so_many_is_traced_though_their_ids_count() {
    let ids = || (0..200_000).filter_map(|_| ulid::Ulid::from_string(&crate::room::id::next()).ok());
    for n in [1, 10, 100, 1000] {
        let traced = ids().filter(|id| is_traced(id.0, one_in(n))).count();
        let expected = 200_000.0 / n as f64;
        // Six standard deviations: once in a billion runs.
        let most = 6.0 * expected.sqrt();
        assert!((traced as f64 - expected).abs() <= most, "1 in {n}: {traced}");
    }
}

#[test]
fn pods_of_two_versions_agree_on_what_is_traced() {
    let id = ulid::Ulid::from_string("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap().0;
    assert_eq!((hash(id, 0), hash(id, 1)), (1_963_587_576_219_102_361, 13_835_958_106_027_281_723));
}

#[test]
fn a_trace_is_called_as_the_message_is() {
    let message = crate::room::id::next();
    let id = ulid::Ulid::from_string(&message).unwrap();
    assert_eq!(ulid::Ulid::from_bytes(TraceId::from(id.0).to_bytes()).to_string(), message);
}

#[test]
fn the_wall_clock_is_known_before_and_after_a_moment() {
    let moment = Moment::now();
    let second = Duration::from_secs(1);
    assert_eq!(moment.clock(moment.at + second), moment.wall + second);
    assert_eq!(moment.clock(moment.at), moment.wall);
    if let Some(before) = moment.at.checked_sub(second) {
        assert_eq!(moment.clock(before), moment.wall - second);
    }
}

#[test]
fn an_endpoint_is_the_collectors_without_the_path_of_traces() {
    let parse = |endpoint| Settings::parse(endpoint, one_in(1)).map(|settings| settings.endpoint.to_string());
    assert_eq!(parse("http://collector:4318").unwrap(), "http://collector:4318/v1/traces");
    assert_eq!(parse("https://otlp.example.com/danmu/").unwrap(), "https://otlp.example.com/danmu/v1/traces");
    for bad in
        ["collector:4318", "ftp://collector", "http://", "http:///x", "grpc://c:4317", "http://c?a=b", "弾幕"]
    {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

proptest! {
    #[test]
    fn every_message_that_is_traced_at_a_low_rate_is_traced_at_a_multiple_of_it(id: u128, n in 1u64..1000, m in 1u64..1000) {
        prop_assert!(is_traced(id, one_in(1)));
        prop_assert!(!is_traced(id, one_in(n * m)) || is_traced(id, one_in(n)));
    }

    #[test]
    fn the_first_span_of_a_message_has_a_valid_name_that_differs_from_its_neighbours(id: u128) {
        prop_assert_ne!(first_span(id), SpanId::INVALID);
        prop_assert_ne!(first_span(id), first_span(id.wrapping_add(1)));
    }
}
