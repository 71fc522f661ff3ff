//! A small seeded generator: enough for kill storms, and a failing run can be repeated from the printed seed.

/// xorshift64*.
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The seed from `DKMS_TEST_SEED`, or from the clock; printed, so that the run can be repeated.
    pub fn from_env() -> Self {
        let clock = || {
            let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
            now.as_nanos() as u64
        };
        let seed = std::env::var("DKMS_TEST_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(clock);
        eprintln!("random seed: DKMS_TEST_SEED={seed}");
        Self::new(seed)
    }

    /// A given seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next number in `0..below`.
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % below.max(1)
    }
}
