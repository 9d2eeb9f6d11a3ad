//! Geometries as GeoJSON, vectors as arrays of numbers.
//!
//! # Format
//!
//! `{"type":"Point","coordinates":[13.4,52.5]}` (RFC 7946): x then y, as the source keeps them, so longitude first where the reference system is geographic. The
//! system itself is not told: GeoJSON has no place for it. A geometry with a coordinate that is not finite has no JSON, and one of more than
//! [`MAX_COLLECTIONS`] collections inside each other none that engines or MySQL read.
//!
//! One with a coordinate that is no longitude or latitude lies on a plane, and not on the globe: it ends in a foreign member, `"orientation":"plane"`. A field of type
//! `geo_shape` that ignores what is malformed does ignore such a shape, since no orientation is called so, before it looks at a coordinate. Without that OpenSearch
//! 3.8 turns what it can round the globe until it fits, and indexes it where it is not; and a line to 1e300, which it cuts once per turn, keeps a thread of it for ever
//! (seen: 0.5 s for 1e7).

use crate::event::wkb::{Shape, Step, walk};

/// Most collections inside each other: MySQL's own *ST_AsGeoJSON* says more is "too deep" (its JSON ends at 100 levels).
const MAX_COLLECTIONS: usize = 48;

/// Appends a geometry; `false`, and nothing appended, where it has no JSON.
pub(super) fn geo_json(wkb: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (mut depth, mut has_json, mut on_globe) = (0, true, true);
    let walked = walk(wkb, |step| match step {
        _ if !has_json => {}
        Step::Begin(shape) => {
            if shape == Shape::Collection {
                depth += 1;
                has_json = depth <= MAX_COLLECTIONS;
            }
            out.extend_from_slice(match shape {
                Shape::Point => b"{\"type\":\"Point\",\"coordinates\":",
                Shape::LineString => b"{\"type\":\"LineString\",\"coordinates\":",
                Shape::Polygon => b"{\"type\":\"Polygon\",\"coordinates\":",
                Shape::MultiPoint => b"{\"type\":\"MultiPoint\",\"coordinates\":",
                Shape::MultiLineString => b"{\"type\":\"MultiLineString\",\"coordinates\":",
                Shape::MultiPolygon => b"{\"type\":\"MultiPolygon\",\"coordinates\":",
                Shape::Collection => b"{\"type\":\"GeometryCollection\",\"geometries\":",
            });
        }
        Step::End(shape) => {
            depth -= usize::from(shape == Shape::Collection);
            out.push(b'}');
        }
        Step::Open => out.push(b'['),
        Step::Close => out.push(b']'),
        Step::Next => out.push(b','),
        Step::Point(x, y) if x.is_finite() && y.is_finite() => {
            on_globe &= x.abs() <= 180.0 && y.abs() <= 90.0;
            let (mut first, mut second) = (ryu::Buffer::new(), ryu::Buffer::new());
            out.push(b'[');
            out.extend_from_slice(first.format_finite(x).as_bytes());
            out.push(b',');
            out.extend_from_slice(second.format_finite(y).as_bytes());
            out.push(b']');
        }
        Step::Point(..) => has_json = false,
    });
    // What is no geometry at all does not come this far: the source has looked.
    has_json &= walked.is_ok();
    if !has_json {
        out.truncate(start);
    } else if !on_globe {
        out.pop();
        out.extend_from_slice(b",\"orientation\":\"plane\"}");
    }
    has_json
}

/// Appends a vector, `packed` as [`Value::Vector`](crate::event::Value::Vector) has it; `false`, and nothing appended, where a number is not finite.
pub(super) fn numbers(packed: &[u8], out: &mut Vec<u8>) -> bool {
    let start = out.len();
    let (numbers, rest) = packed.as_chunks::<4>();
    out.push(b'[');
    for (n, number) in numbers.iter().enumerate() {
        let number = f32::from_le_bytes(*number);
        if !number.is_finite() {
            out.truncate(start);
            return false;
        }
        if n > 0 {
            out.push(b',');
        }
        out.extend_from_slice(ryu::Buffer::new().format_finite(number).as_bytes());
    }
    out.push(b']');
    if !rest.is_empty() {
        out.truncate(start);
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(x: f64, y: f64) -> Vec<u8> {
        [&[1, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()].concat()
    }

    fn of(shape: u8, members: &[Vec<u8>]) -> Vec<u8> {
        let header = [1, shape, 0, 0, 0, members.len() as u8, 0, 0, 0];
        [&header[..], &members.concat()].concat()
    }

    fn json(wkb: &[u8]) -> Option<String> {
        let mut out = b"before".to_vec();
        let written = geo_json(wkb, &mut out);
        let text = String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned();
        assert_eq!(written, !text.is_empty());
        written.then_some(text)
    }

    #[test]
    fn geometries_are_geo_json() {
        assert_eq!(json(&point(13.4, 52.5)).unwrap(), "{\"type\":\"Point\",\"coordinates\":[13.4,52.5]}");
        assert_eq!(json(&point(-0.0, 1e-7)).unwrap(), "{\"type\":\"Point\",\"coordinates\":[-0.0,1e-7]}");
        let line: Vec<u8> = [&[1, 2, 0, 0, 0, 1, 0, 0, 0][..], &point(1.0, 2.0)[5..]].concat();
        let all =
            of(7, &[of(4, &[point(1.0, 2.0), point(3.0, 4.0)]), of(5, &[line]), of(7, &[]), of(6, &[])]);
        let expected = "{\"type\":\"GeometryCollection\",\"geometries\":[\
            {\"type\":\"MultiPoint\",\"coordinates\":[[1.0,2.0],[3.0,4.0]]},\
            {\"type\":\"MultiLineString\",\"coordinates\":[[[1.0,2.0]]]},\
            {\"type\":\"GeometryCollection\",\"geometries\":[]},{\"type\":\"MultiPolygon\",\"coordinates\":[]}]}";
        assert_eq!(json(&all).unwrap(), expected);
        serde_json::from_str::<serde_json::Value>(expected).unwrap();
    }

    #[test]
    fn what_does_not_lie_on_the_globe_says_so() {
        for (x, y) in [(180.0, 90.0), (-180.0, -90.0)] {
            assert!(!json(&point(x, y)).unwrap().contains("orientation"));
        }
        for (x, y) in [(180.1, 0.0), (-181.0, 0.0), (0.0, 90.1), (0.0, -1e300)] {
            let expected =
                format!("{{\"type\":\"Point\",\"coordinates\":[{x:?},{y:?}],\"orientation\":\"plane\"}}");
            assert_eq!(json(&point(x, y)).unwrap(), expected);
        }
        let collection = json(&of(7, &[point(1000.0, 0.0), point(1.0, 2.0)])).unwrap();
        assert!(collection.ends_with("[1.0,2.0]}],\"orientation\":\"plane\"}"), "{collection}");
    }

    #[test]
    fn what_has_no_json_leaves_nothing_behind() {
        assert_eq!(json(&of(7, &[point(1.0, 2.0), point(f64::NAN, 2.0), point(1.0, 2.0)])), None);
        assert_eq!(json(&point(1.0, f64::INFINITY)), None);
        assert_eq!(json(&point(1.0, 2.0)[..20]), None);
        let nested = |depth| (0..depth).fold(point(1.0, 2.0), |inner, _| of(7, &[inner]));
        assert!(json(&nested(MAX_COLLECTIONS)).is_some());
        assert_eq!(json(&nested(MAX_COLLECTIONS + 1)), None);
        // Beside each other is not inside each other.
        assert!(json(&of(7, &vec![of(7, &[]); 100])).is_some());
        let mut out = Vec::new();
        for packed in [&f32::NAN.to_le_bytes()[..], &[0, 0, 0x80, 0x7f, 0, 0, 0, 0], &[0, 0, 0]] {
            assert!(!numbers(packed, &mut out) && out.is_empty(), "{packed:?}");
        }
    }

    #[test]
    fn vectors_are_arrays_of_the_shortest_numbers() {
        let packed: Vec<u8> =
            [0.1_f32, -0.0, 16_777_217.0, 1e-45].iter().flat_map(|n| n.to_le_bytes()).collect();
        let mut out = Vec::new();
        assert!(numbers(&packed, &mut out));
        assert_eq!(out, b"[0.1,-0.0,16777216.0,1e-45]");
        out.clear();
        assert!(numbers(&[], &mut out));
        assert_eq!(out, b"[]");
    }
}
