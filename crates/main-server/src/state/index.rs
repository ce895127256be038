//! The meetings as readers get them, with an index by id: heartbeats and lists name thousands.

use std::{collections::HashMap, ops::Deref};

use edge_mirror_protocol::package::PackageId;

use crate::{
    refusal::RequestError,
    state::meetings::{Meeting, MeetingTable},
};

#[derive(Debug)]
pub(crate) struct IndexedMeetings {
    book: MeetingTable,
    places: HashMap<PackageId, usize>,
    has_unannounced: bool,
}

impl From<MeetingTable> for IndexedMeetings {
    fn from(book: MeetingTable) -> Self {
        let places = book.meetings.iter().enumerate();
        let places = places.map(|(place, meeting)| (meeting.id.clone(), place)).collect();
        let has_unannounced = book.meetings.iter().any(|meeting| meeting.unannounced);
        Self { book, places, has_unannounced }
    }
}

impl Deref for IndexedMeetings {
    type Target = MeetingTable;

    fn deref(&self) -> &MeetingTable {
        &self.book
    }
}

impl IndexedMeetings {
    /// True if clients have not been told yet of a meeting that was started: each heartbeat
    /// asks.
    pub(crate) fn has_unannounced(&self) -> bool {
        self.has_unannounced
    }

    pub(crate) fn find(&self, id: &str) -> Option<&Meeting> {
        self.book.meetings.get(*self.places.get(id)?)
    }

    pub(crate) fn get(&self, id: &PackageId) -> Result<&Meeting, RequestError> {
        self.find(id.as_str()).ok_or_else(|| RequestError::UnknownMeeting(id.clone()))
    }
}
