//! The problems of the shared package store, and of the copies here.

use crate::{
    packages::is_copy_current,
    server::Server,
    state::{index::IndexedMeetings, problems::PackagesSnapshot},
};

/// Looks at meetings whose rows name packages; costs nothing where none does.
pub(super) fn snapshot<'a>(server: &Server, book: &'a IndexedMeetings) -> PackagesSnapshot<'a> {
    let named = || book.meetings.iter().filter(|meeting| meeting.package.is_some());
    let Some(shared) = &server.shared else {
        let elsewhere = named().filter(|meeting| !is_copy_current(meeting, &server.store)).count();
        let is_unshared = server.others().0 > 0;
        return PackagesSnapshot { elsewhere, is_unshared, ..PackagesSnapshot::default() };
    };
    let wanted = named().filter(|meeting| meeting.is_running() || meeting.prestaged);
    let not_fetched = wanted.filter_map(|meeting| {
        if is_copy_current(meeting, &server.store) {
            return None;
        }
        Some((meeting, shared.pulls().failure(&meeting.id)?.reason.clone()))
    });
    PackagesSnapshot {
        fault: shared.fault().map(|text| (shared.blobs.location().to_string(), text)),
        not_fetched: not_fetched.collect(),
        ..PackagesSnapshot::default()
    }
}
