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
}

impl From<MeetingTable> for IndexedMeetings {
    fn from(book: MeetingTable) -> Self {
        let places = book.meetings.iter().enumerate();
        let places = places.map(|(place, meeting)| (meeting.id.clone(), place)).collect();
        Self { book, places }
    }
}

impl Deref for IndexedMeetings {
    type Target = MeetingTable;

    fn deref(&self) -> &MeetingTable {
        &self.book
    }
}

impl IndexedMeetings {
    pub(crate) fn find(&self, id: &str) -> Option<&Meeting> {
        self.book.meetings.get(*self.places.get(id)?)
    }

    pub(crate) fn get(&self, id: &PackageId) -> Result<&Meeting, RequestError> {
        self.find(id.as_str()).ok_or_else(|| RequestError::UnknownMeeting(id.clone()))
    }
}
