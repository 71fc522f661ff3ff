//! The table of results.

use std::fmt::Write as _;

/// One measurement. Times in seconds.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// Its description.
    pub what: String,
    /// The time of Debian's dkms, if it supports this.
    pub debian: Option<f64>,
    /// The time of ours.
    pub ours: Option<f64>,
    /// The time without dkms.
    pub bare: Option<f64>,
    /// Another figure, if it is not a ratio.
    pub figure: Option<String>,
    /// The requirement, as text; empty if there is none.
    pub must: String,
    /// Whether the requirement is met.
    pub reached: bool,
}

impl Row {
    /// A row without results.
    pub fn of(what: &str) -> Self {
        Self { what: what.to_owned(), ..Self::default() }
    }

    /// Times of Debian's dkms and of ours.
    pub fn times(self, debian: Option<f64>, ours: f64) -> Self {
        Self { debian, ours: Some(ours), ..self }
    }

    /// The time without any dkms.
    pub fn bare(self, bare: f64) -> Self {
        Self { bare: Some(bare), ..self }
    }

    /// A figure as text.
    pub fn figure(self, figure: String) -> Self {
        Self { figure: Some(figure), ..self }
    }

    /// The requirement, and whether it is met.
    pub fn must(self, must: &str, reached: bool) -> Self {
        Self { must: must.to_owned(), reached, ..self }
    }

    /// How many times faster ours is.
    pub fn faster(&self) -> Option<f64> {
        Some(self.debian? / self.ours?)
    }

    /// How many times the bare compilers' time ours takes.
    pub fn over_bare(&self) -> Option<f64> {
        Some(self.ours? / self.bare?)
    }
}

/// One line per row.
pub fn render(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<46} {:>12} {:>11} {:>9}  {:<34} {:<40} {}\n",
        "what", "Debian/ours", "ours/bare", "ours", "figure", "must reach", "reached"
    );
    for row in rows {
        let ratio = |ratio: Option<f64>, digits: usize| match ratio {
            Some(ratio) if ratio >= 100.0 => format!("{ratio:.0} x"),
            Some(ratio) => format!("{ratio:.digits$} x"),
            None => "-".to_owned(),
        };
        writeln!(
            text,
            "{:<46} {:>12} {:>11} {:>9}  {:<34} {:<40} {}",
            row.what,
            ratio(row.faster(), 2),
            ratio(row.over_bare(), 2),
            row.ours.map_or_else(|| "-".to_owned(), time),
            row.figure.as_deref().unwrap_or_default(),
            row.must,
            match (row.must.is_empty(), row.reached) {
                (true, _) => "",
                (false, true) => "yes",
                (false, false) => "NO",
            }
        )
        .unwrap();
    }
    text
}

/// With the unit that fits.
fn time(seconds: f64) -> String {
    if seconds < 1.0 { format!("{:.1} ms", seconds * 1000.0) } else { format!("{seconds:.1} s") }
}

#[cfg(test)]
mod tests {
    use super::{Row, render};

    #[test]
    fn ratios_and_what_is_not_known() {
        let full = Row::of("all").times(Some(300.0), 100.0).bare(80.0).must("2.4 x", true);
        let quick = Row::of("status").times(None, 0.004).figure("23 lines".to_owned());
        let text = render(&[full, quick]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].contains("3.00 x") && lines[1].contains("1.25 x"), "{text}");
        assert!(lines[1].contains("100.0 s") && lines[1].ends_with("yes"), "{text}");
        assert!(lines[2].contains("4.0 ms") && lines[2].contains("23 lines"), "{text}");
    }
}
