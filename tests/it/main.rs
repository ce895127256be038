//! One binary, a file to a feature. Real nodes and real main servers on free
//! ports of the loopback interface; nothing here talks to any other address.

mod support;

mod config;
mod presence;
mod serving;
mod storage;
mod sync;
