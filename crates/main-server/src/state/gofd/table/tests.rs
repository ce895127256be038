use super::*;

fn at(seconds: u64) -> UnixMillis {
    UnixMillis::from_secs(1_000_000 + seconds)
}

fn request(files: &[&str], ips: &[&str]) -> GofdRequest {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    GofdRequest::check("1".to_owned(), own(files), own(ips), "gofd").unwrap()
}

fn posted(
    table: &mut GofdTable,
    files: &[&str],
    ips: &[&str],
    now: u64,
) -> Result<(), GofdRefusal> {
    let request = request(files, ips);
    let kinds = ips.iter().map(|ip| ((*ip).to_owned(), GofdPlaceKind::Agent)).collect();
    table.post(request, kinds, false, [127, 0, 0, 1].into(), at(now))
}

fn status(table: &mut GofdTable, now: u64) -> Option<(GofdStatus, Vec<GofdStatus>)> {
    let shown = table.shown("1", at(now))?;
    Some((shown.status, shown.dispatch_infos.values().map(|info| info.status).collect()))
}

/// Has the agents A and B told of a run.
fn tell(table: &mut GofdTable, run: u32) {
    for ip in [A, B] {
        table.tell("1", run, ip);
    }
}

const A: &str = "10.0.0.1";
const B: &str = "10.0.0.2";

#[test]
fn a_task_is_completed_only_if_all_are_and_goes_after_five_minutes() {
    use GofdStatus::{Completed, Failed, InProgress, Init};
    for (second, whole) in [(PlaceReport::Completed, Completed), (PlaceReport::Failed, Failed)] {
        let mut table = GofdTable::default();
        posted(&mut table, &["/f"], &[A, B], 0).unwrap();
        assert_eq!(status(&mut table, 0), Some((Init, vec![Init, Init])));
        assert_eq!(table.take_due(5).len(), 1);
        assert_eq!(table.take_due(5), []);
        table.begin("1", 1);
        assert!(!table.report("1", A, PlaceReport::Completed, at(1)), "of an earlier task");
        tell(&mut table, 1);
        assert!(table.report("1", A, PlaceReport::Progress(13.8), at(1)));
        assert_eq!(status(&mut table, 1), Some((InProgress, vec![InProgress, Init])));
        assert!(table.report("1", A, PlaceReport::Completed, at(2)));
        assert!(!table.report("1", A, PlaceReport::Failed, at(3)), "what is achieved stays");
        assert!(!table.report("1", "10.0.0.3", PlaceReport::Failed, at(3)));
        assert!(!table.report("2", A, PlaceReport::Failed, at(3)));
        assert_eq!(status(&mut table, 3), Some((InProgress, vec![Completed, Init])));
        assert!(table.report("1", B, second, at(4)));
        assert_eq!(status(&mut table, 304).unwrap().0, whole, "its run is being ended");
        table.release("1");
        assert_eq!(status(&mut table, 303).unwrap().0, whole);
        assert_eq!(status(&mut table, 304), None);
        assert!(posted(&mut table, &["/other"], &[A], 304).is_ok(), "the id is free");
    }
}

#[test]
fn the_same_task_again_is_the_same_and_another_is_refused() {
    let mut table = GofdTable::default();
    posted(&mut table, &["/a", "/b"], &[A, B], 0).unwrap();
    assert_eq!(posted(&mut table, &["/b", "/a"], &[B, A], 1), Ok(()));
    assert_eq!(table.take_due(5).len(), 1, "nothing was begun again");
    for (files, ips) in [(vec!["/a"], vec![A, B]), (vec!["/a", "/b"], vec![A])] {
        assert_eq!(posted(&mut table, &files, &ips, 2), Err(GofdRefusal::Existed));
    }
    tell(&mut table, 1);
    table.report("1", A, PlaceReport::Completed, at(3));
    table.report("1", B, PlaceReport::Failed, at(3));
    assert_eq!(posted(&mut table, &["/a", "/b"], &[A, B], 4), Ok(()));
    assert_eq!(table.take_due(5), [], "the first run is being ended");
    table.release("1");
    let jobs = table.take_due(5);
    assert_eq!((jobs.len(), jobs[0].run), (1, 2));
    assert_eq!(jobs[0].places.keys().collect::<Vec<_>>(), [B], "A has it");
    assert!(!table.note("1", 1, B, PlaceReport::Completed, at(5)), "of the run before");
    assert!(table.note("1", 2, B, PlaceReport::Completed, at(6)));
    assert_eq!(status(&mut table, 6).unwrap().0, GofdStatus::Completed);
    assert_eq!(posted(&mut table, &["/a", "/b"], &[A, B], 7), Ok(()));
    assert_eq!(table.take_due(5), [], "a completed one is not begun again");
}

#[test]
fn a_cancelled_task_has_failed_and_a_finished_one_stays() {
    let mut table = GofdTable::default();
    assert!(!table.cancel("1", at(0)));
    posted(&mut table, &["/a"], &[A], 0).unwrap();
    assert!(table.cancel("1", at(1)));
    assert!(table.places("1", 1).is_none());
    assert_eq!(status(&mut table, 1), Some((GofdStatus::Failed, vec![GofdStatus::Init])));
    assert_eq!(table.take_due(5), []);
    posted(&mut table, &["/a"], &[A], 2).unwrap();
    tell(&mut table, 2);
    table.report("1", A, PlaceReport::Completed, at(3));
    assert!(table.cancel("1", at(4)));
    assert_eq!(status(&mut table, 4).unwrap().0, GofdStatus::Completed);
}

#[test]
fn a_missing_file_ends_it_at_once() {
    let mut table = GofdTable::default();
    let kinds = [(A.to_owned(), GofdPlaceKind::Agent)].into();
    table.post(request(&["/a"], &[A]), kinds, true, [127, 0, 0, 1].into(), at(0)).unwrap();
    let missing = (GofdStatus::FileNotExisted, vec![GofdStatus::Init]);
    assert_eq!(status(&mut table, 0), Some(missing));
    assert_eq!(table.take_due(5), []);
}

#[test]
fn there_is_a_bound() {
    let mut table = GofdTable::default();
    for number in 0..MAX_TASKS {
        let mut request = request(&["/a"], &[A]);
        request.id = number.to_string();
        table.post(request, BTreeMap::new(), true, [127, 0, 0, 1].into(), at(0)).unwrap();
    }
    let mut one_more = request(&["/a"], &[A]);
    one_more.id = "more".to_owned();
    assert_eq!(table.look(&one_more, at(1)), Err(GofdRefusal::Full(MAX_TASKS)));
    assert_eq!(table.look(&one_more, at(300)), Ok(GofdPosting::New));
}

#[test]
fn percentages_are_read_as_whole_numbers() {
    for (percent, report) in [
        (100.0, Some(PlaceReport::Completed)),
        (99.9, Some(PlaceReport::Progress(99.9))),
        (0.0, Some(PlaceReport::Progress(0.0))),
        (-1.0, Some(PlaceReport::Failed)),
        (-0.5, None),
        (-2.0, None),
        (101.0, None),
        (f64::NAN, None),
        (f64::INFINITY, None),
    ] {
        assert_eq!(PlaceReport::from_percent(percent), report, "{percent}");
    }
}
