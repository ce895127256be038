//! Nodes that pass packages on to each other.

mod by_rank;
mod choice;
mod faults;
mod links;
mod misses;
mod mixed;
mod named;
mod places;
mod planned;
mod prestage;
mod scripted;
mod versions;
