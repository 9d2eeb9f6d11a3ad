//! XA_PREPARE events: the end of a prepared transaction's rows.

use super::wire::{Short, Wire};

/// What an XA_PREPARE event says (MySQL, *XA_prepare_event*).
#[derive(Debug)]
pub struct XaPrepare {
    /// `XA COMMIT … ONE PHASE`: it commits.
    pub one_phase: bool,
    /// As XA COMMIT will write it, in lower case.
    pub xid: String,
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
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (global, branch) = (hex(wire.take(global)?), hex(wire.take(branch)?));
        Ok(XaPrepare { one_phase, xid: format!("x'{global}',x'{branch}',{format}") })
    }
}
