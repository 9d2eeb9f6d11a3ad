//! Well-known binary: the shape of a geometry, walked over from front to back.
//!
//! # Constraints
//!
//! Any bytes end in an answer: nothing recurses, no count is believed before the bytes are there, and time and memory are bounded by their length.
//!
//! # Format
//!
//! A geometry is its byte order (0: big-endian, 1: little-endian), its shape (u32, 1 to 7 in the order of [`Shape`]), and then: a point
//! two f64; a line string a count and so many points; a polygon a count and so many rings, each a count and points; everything else a
//! count and so many geometries, whole ones with a byte order of their own. (OGC 06-103r4, *Simple feature access, part 1*, 8.2.)

/// What a geometry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Point,
    LineString,
    Polygon,
    MultiPoint,
    MultiLineString,
    MultiPolygon,
    Collection,
}

/// What comes next in a geometry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// A geometry that stands by itself: the whole, or a member of a collection.
    Begin(Shape),
    End(Shape),
    /// A list of what follows up to its [`Step::Close`].
    Open,
    Close,
    /// Another one of the list.
    Next,
    Point(f64, f64),
}

/// Bytes that are no geometry, or something behind one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the bytes are no geometry")]
pub struct Malformed;

/// Bytes not yet walked over.
struct Walk<'a, F> {
    bytes: &'a [u8],
    step: F,
}

#[derive(Clone, Copy)]
enum Order {
    Big,
    Little,
}

/// Tells `step` what the geometry `wkb` is made of, in order.
///
/// # Errors
/// See [`Malformed`]; what was told before holds for nothing then.
pub fn walk(wkb: &[u8], step: impl FnMut(Step)) -> Result<(), Malformed> {
    let mut walk = Walk { bytes: wkb, step };
    // How many members each open collection has yet.
    let mut open: Vec<u32> = Vec::new();
    loop {
        let (order, shape) = walk.header()?;
        (walk.step)(Step::Begin(shape));
        if shape == Shape::Collection {
            let count = walk.number(order)?;
            (walk.step)(Step::Open);
            if count > 0 {
                open.push(count);
                continue;
            }
            (walk.step)(Step::Close);
        } else {
            walk.coordinates(order, shape)?;
        }
        (walk.step)(Step::End(shape));
        loop {
            let Some(left) = open.last_mut() else {
                return if walk.bytes.is_empty() { Ok(()) } else { Err(Malformed) };
            };
            *left -= 1;
            if *left > 0 {
                (walk.step)(Step::Next);
                break;
            }
            open.pop();
            (walk.step)(Step::Close);
            (walk.step)(Step::End(Shape::Collection));
        }
    }
}

impl<F: FnMut(Step)> Walk<'_, F> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.bytes.split_first_chunk().ok_or(Malformed)?;
        self.bytes = rest;
        Ok(*taken)
    }

    fn number(&mut self, order: Order) -> Result<u32, Malformed> {
        let bytes = self.take()?;
        Ok(match order {
            Order::Big => u32::from_be_bytes(bytes),
            Order::Little => u32::from_le_bytes(bytes),
        })
    }

    fn header(&mut self) -> Result<(Order, Shape), Malformed> {
        let order = match self.take()? {
            [0] => Order::Big,
            [1] => Order::Little,
            _ => return Err(Malformed),
        };
        let shape = match self.number(order)? {
            1 => Shape::Point,
            2 => Shape::LineString,
            3 => Shape::Polygon,
            4 => Shape::MultiPoint,
            5 => Shape::MultiLineString,
            6 => Shape::MultiPolygon,
            7 => Shape::Collection,
            _ => return Err(Malformed),
        };
        Ok((order, shape))
    }

    /// What a geometry that is no collection has behind its header.
    fn coordinates(&mut self, order: Order, shape: Shape) -> Result<(), Malformed> {
        let member = match shape {
            Shape::Point => return self.point(order),
            Shape::LineString => return self.list(order, |walk| walk.point(order)),
            Shape::Polygon => {
                return self.list(order, |walk| walk.list(order, |walk| walk.point(order)));
            }
            Shape::MultiPoint => Shape::Point,
            Shape::MultiLineString => Shape::LineString,
            Shape::MultiPolygon => Shape::Polygon,
            Shape::Collection => return Err(Malformed),
        };
        self.list(order, |walk| {
            let (order, found) = walk.header()?;
            if found == member { walk.coordinates(order, found) } else { Err(Malformed) }
        })
    }

    fn list(
        &mut self,
        order: Order,
        mut each: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        let count = self.number(order)?;
        (self.step)(Step::Open);
        for n in 0..count {
            if n > 0 {
                (self.step)(Step::Next);
            }
            each(self)?;
        }
        (self.step)(Step::Close);
        Ok(())
    }

    fn point(&mut self, order: Order) -> Result<(), Malformed> {
        let (x, y) = (self.take()?, self.take()?);
        (self.step)(match order {
            Order::Big => Step::Point(f64::from_be_bytes(x), f64::from_be_bytes(y)),
            Order::Little => Step::Point(f64::from_le_bytes(x), f64::from_le_bytes(y)),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(wkb: &[u8]) -> Result<String, Malformed> {
        let mut text = String::new();
        walk(wkb, |step| match step {
            Step::Begin(shape) => text.push_str(&format!("{shape:?}")),
            Step::End(_) => text.push(';'),
            Step::Open => text.push('('),
            Step::Close => text.push(')'),
            Step::Next => text.push(','),
            Step::Point(x, y) => text.push_str(&format!("{x} {y}")),
        })?;
        Ok(text)
    }

    /// Big-endian.
    fn geometry(shape: u32, counts: &[u32], points: &[[f64; 2]]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&shape.to_be_bytes());
        counts.iter().for_each(|count| bytes.extend_from_slice(&count.to_be_bytes()));
        points.iter().flatten().for_each(|n| bytes.extend_from_slice(&n.to_be_bytes()));
        bytes
    }

    fn little(x: f64, y: f64) -> Vec<u8> {
        [&[1, 1, 0, 0, 0][..], &x.to_le_bytes(), &y.to_le_bytes()].concat()
    }

    /// A collection of every shape, in both byte orders.
    fn everything() -> Vec<u8> {
        let line = geometry(2, &[2], &[[0.0, 1.0], [2.0, 3.0]]);
        let polygon = geometry(3, &[1, 3], &[[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]]);
        [
            geometry(7, &[7], &[]),
            little(13.4, 52.5),
            line.clone(),
            polygon.clone(),
            geometry(4, &[2], &[]),
            little(1.0, 2.0),
            geometry(1, &[], &[[3.0, 4.0]]),
            geometry(5, &[1], &[]),
            line,
            geometry(6, &[1], &[]),
            polygon,
            geometry(7, &[0], &[]),
        ]
        .concat()
    }

    #[test]
    fn each_shape_is_told_in_either_byte_order() {
        assert_eq!(told(&little(13.4, 52.5)).unwrap(), "Point13.4 52.5;");
        assert_eq!(
            told(&everything()).unwrap(),
            "Collection(Point13.4 52.5;,LineString(0 1,2 3);,Polygon((0 0,1 1,0 0));,MultiPoint(1 2,3 4);,\
             MultiLineString((0 1,2 3));,MultiPolygon(((0 0,1 1,0 0)));,Collection(););"
        );
    }

    #[test]
    fn each_cut_each_addition_and_any_change_ends_in_an_answer() {
        let whole = everything();
        for length in 0..whole.len() {
            assert_eq!(told(&whole[..length]), Err(Malformed), "{length}");
        }
        assert_eq!(told(&[&whole[..], &[0]].concat()), Err(Malformed));
        for at in 0..whole.len() {
            for byte in [0, 1, 7, 8, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                let _ = told(&changed);
            }
        }
        for shape in [0, 8, 1001, u32::MAX] {
            assert_eq!(told(&geometry(shape, &[0], &[])), Err(Malformed));
        }
        assert_eq!(told(&geometry(2, &[u32::MAX], &[])), Err(Malformed));
        assert_eq!(told(&[geometry(4, &[1], &[]), geometry(2, &[0], &[])].concat()), Err(Malformed));
    }

    #[test]
    fn collections_in_collections_take_no_stack() {
        let depth = 200_000;
        let bytes = [geometry(7, &[1], &[]).repeat(depth), little(1.0, 2.0)].concat();
        let mut begun = 0;
        walk(&bytes, |step| begun += usize::from(matches!(step, Step::Begin(_)))).unwrap();
        assert_eq!(begun, depth + 1);
    }
}
