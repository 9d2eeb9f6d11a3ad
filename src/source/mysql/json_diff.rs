//! Differences of a JSON document, applied to what it was, as the text that the server prints of what it became.
//!
//! # Format
//!
//! The differences' length (4), then each of them: an operation (0 replace, 1 insert, 2 remove), the path's length and text, and, unless it removes,
//! the length and bytes of a value in binary JSON. Lengths are length-encoded. (MySQL, sql-common/json_diff.cc, *Json_diff_vector*.) A path is
//! `$` and legs: `.name`, `."quoted name"`, `[3]`, `[last-1]` (sql-common/json_path.cc, *Json_path_leg::to_string*).
//!
//! # Operation
//!
//! Of the document only the objects and arrays on a difference's path are opened; all else stays the bytes that it is and is printed by
//! [`json`](super::json). An object's new member takes its place in the server's order: shorter names first, then by their bytes
//! (*Json_key_comparator*). A path that leads nowhere is an error: the document was another one.

use std::borrow::Cow;
use std::ops::Range;

use super::json::{Container, JsonError, MAX_DEPTH, Printer};
use super::wire::{Short, Wire};

/// Why differences cannot be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    #[error("the differences are malformed")]
    Malformed,
    #[error("a path leads nowhere")]
    Rejected,
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl From<Short> for DiffError {
    fn from(_: Short) -> DiffError {
        DiffError::Malformed
    }
}

/// Replaces `out` by the text of `document` as `diffs` leave it, at most `limit` bytes.
///
/// # Errors
/// See [`DiffError`]; `out` then holds a part.
pub fn write_text<'o>(
    document: &[u8],
    diffs: &[u8],
    out: &'o mut Vec<u8>,
    limit: usize,
) -> Result<&'o str, DiffError> {
    let mut root = match document.split_first() {
        // How a column without a value is stored: the server takes it for null.
        None => Node::Value(4, &[0]),
        Some((kind, bytes)) => Node::Value(*kind, bytes),
    };
    let mut wire = Wire::new(diffs);
    // What is opened is held: not more than could be printed.
    let mut room = limit;
    while !wire.is_empty() {
        let operation = wire.u8()?;
        let path = std::str::from_utf8(wire.string()?).map_err(|_| DiffError::Malformed)?;
        let value = match operation {
            REMOVE => None,
            _ => Some(
                wire.string()?
                    .split_first()
                    .map(|(kind, bytes)| Node::Value(*kind, bytes))
                    .ok_or(DiffError::Malformed)?,
            ),
        };
        apply(&mut root, operation, path, value, &mut room)?;
    }
    let mut printer = Printer::new(out, limit);
    print(&root, &mut printer, 0)?;
    Ok(printer.finish()?)
}

const REPLACE: u8 = 0;
const INSERT: u8 = 1;
const REMOVE: u8 = 2;

/// A value of a document.
#[derive(Clone, Debug)]
enum Node<'a> {
    /// As it is stored: its type and its bytes.
    Value(u8, &'a [u8]),
    Object(Vec<(Cow<'a, [u8]>, Node<'a>)>),
    Array(Vec<Node<'a>>),
}

/// A step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Leg {
    Member(Vec<u8>),
    Cell { index: usize, from_end: bool },
}

impl Leg {
    /// The cell's place in an array of so many; one behind its end is the end.
    fn place(index: usize, from_end: bool, length: usize) -> (usize, bool) {
        match (from_end, index < length) {
            (false, within) => (index.min(length), within),
            (true, true) => (length - index - 1, true),
            (true, false) => (0, false),
        }
    }
}

fn apply<'a>(
    root: &mut Node<'a>,
    operation: u8,
    path: &str,
    value: Option<Node<'a>>,
    room: &mut usize,
) -> Result<(), DiffError> {
    let legs = parse(path)?;
    let Some((last, before)) = legs.split_last() else { return Err(DiffError::Malformed) };
    let mut parent = root;
    for leg in before {
        parent = parent.child(leg, room)?;
    }
    match (operation, value) {
        (REPLACE, Some(value)) => *parent.child(last, room)? = value,
        (INSERT, Some(value)) => parent.insert(last, value, room)?,
        (REMOVE, None) => parent.remove(last, room)?,
        _ => return Err(DiffError::Malformed),
    }
    Ok(())
}

impl<'a> Node<'a> {
    /// An object or array that is still bytes becomes its members.
    fn open(&mut self, room: &mut usize) -> Result<(), DiffError> {
        let Node::Value(kind, bytes) = *self else { return Ok(()) };
        let Some(container) = Container::of(kind, bytes)? else { return Ok(()) };
        *room = room.checked_sub(container.len()).ok_or(JsonError::TooLong)?;
        let (mut members, mut cells) = (Vec::new(), Vec::new());
        for element in container {
            let (name, kind, bytes) = element?;
            match name {
                Some(name) => members.push((Cow::Borrowed(name), Node::Value(kind, bytes))),
                None => cells.push(Node::Value(kind, bytes)),
            }
        }
        *self = if Container::has_names(kind) { Node::Object(members) } else { Node::Array(cells) };
        Ok(())
    }

    fn child(&mut self, leg: &Leg, room: &mut usize) -> Result<&mut Node<'a>, DiffError> {
        self.open(room)?;
        match (self, leg) {
            (Node::Object(members), Leg::Member(name)) => {
                let found = members.iter_mut().find(|(known, _)| known.as_ref() == name);
                found.map(|(_, value)| value).ok_or(DiffError::Rejected)
            }
            (Node::Array(cells), Leg::Cell { index, from_end }) => {
                match Leg::place(*index, *from_end, cells.len()) {
                    (place, true) => cells.get_mut(place).ok_or(DiffError::Rejected),
                    _ => Err(DiffError::Rejected),
                }
            }
            _ => Err(DiffError::Rejected),
        }
    }

    fn insert(&mut self, leg: &Leg, value: Node<'a>, room: &mut usize) -> Result<(), DiffError> {
        self.open(room)?;
        match (self, leg) {
            (Node::Object(members), Leg::Member(name)) => {
                let order = |known: &[u8]| (known.len(), known).cmp(&(name.len(), name.as_slice()));
                match members.binary_search_by(|(known, _)| order(known)) {
                    Ok(_) => Err(DiffError::Rejected),
                    Err(place) => {
                        members.insert(place, (Cow::Owned(name.clone()), value));
                        Ok(())
                    }
                }
            }
            (Node::Array(cells), Leg::Cell { index, from_end }) => {
                let (place, _) = Leg::place(*index, *from_end, cells.len());
                cells.insert(place.min(cells.len()), value);
                Ok(())
            }
            _ => Err(DiffError::Rejected),
        }
    }

    fn remove(&mut self, leg: &Leg, room: &mut usize) -> Result<(), DiffError> {
        self.open(room)?;
        match (self, leg) {
            (Node::Object(members), Leg::Member(name)) => {
                let place = members.iter().position(|(known, _)| known.as_ref() == name);
                members.remove(place.ok_or(DiffError::Rejected)?);
                Ok(())
            }
            (Node::Array(cells), Leg::Cell { index, from_end }) => {
                match Leg::place(*index, *from_end, cells.len()) {
                    (place, true) if place < cells.len() => drop(cells.remove(place)),
                    _ => return Err(DiffError::Rejected),
                }
                Ok(())
            }
            _ => Err(DiffError::Rejected),
        }
    }
}

fn print(node: &Node<'_>, printer: &mut Printer<'_>, depth: u32) -> Result<(), DiffError> {
    if depth > MAX_DEPTH {
        return Err(JsonError::TooDeep.into());
    }
    match node {
        Node::Value(kind, bytes) => printer.value(*kind, bytes, depth)?,
        Node::Object(members) => {
            printer.begin(b'{', depth)?;
            for (i, (name, value)) in members.iter().enumerate() {
                printer.name(i, name)?;
                print(value, printer, depth + 1)?;
            }
            printer.end(b'}');
        }
        Node::Array(cells) => {
            printer.begin(b'[', depth)?;
            for (i, value) in cells.iter().enumerate() {
                printer.cell(i);
                print(value, printer, depth + 1)?;
            }
            printer.end(b']');
        }
    }
    Ok(())
}

/// A path's legs.
fn parse(path: &str) -> Result<Vec<Leg>, DiffError> {
    let mut rest = path.strip_prefix('$').ok_or(DiffError::Malformed)?;
    let mut legs = Vec::new();
    while let Some(first) = rest.chars().next() {
        if legs.len() >= MAX_DEPTH as usize {
            return Err(JsonError::TooDeep.into());
        }
        let (leg, after) = match first {
            '.' if rest.starts_with(".\"") => {
                let end = 1 + quoted(rest.get(1..).unwrap_or_default()).ok_or(DiffError::Malformed)?.end;
                let (leg, after) = rest.split_at_checked(end).ok_or(DiffError::Malformed)?;
                // The server writes it as a JSON string.
                let name: String = serde_json::from_str(leg.get(1..).unwrap_or_default())
                    .map_err(|_| DiffError::Malformed)?;
                (Leg::Member(name.into_bytes()), after)
            }
            '.' => {
                let name = rest.get(1..).unwrap_or_default();
                let end = name.find(['.', '[']).unwrap_or(name.len());
                let (name, after) = name.split_at_checked(end).ok_or(DiffError::Malformed)?;
                if name.is_empty() {
                    return Err(DiffError::Malformed);
                }
                (Leg::Member(name.as_bytes().to_vec()), after)
            }
            '[' => {
                let (cell, after) =
                    rest.get(1..).and_then(|rest| rest.split_once(']')).ok_or(DiffError::Malformed)?;
                let (digits, from_end) = match cell.strip_prefix("last") {
                    Some("") => ("0", true),
                    Some(back) => (back.strip_prefix('-').ok_or(DiffError::Malformed)?, true),
                    None => (cell, false),
                };
                let index = digits.parse().map_err(|_| DiffError::Malformed)?;
                (Leg::Cell { index, from_end }, after)
            }
            _ => return Err(DiffError::Malformed),
        };
        legs.push(leg);
        rest = after;
    }
    Ok(legs)
}

/// The extent of the JSON string that `text` begins with.
fn quoted(text: &str) -> Option<Range<usize>> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(0..at + 1),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
#[path = "json_diff_tests.rs"]
mod tests;
