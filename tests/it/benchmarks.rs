//! The parts of the benches that could be wrong without anybody noticing.

#[path = "../../benches/support/markers.rs"]
mod markers;
#[allow(dead_code, reason = "the benches use the rest")]
#[path = "../../benches/support/stats.rs"]
mod stats;

use markers::replaced;
use stats::Samples;

fn samples(values: &[f64]) -> Samples {
    values.iter().copied().collect()
}

#[test]
fn medians_and_quantiles_are_those_of_the_sorted_values() {
    for (values, median, p99, least, most) in [
        (&[3.0, 1.0, 2.0][..], 2.0, 3.0, 1.0, 3.0),
        (&[4.0, 1.0, 3.0, 2.0], 2.5, 4.0, 1.0, 4.0),
        (&[7.0], 7.0, 7.0, 7.0, 7.0),
        (&[f64::NAN, 7.0], 7.0, 7.0, 7.0, 7.0),
    ] {
        let samples = samples(values);
        assert_eq!((samples.median(), samples.quantile(0.99)), (median, p99), "{values:?}");
        assert_eq!((samples.min(), samples.max()), (least, most), "{values:?}");
    }
    let hundred: Samples = (1..=100).map(f64::from).collect();
    assert_eq!((hundred.quantile(0.5), hundred.quantile(0.99)), (50.0, 99.0));
    assert!(samples(&[]).median().is_nan() && samples(&[]).quantile(0.5).is_nan());
}

#[test]
fn ratios_are_those_of_rounds_that_belong_together() {
    let ratios = Samples::ratios(&[2.0, 9.0, 4.0], &[1.0, 3.0, 4.0]);
    assert_eq!(ratios, samples(&[2.0, 3.0, 1.0]));
    assert_eq!(stats::ratio_spread(&ratios), "**2.00** (1.00–3.00)");
}

#[test]
fn figures_have_three_digits_that_mean_something() {
    for (value, text) in [
        (3087.4, "3087"),
        (79.53, "79.5"),
        (1.789, "1.79"),
        (0.0, "0.00"),
        (0.3172, "0.317"),
        (0.00912, "0.00912"),
        (f64::NAN, "–"),
    ] {
        assert_eq!(stats::figure(value), text);
    }
}

#[test]
fn the_tables_of_a_bench_replace_its_old_ones_and_nothing_else() {
    let old = "# Title\n\n<!-- a:begin -->\n\nold\n\n<!-- a:end -->\n\nwords\n";
    let new = replaced(old, "a", "new\n\n").unwrap();
    assert_eq!(new, old.replace("old", "new"));
    assert_eq!(replaced(&new, "a", "new").unwrap(), new, "once more changes nothing");

    let both = replaced(&new, "b", "first").unwrap();
    assert!(
        both.starts_with(&new)
            && both.ends_with("\n\n<!-- b:begin -->\n\nfirst\n\n<!-- b:end -->\n")
    );
    assert_eq!(replaced("", "b", "x").unwrap(), "<!-- b:begin -->\n\nx\n\n<!-- b:end -->\n");
    for broken in ["<!-- a:begin -->", "<!-- a:end --><!-- a:begin -->"] {
        assert!(replaced(broken, "a", "x").is_err(), "{broken}");
    }
}
