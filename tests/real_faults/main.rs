//! Faults of disk and process, dealt to the shipped binary: `strace` makes single system calls fail, hang or kill, small file systems run
//! full, folders are damaged by hand, signals come at bad moments. Each test is named after the fault's row in the list that
//! tests/faults_named.rs holds to.
//!
//! What every test asks: the relay ends with words that name the place and the step, or goes on; nothing half alive, nothing hung. The
//! folder that it leaves can be opened, and in the end `SELECT *` equals the index.
//!
//! `EVERRELAY_TEST_SWEEP=all` strikes at every call instead of at some; `EVERRELAY_TEST_SEED` chooses the same ones again.
//!
//! | file | faults |
//! |---|---|
//! | [`rounds`] | the play that is struck: a table rewritten again and again |
//! | [`kills`] | 1, 13: SIGKILL at the nth call |
//! | [`errors`] | 6, 7, 8, 9, 11: calls that fail, or claim to have succeeded |
//! | [`limits`] | 11, 12: a disk that becomes read-only, no descriptors, no inodes, no threads |
//! | [`log_folder`] | 3, 4, 5, 15, 18: the log damaged by hand |
//! | [`settled_folder`] | 16, 17: the cursor lost, damaged, or old |
//! | [`signals`] | 20, 21: told to end while nothing answers; stopped for a while |
//! | [`slow_disk`] | 23: syncs that take their time |

#[path = "../support/mod.rs"]
mod support;

mod errors;
mod kills;
mod limits;
mod log_folder;
mod rounds;
mod settled_folder;
mod signals;
mod slow_disk;

use std::time::Duration;

/// Longer than anything here takes that does not hang.
const SOON: Duration = Duration::from_secs(30);
