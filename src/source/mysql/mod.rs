//! MySQL, read as a replica reads it.
