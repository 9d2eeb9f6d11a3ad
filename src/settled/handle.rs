//! Letting go of sled. As the last of its handles goes it syncs once more, and panics where that fails.

use std::ops::Deref;

use crate::lifecycle;

/// One of sled's handles.
#[derive(Clone, Debug)]
pub(super) struct Handle<T>(Option<T>);

impl<T> Handle<T> {
    pub fn new(handle: T) -> Handle<T> {
        Handle(Some(handle))
    }

    /// Drops what is held; it must not be used any more.
    ///
    /// # Errors
    /// The words of sled's panic.
    pub fn let_go(&mut self) -> Result<(), String> {
        let handle = self.0.take();
        lifecycle::contain(|| drop(handle))
    }
}

impl<T> Deref for Handle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only the drop and `Settled::close` let go, and nothing is left of it then")
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        if let Err(why) = self.let_go() {
            // Whatever matters was synced before, by ourselves and with the error looked at.
            tracing::error!(why, "sled cannot sync as it closes");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sulking;

    impl Drop for Sulking {
        fn drop(&mut self) {
            panic!("cannot sync");
        }
    }

    #[test]
    fn a_panic_of_what_is_let_go_is_an_error_and_a_drop_survives_it() {
        let mut handle = Handle::new(Sulking);
        assert_eq!(handle.let_go(), Err("cannot sync".to_owned()));
        assert_eq!(handle.let_go(), Ok(()));
        drop(Handle::new(Sulking));
    }
}
