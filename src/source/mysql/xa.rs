//! XA_PREPARE events: the end of a prepared transaction's rows.

use super::wire::{Short, Wire};
use crate::event::Xid;

/// What an XA_PREPARE event says (MySQL, *XA_prepare_event*).
#[derive(Debug)]
pub struct XaPrepare {
    /// `XA COMMIT … ONE PHASE`: it commits.
    pub one_phase: bool,
    /// `None`: it is longer than an xid may be.
    pub xid: Option<Xid>,
}

impl XaPrepare {
    /// `body`: the event without its common header.
    ///
    /// # Errors
    /// It ends early.
    pub fn parse(body: &[u8]) -> Result<XaPrepare, Short> {
        let mut wire = Wire::new(body);
        let one_phase = wire.u8()? != 0;
        let format = wire.u32()?;
        let (global, branch) = (wire.u32()? as usize, wire.u32()? as usize);
        let (global, branch) = (wire.take(global)?, wire.take(branch)?);
        Ok(XaPrepare { one_phase, xid: Xid::new(format, global, branch) })
    }
}
