//! The parts of the benches that could be wrong without anybody noticing.

#[path = "../../benches/support/markers.rs"]
pub(crate) mod markers;
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

fn file(path: &str) -> String {
    std::fs::read_to_string(format!("{}/{path}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// As Cargo.toml lists them.
fn benches() -> Vec<String> {
    let manifest = file("Cargo.toml");
    let benches = manifest.split("[[bench]]").skip(1);
    let names = benches.filter_map(|bench| bench.split("name = \"").nth(1)?.split('"').next());
    names.map(ToOwned::to_owned).collect()
}

#[test]
fn each_bench_has_its_section_with_its_tables_and_no_other_has() {
    let document = file("BENCHMARKS.md");
    let sections: Vec<_> = document.split("\n## ").skip(1).collect();
    // The last is written by tests/instructions.
    assert_eq!(sections.len(), benches().len() + 1, "a section for each bench");
    for (section, bench) in sections.iter().zip(benches()) {
        assert!(section.contains(&format!("`cargo bench --bench {bench}`")), "{bench}: {section}");
        let replaced = replaced(section, &bench, "new").unwrap();
        assert!(replaced.trim_end().ends_with(&format!("new\n\n<!-- {bench}:end -->")), "{bench}");
        assert_eq!(replaced.matches("<!-- ").count(), 2, "{bench}");
    }
}

#[test]
fn all_benches_are_run_and_written_alike() {
    let run = format!("{}/benches/run", env!("CARGO_MANIFEST_DIR"));
    let listed = std::process::Command::new(run).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(listed.lines().collect::<Vec<_>>(), benches());
    for bench in benches() {
        let text = file(&format!("benches/{bench}.rs"));
        let begin = format!("Report::begin(\"{bench}\",");
        for part in ["mod support;", "common: Common,", &begin, "report.finish("] {
            assert!(text.contains(part), "{bench} has no {part}");
        }
    }
}

#[test]
fn a_limit_is_kept_or_missed_by_so_much() {
    for (measured, at_most, verdict) in [
        (0.8, 0.8, "kept"),
        (0.0, 1.0, "kept"),
        (25.0, 20.0, "**missed by 25.0 %**"),
        (f64::NAN, 20.0, "not measured"),
    ] {
        assert_eq!(stats::verdict(measured, at_most), verdict);
    }
    assert_eq!((stats::plain(20.0), stats::plain(0.8)), ("20".to_owned(), "0.8".to_owned()));
    assert_eq!(samples(&[1.0, 2.0, 6.0]).mean(), 3.0);
}
