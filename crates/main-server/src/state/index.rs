//! The book as readers get it, with an index by id: heartbeats and lists name thousands.

use std::{collections::HashMap, ops::Deref};

use edge_mirror_protocol::package::PackageId;

use crate::{
    refusal::Refusal,
    state::meetings::{Book, Meeting},
};

#[derive(Debug)]
pub struct IndexedBook {
    book: Book,
    places: HashMap<PackageId, usize>,
}

impl From<Book> for IndexedBook {
    fn from(book: Book) -> Self {
        let places = book.meetings.iter().enumerate();
        let places = places.map(|(place, meeting)| (meeting.id.clone(), place)).collect();
        Self { book, places }
    }
}

impl Deref for IndexedBook {
    type Target = Book;

    fn deref(&self) -> &Book {
        &self.book
    }
}

impl IndexedBook {
    pub fn find(&self, id: &str) -> Option<&Meeting> {
        self.book.meetings.get(*self.places.get(id)?)
    }

    pub fn get(&self, id: &PackageId) -> Result<&Meeting, Refusal> {
        self.find(id.as_str()).ok_or_else(|| Refusal::UnknownMeeting(id.clone()))
    }
}
