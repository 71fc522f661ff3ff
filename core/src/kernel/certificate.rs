//! A certificate, as far as it must be told from others.

/// An X.509 certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The whole of it, in DER.
    pub der: Vec<u8>,
}

impl Certificate {
    /// Takes what begins as DER does; `None` when it does not.
    pub fn parse(der: &[u8]) -> Option<Self> {
        (der.first() == Some(&0x30)).then(|| Self { der: der.to_owned() })
    }
}
