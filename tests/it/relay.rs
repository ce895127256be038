//! Nodes that pass packages on to each other.

mod by_rank;
mod faults;
mod planned;
