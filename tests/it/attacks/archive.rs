//! Packages that lost a bit, and packages made to fill memory.

mod flips;
mod layout;
mod many_entries;
