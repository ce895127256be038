//! The requests that bring the files of a task that are missing. Pure.

use std::ops::Range;

use edge_mirror_protocol::dispatch::{MAX_BUNDLE_FILES, MAX_BUNDLED_BYTES, TaskFile};

/// One request: files that follow each other in the list. A single file may be large.
pub(super) type PullUnit = Range<usize>;

/// Returns the requests for files that are missing, in the list's order. Those for several
/// files have at most so many bytes.
pub(super) fn units(
    files: &[TaskFile],
    most_bytes: u64,
    is_missing: impl Fn(&TaskFile) -> bool,
) -> Vec<PullUnit> {
    let mut units: Vec<PullUnit> = Vec::new();
    // Bytes of the last one; None: nothing can be added to it.
    let mut open: Option<u64> = None;
    for (number, file) in files.iter().enumerate() {
        if !is_missing(file) {
            open = None;
            continue;
        }
        let is_small = file.size <= MAX_BUNDLED_BYTES;
        let before = open.filter(|bytes| is_small && bytes + file.size <= most_bytes);
        match (before, units.last_mut()) {
            (Some(bytes), Some(last)) if last.len() < MAX_BUNDLE_FILES => {
                last.end = number + 1;
                open = Some(bytes + file.size);
            }
            _ => {
                units.push(number..number + 1);
                open = is_small.then_some(file.size);
            }
        }
    }
    units
}

/// Returns how many of the files so many bytes have, one after the other, and their bytes.
pub(super) fn complete_prefix(files: &[TaskFile], bytes: u64) -> (usize, u64) {
    let mut complete = (0, 0);
    for file in files {
        let end = complete.1 + file.size;
        if end > bytes {
            break;
        }
        complete = (complete.0 + 1, end);
    }
    complete
}

#[cfg(test)]
mod tests {
    use edge_mirror_protocol::{dispatch::MAX_BUNDLE_BYTES, package::Sha256};

    use super::*;

    fn files(sizes: &[u64]) -> Vec<TaskFile> {
        let file = |(n, size): (usize, &u64)| TaskFile {
            name: n.to_string(),
            size: *size,
            sha256: Sha256::new([0; 32]),
        };
        sizes.iter().enumerate().map(file).collect()
    }

    fn of(sizes: &[u64], missing: &[usize]) -> Vec<PullUnit> {
        units(&files(sizes), MAX_BUNDLE_BYTES, |file| missing.contains(&file.name.parse().unwrap()))
    }

    #[test]
    fn small_files_that_follow_each_other_come_together() {
        const LARGE: u64 = MAX_BUNDLED_BYTES + 1;
        assert_eq!(of(&[1, 0, 3], &[0, 1, 2]), std::slice::from_ref(&(0..3)));
        assert_eq!(of(&[1, 2, 3, 4], &[0, 1, 3]), [0..2, 3..4]);
        assert_eq!(of(&[1, LARGE, 1, 1], &[0, 1, 2, 3]), [0..1, 1..2, 2..4]);
        assert_eq!(of(&[LARGE, LARGE], &[0, 1]), [0..1, 1..2]);
        assert_eq!(of(&[1, 2], &[]), Vec::<PullUnit>::new());
    }

    #[test]
    fn files_that_have_come_whole_count_though_the_answer_breaks_off() {
        let files = files(&[3, 0, 2, 0]);
        let complete = [0, 2, 3, 4, 5, 9].map(|bytes| complete_prefix(&files, bytes));
        assert_eq!(complete, [(0, 0), (0, 0), (2, 3), (2, 3), (4, 5), (4, 5)]);
    }

    #[test]
    fn a_task_with_a_limit_asks_for_less_at_once() {
        let files = files(&[400, 500, 200, 2000, 10]);
        assert_eq!(units(&files, 1000, |_| true), [0..2, 2..3, 3..4, 4..5]);
    }

    #[test]
    fn no_request_is_larger_than_the_main_server_answers() {
        let sizes = vec![1; MAX_BUNDLE_FILES * 2 + 1];
        let all: Vec<_> = (0..sizes.len()).collect();
        let by_count = of(&sizes, &all);
        let lengths: Vec<_> = by_count.iter().map(PullUnit::len).collect();
        assert_eq!(lengths, [MAX_BUNDLE_FILES, MAX_BUNDLE_FILES, 1]);
        let per_unit = usize::try_from(MAX_BUNDLE_BYTES / MAX_BUNDLED_BYTES).unwrap();
        let sizes = vec![MAX_BUNDLED_BYTES; per_unit + 1];
        let all: Vec<_> = (0..sizes.len()).collect();
        assert_eq!(of(&sizes, &all), [0..per_unit, per_unit..per_unit + 1]);
    }
}
