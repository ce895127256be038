//! One binary, a file to a feature. Real nodes and real main servers on free
//! ports of the loopback interface; nothing here talks to any other address.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "tests make the mess that the code has to live with"
)]

mod support;

mod access;
mod addresses;
mod attacks;
mod bench;
mod benchmarks;
mod castray;
mod casts;
mod cluster;
mod commands;
mod config;
mod content_probes;
mod cut_through;
mod demand;
mod demo;
mod dispatch;
mod docs;
mod failover;
mod gofd;
mod health;
mod house;
mod ids;
mod install;
mod limits;
mod main_server;
mod metrics;
mod monitoring;
mod overview;
mod package;
mod panel_api;
mod presence;
mod process;
mod readiness;
mod ready;
mod relay;
mod remote_tasks;
mod restart;
mod serving;
mod shared_packages;
mod storage;
mod sync;
mod systemd;
mod tls;
