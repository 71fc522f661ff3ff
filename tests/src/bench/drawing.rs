//! A schedule as a picture: one lane per job slot, one bar per module and phase, and below them the utilisation of the
//! processors.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde::Deserialize;

use crate::Root;

/// One bar, as stored in the history.
#[derive(Debug, Clone, Deserialize)]
pub struct Bar {
    /// 0 is the transaction itself.
    pub lane: usize,
    /// The module, if it concerns one.
    pub module: Option<Id>,
    /// The kernel, if it concerns one.
    #[serde(default)]
    pub kernel: String,
    /// The phase.
    pub phase: String,
    /// Seconds since the beginning.
    pub from: f64,
    /// End, in seconds since the beginning.
    pub to: f64,
}

/// A module's name and version.
#[derive(Debug, Clone, Deserialize)]
pub struct Id {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

#[derive(Deserialize)]
struct Entry {
    timeline: Vec<Bar>,
}

/// The schedule of the newest transaction in a root.
pub fn newest(root: &Root) -> Vec<Bar> {
    let files = root.find("/var/lib/dkms/.dkms-rs/history", "-name '*.json'");
    let text = root.read(files.last().expect("a transaction"));
    let entry: Entry = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    entry.timeline
}

/// When the build of the last module began.
pub fn last_start(bars: &[Bar]) -> f64 {
    bars.iter().filter(|bar| bar.phase == "copy").map(|bar| bar.from).fold(0.0, f64::max)
}

const WIDTH: f64 = 1500.0;
const LEFT: f64 = 90.0;
const LANE: f64 = 46.0;
const TOP: f64 = 56.0;
const GRAPH: f64 = 90.0;

/// Each phase has its colour.
const COLOURS: &[(&str, &str)] = &[
    ("look", "#9aa5b1"),
    ("copy", "#f2c14e"),
    ("prepare", "#f78154"),
    ("compile", "#4d9078"),
    ("check", "#5b8cc0"),
    ("reuse", "#88b04b"),
    ("publish", "#b4436c"),
    ("depmod", "#6b4c9a"),
    ("initramfs", "#333333"),
];

/// Draws it. `busy`: the utilisation of the processors by second.
pub fn draw(title: &str, bars: &[Bar], busy: &[(f64, f64)]) -> String {
    let end = bars.iter().map(|bar| bar.to).fold(1.0, f64::max);
    let lanes: BTreeSet<usize> = bars.iter().map(|bar| bar.lane).collect();
    let x = |second: f64| LEFT + (WIDTH - LEFT - 20.0) * second / end;
    let below = TOP + LANE * lanes.len() as f64;
    let height = below + GRAPH + 60.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"18\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for (n, (phase, colour)) in COLOURS.iter().enumerate() {
        let at = LEFT + 95.0 * n as f64;
        writeln!(svg, "<rect x=\"{at}\" y=\"28\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"38\">{phase}</text>", at + 16.0).unwrap();
    }
    for (row, lane) in lanes.iter().enumerate() {
        let y = TOP + LANE * row as f64;
        let name = if *lane == 0 { "itself".to_owned() } else { format!("job {lane}") };
        writeln!(svg, "<text x=\"8\" y=\"{}\">{name}</text>", y + 26.0).unwrap();
        for bar in bars.iter().filter(|bar| bar.lane == *lane) {
            bar_svg(&mut svg, bar, x(bar.from), x(bar.to), y);
        }
    }
    graph(&mut svg, busy, below + 20.0, x, end);
    let step =
        [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0].into_iter().find(|s| end / s <= 16.0).unwrap_or(200.0);
    let mut second = 0.0;
    while second <= end {
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{second:.0} s</text>",
            x(second),
            height - 8.0
        )
        .unwrap();
        second += step;
    }
    svg.push_str("</svg>\n");
    svg
}

fn bar_svg(svg: &mut String, bar: &Bar, from: f64, to: f64, y: f64) {
    let colour =
        COLOURS.iter().find(|(phase, _)| *phase == bar.phase).map_or("#cccccc", |(_, colour)| colour);
    let module = bar.module.as_ref().map_or("", |module| module.name.as_str());
    let tip = format!("{module} {} {}: {:.2} s to {:.2} s", bar.kernel, bar.phase, bar.from, bar.to);
    let width = (to - from).max(0.6);
    writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"><title>{}</title></rect>",
        LANE - 8.0,
        escaped(&tip)
    )
    .unwrap();
    // Six units per letter: longer text is in the tooltip.
    if bar.phase == "compile" && width > 6.2 * module.len() as f64 {
        writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" fill=\"white\">{}</text>",
            from + 3.0,
            y + 23.0,
            escaped(module)
        )
        .unwrap();
    }
}

fn graph(svg: &mut String, busy: &[(f64, f64)], top: f64, x: impl Fn(f64) -> f64, end: f64) {
    let bottom = top + GRAPH;
    writeln!(
        svg,
        "<text x=\"8\" y=\"{}\">processors</text><text x=\"8\" y=\"{}\">busy</text>",
        top + 40.0,
        top + 54.0
    )
    .unwrap();
    let mut path = format!("M {:.1} {bottom}", x(0.0));
    for (second, part) in busy.iter().filter(|(second, _)| *second <= end) {
        write!(path, " L {:.1} {:.1}", x(*second), bottom - GRAPH * part).unwrap();
    }
    writeln!(
        svg,
        "<path d=\"{path} L {:.1} {bottom} Z\" fill=\"#cfe3d8\" stroke=\"#4d9078\"/>\n\
         <line x1=\"{LEFT}\" y1=\"{top}\" x2=\"{:.1}\" y2=\"{top}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>",
        x(end),
        x(end)
    )
    .unwrap();
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::{Bar, draw, last_start};

    #[test]
    fn every_bar_is_drawn_and_well_formed() {
        let bar = |lane, phase: &str, from, to| Bar {
            lane,
            module: None,
            kernel: "<6>".to_owned(),
            phase: phase.to_owned(),
            from,
            to,
        };
        let bars = [bar(1, "copy", 0.0, 1.0), bar(2, "copy", 3.0, 4.0), bar(1, "depmod", 5.0, 9.0)];
        assert!((last_start(&bars) - 3.0).abs() < 1e-9);
        let svg = draw("a & b", &bars, &[(0.1, 0.5), (9.0, 1.0)]);
        assert_eq!(svg.matches("<title>").count(), 3);
        assert!(svg.contains("a &amp; b") && svg.contains("&lt;6&gt;") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
