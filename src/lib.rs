//! everrelay: a durable disk-queue change-data-capture relay from MySQL to Elasticsearch.
//!
//! This file is the map. Rooms import strictly downward, and rooms on one floor do not import each other
//! (`tests/layering.rs` holds that); docs/design.md argues why it is right.
//!
//! | floor | room | what it promises |
//! |---|---|---|
//! | 7 doors | [`cli`] | commands, exit codes, and what they print |
//! | 6 | [`admin`] | what probes, Prometheus and people ask by HTTP |
//! | 5 | [`config`] | one file; what it does not understand it refuses |
//! | 4 | [`relay`] | source to log, log to sink, and the cursor that never passes what is not settled |
//! | | [`diff`] | a table against its index: what outlives the relay's lag |
//! | 3 edges | [`source`] | every committed row change, in order, or a definite error |
//! | | [`mapping`] | the same row always gives the same document under the same id |
//! | | [`sink`] | every item's outcome, or that it is unknown |
//! | 2 storage | [`log`] | what it made visible it never loses and never changes |
//! | | [`settled`] | how far each sink has come: it may fall back, never run ahead |
//! | 1 | [`event`] | the words that all rooms share |
//! | 0 ground | [`clock`] [`disk`] | time and files, replaceable by simulated ones |
//! | | [`lifecycle`] [`backoff`] | how the process ends, says that it is well, and waits |
//! | | [`metrics`] [`secret`] | what is counted, and what must not be seen |
#![forbid(unsafe_code)]

pub mod admin;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod diff;
pub mod disk;
pub mod event;
pub mod lifecycle;
pub mod log;
pub mod mapping;
pub mod metrics;
pub mod relay;
pub mod secret;
pub mod settled;
pub mod sink;
pub mod source;
