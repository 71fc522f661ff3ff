//! A terminal's text as a picture (SVG), for documents.

use std::fmt::Write as _;

use super::drawing::escaped;
use super::{Painted, Tone};

// Writing to a string cannot fail: results of `write!` are ignored.
/// A character in a monospaced font of 13 px.
const COLUMN: f64 = 7.8;
const LINE: f64 = 18.0;
const MARGIN: f64 = 14.0;

impl Tone {
    /// Readable on the dark background.
    fn colour(self) -> &'static str {
        match self {
            Self::Plain => "#d8dee9",
            Self::Good => "#8fce8f",
            Self::Doubtful => "#e5c07b",
            Self::Bad => "#ff7b72",
            Self::Faint => "#8b949e",
        }
    }
}

/// The picture. Each part has its own position, so that columns are aligned with any font.
pub fn terminal(text: &Painted) -> String {
    let (mut row, mut column, mut columns) = (0, 0, 0);
    let mut lines = String::new();
    for (tone, part) in text.parts() {
        for (n, piece) in part.split('\n').enumerate() {
            if n > 0 {
                (row, column) = (row + 1, 0);
            }
            if !piece.trim().is_empty() {
                let blanks = piece.chars().take_while(|c| *c == ' ').count();
                let (x, y) =
                    (MARGIN + COLUMN * (column + blanks) as f64, MARGIN + LINE * f64::from(row) + 13.0);
                let length = piece.trim().chars().count() as f64 * COLUMN;
                let _ = writeln!(
                    lines,
                    "<text x=\"{x:.1}\" y=\"{y:.0}\" textLength=\"{length:.1}\" fill=\"{}\">{}</text>",
                    tone.colour(),
                    escaped(piece.trim())
                );
            }
            column += piece.chars().count();
            columns = columns.max(column);
        }
    }
    let rows = if column > 0 { row + 1 } else { row };
    let (width, height) =
        (2.0 * MARGIN + COLUMN * columns as f64, 2.0 * MARGIN + LINE * f64::from(rows.max(1)));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" font-family=\"monospace\" \
         font-size=\"13\" xml:space=\"preserve\">\n<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"#1b1f24\"/>\n{lines}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_have_positions_and_colours() {
        let mut text = Painted::default();
        text.push(Tone::Plain, "zfs/2  ");
        text.push(Tone::Bad, "FAILED & <so>\u{1b}[2J\n");
        text.push(Tone::Plain, "\n  end");
        insta::assert_snapshot!(terminal(&text), @r##"
        <svg xmlns="http://www.w3.org/2000/svg" width="184" height="82" font-family="monospace" font-size="13" xml:space="preserve">
        <rect width="100%" height="100%" rx="6" fill="#1b1f24"/>
        <text x="14.0" y="27" textLength="39.0" fill="#d8dee9">zfs/2</text>
        <text x="68.6" y="27" textLength="101.4" fill="#ff7b72">FAILED &amp; &lt;so&gt;</text>
        <text x="29.6" y="63" textLength="23.4" fill="#d8dee9">end</text>
        </svg>
        "##);
        assert!(terminal(&Painted::default()).ends_with("</svg>\n"));
    }
}
