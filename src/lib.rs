//! everrelay: a durable disk-queue change-data-capture relay from MySQL to Elasticsearch.
//!
//! This file is the map. Rooms import strictly downward, and rooms on one floor do not import each other
//! (`tests/layering.rs` holds that); docs/design.md argues why it is right.
//!
//! | floor | room | what it promises |
//! |---|---|---|
//! | 3 edges | [`source`] | every committed row change, in order, or a definite error |
//! | | [`mapping`] | the same row always gives the same document under the same id |
//! | | [`sink`] | every item's outcome, or that it is unknown |
//! | 2 storage | [`log`] | what it made visible it never loses and never changes |
//! | 1 | [`event`] | the words that all rooms share |
//! | 0 ground | [`clock`] [`disk`] | time and files, replaceable by simulated ones |
//! | | [`lifecycle`] [`backoff`] | how the process ends, says that it is well, and waits |
//! | | [`metrics`] [`secret`] | what is counted, and what must not be seen |
#![forbid(unsafe_code)]

pub mod backoff;
pub mod clock;
pub mod disk;
pub mod event;
pub mod lifecycle;
pub mod log;
pub mod mapping;
pub mod metrics;
pub mod secret;
pub mod sink;
pub mod source;
