//! The subset of DER that is needed to read the signer of a module and the subject of a certificate. Verifies nothing.

/// Reads values in order. Lengths are definite, as DER requires, and are checked against the input.
#[derive(Debug, Clone, Copy)]
pub struct Der<'a>(&'a [u8]);

/// One value.
#[derive(Debug, Clone, Copy)]
pub struct Value<'a> {
    /// Its tag byte.
    pub tag: u8,
    /// The content.
    pub content: &'a [u8],
    /// The content with tag and length.
    pub whole: &'a [u8],
}

/// `SEQUENCE`
pub const SEQUENCE: u8 = 0x30;
/// `SET`
pub const SET: u8 = 0x31;
/// `BOOLEAN`
pub const BOOLEAN: u8 = 0x01;
/// `INTEGER`
pub const INTEGER: u8 = 0x02;
/// `OCTET STRING`
pub const OCTETS: u8 = 0x04;
/// `OBJECT IDENTIFIER`
pub const OID: u8 = 0x06;

/// A constructed value with a context-specific tag.
pub const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// A primitive value with a context-specific tag.
pub const fn implicit(number: u8) -> u8 {
    0x80 | number
}

impl<'a> Der<'a> {
    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Starts at the beginning of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next value, which must have this tag. Like the kernel's decoder, accepts a constructed value that is marked as
    /// a primitive one.
    pub fn tagged(&mut self, tag: u8) -> Option<Value<'a>> {
        const CONSTRUCTED: u8 = 0x20;
        let mut ahead = *self;
        let value = ahead.next().filter(|value| value.tag | tag & CONSTRUCTED == tag)?;
        *self = ahead;
        Some(value)
    }

    /// The same, and returns a reader of its content.
    pub fn enter(&mut self, tag: u8) -> Option<Self> {
        self.tagged(tag).map(|value| Self(value.content))
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        // Tags of more than one byte do not occur in signatures and certificates.
        if tag & 0x1f == 0x1f {
            return None;
        }
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x84 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        let whole = &self.0[..self.0.len() - rest.len()];
        self.0 = rest;
        Some(Value { tag, content, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_never_lead_out_of_the_input() {
        for broken in [
            &[][..],
            &[SEQUENCE],
            &[SEQUENCE, 1],
            &[SEQUENCE, 0x80, 0, 0],
            &[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff, 0],
            &[SEQUENCE, 0x85, 0, 0, 0, 0, 0],
            &[0x1f, 1, 0],
        ] {
            assert!(Der::new(broken).next().is_none(), "{broken:02x?}");
        }
    }

    #[test]
    fn values_inside_values() {
        let mut der = Der::new(&[SEQUENCE, 0x81, 3, INTEGER, 1, 7, SET, 0]);
        assert!(der.tagged(SET).is_none(), "what does not fit stays");
        let mut inner = der.enter(SEQUENCE).unwrap();
        assert_eq!(inner.tagged(INTEGER).unwrap().content, [7]);
        assert!(inner.next().is_none());
        assert_eq!(der.tagged(SET).unwrap().whole, [SET, 0]);
        assert!(Der::new(&[SET & 0x1f, 0]).tagged(SET).is_some(), "as the kernel");
        assert!(Der::new(&[INTEGER | 0x20, 0]).tagged(INTEGER).is_none());
    }
}
