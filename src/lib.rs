//! everrelay: a durable disk-queue change-data-capture relay from MySQL to Elasticsearch.
//!
//! This file is the map. Rooms import strictly downward, and rooms on one floor do not import each other
//! (`tests/layering.rs` holds that); docs/design.md argues why it is right.
//!
//! | floor | room | what it promises |
//! |---|---|---|
//! | 3 edges | [`source`] | every committed row change, in order, or a definite error |
//! | | [`sink`] | every item's outcome, or that it is unknown |
//! | 2 storage | [`log`] | what it made visible it never loses and never changes |
//! | | [`settled`] | how far each sink has come: it may fall back, never run ahead |
//! | 1 | [`event`] | the words that all rooms share |
//! | 0 ground | [`clock`] [`disk`] | time and files, replaceable by simulated ones |
#![forbid(unsafe_code)]

pub mod clock;
pub mod disk;
pub mod event;
pub mod log;
pub mod settled;
pub mod sink;
pub mod source;
