//! The number of connections there may be.

use tracing::debug;

/// Each connection costs some tens of kilobytes, in the kernel and here;
/// those beyond wait in the backlog.
pub const MAX_CONNECTIONS: usize = 8192;
/// Quarters of the process's file descriptors that connections may have: packages, pulls,
/// logs and pages need the rest.
const QUARTERS: u64 = 3;
/// The minimum of connections, whatever the limit.
pub(super) const MIN_CONNECTIONS: usize = 64;

/// Returns how many connections the descriptors allow, and `most`. The soft limit is raised to the
/// hard one first: it is low for the sake of programs that use `select`.
pub(super) fn places(most: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        debug!("limit of open files not raised: {error}");
    }
    places_of(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), most)
}

pub(super) fn places_of(files: u64, most: usize) -> usize {
    let places = usize::try_from(files / 4 * QUARTERS).unwrap_or(usize::MAX);
    places.clamp(MIN_CONNECTIONS, most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_all_else_and_memory_for_all() {
        let of = |files| places_of(files, MAX_CONNECTIONS);
        assert_eq!([10, 1024, 4096].map(of), [64, 768, 3072]);
        assert_eq!((of(u64::MAX), places_of(u64::MAX, 24_576)), (8192, 24_576));
        assert!((MIN_CONNECTIONS..=MAX_CONNECTIONS).contains(&places(MAX_CONNECTIONS)));
    }
}
