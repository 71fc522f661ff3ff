//! The schedule of a transaction: as a picture with one lane per job slot, one bar per module and phase, and below them the
//! utilisation of the processors, if it was measured; and as a chart on a terminal, with a line for each module.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::timeline::Span;
use super::{Painted, Tone};
use crate::sys::plain::plain;

// Writing to a string cannot fail: results of `write!` are ignored.
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

/// The picture, as SVG. `busy`: the utilisation of the processors by second, may be empty.
pub fn svg(title: &str, bars: &[Span], busy: &[(f64, f64)]) -> String {
    let end = bars.iter().map(|bar| bar.to).fold(1.0, f64::max);
    let lanes: BTreeSet<usize> = bars.iter().map(|bar| bar.lane).collect();
    let x = |second: f64| LEFT + (WIDTH - LEFT - 20.0) * second / end;
    let below = TOP + LANE * lanes.len() as f64;
    let graph_height = if busy.is_empty() { 0.0 } else { GRAPH + 20.0 };
    let height = below + graph_height + 40.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"18\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    for (n, (phase, colour)) in COLOURS.iter().enumerate() {
        let at = LEFT + 95.0 * n as f64;
        let _ = writeln!(
            svg,
            "<rect x=\"{at}\" y=\"28\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"38\">{phase}</text>",
            at + 16.0
        );
    }
    for (row, lane) in lanes.iter().enumerate() {
        let y = TOP + LANE * row as f64;
        let name = if *lane == 0 { "itself".to_owned() } else { format!("job {lane}") };
        let _ = writeln!(svg, "<text x=\"8\" y=\"{}\">{name}</text>", y + 26.0);
        for bar in bars.iter().filter(|bar| bar.lane == *lane) {
            bar_svg(&mut svg, bar, x(bar.from), x(bar.to), y);
        }
    }
    if !busy.is_empty() {
        graph(&mut svg, busy, below + 20.0, x, end);
    }
    for second in marks(end) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">{second:.0} s</text>",
            x(second),
            height - 8.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The marks of the time axis: at most 17, however long the transaction is said to have been.
fn marks(end: f64) -> impl Iterator<Item = f64> {
    let mut step = 1.0;
    // 1, 2, 5, 10, 20, 50 and so on.
    for factor in [2.0, 2.5, 2.0].into_iter().cycle() {
        if end / step <= 16.0 || !end.is_finite() {
            break;
        }
        step *= factor;
    }
    (0..=16).map(move |n| f64::from(n) * step).take_while(move |second| *second <= end)
}

fn bar_svg(svg: &mut String, bar: &Span, from: f64, to: f64, y: f64) {
    let colour =
        COLOURS.iter().find(|(phase, _)| *phase == bar.phase).map_or("#cccccc", |(_, colour)| colour);
    let module = bar.module.as_ref().map_or("", |module| module.name.as_str());
    let kernel = bar.target.as_ref().map_or("", |target| target.kernel.as_str());
    let tip = format!("{module} {kernel} {}: {:.2} s to {:.2} s", bar.phase, bar.from, bar.to);
    let width = (to - from).max(0.6);
    let _ = writeln!(
        svg,
        "<rect x=\"{from:.1}\" y=\"{y}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"><title>{}</title></rect>",
        LANE - 8.0,
        escaped(&tip)
    );
    // Six units per letter: longer text is in the tooltip.
    if bar.phase == "compile" && width > 6.2 * module.len() as f64 {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" fill=\"white\">{}</text>",
            from + 3.0,
            y + 23.0,
            escaped(module)
        );
    }
}

fn graph(svg: &mut String, busy: &[(f64, f64)], top: f64, x: impl Fn(f64) -> f64, end: f64) {
    let bottom = top + GRAPH;
    let _ = writeln!(
        svg,
        "<text x=\"8\" y=\"{}\">processors</text><text x=\"8\" y=\"{}\">busy</text>",
        top + 40.0,
        top + 54.0
    );
    let mut path = format!("M {:.1} {bottom}", x(0.0));
    for (second, part) in busy.iter().filter(|(second, _)| *second <= end) {
        let _ = write!(path, " L {:.1} {:.1}", x(*second), bottom - GRAPH * part);
    }
    let _ = writeln!(
        svg,
        "<path d=\"{path} L {:.1} {bottom} Z\" fill=\"#cfe3d8\" stroke=\"#4d9078\"/>\n\
         <line x1=\"{LEFT}\" y1=\"{top}\" x2=\"{:.1}\" y2=\"{top}\" stroke=\"#999\" stroke-dasharray=\"3 3\"/>",
        x(end),
        x(end)
    );
}

/// Without control characters, which XML does not permit.
pub(super) fn escaped(text: &str) -> String {
    plain(text).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The sign of a phase in the chart.
fn sign(phase: &str) -> (Tone, char) {
    match phase {
        "compile" => (Tone::Good, '#'),
        "reuse" => (Tone::Good, '='),
        _ => (Tone::Faint, '-'),
    }
}

/// The chart: what a transaction did itself, then each build, in the order of their start.
pub fn chart(bars: &[Span], width: usize) -> Painted {
    let end = bars.iter().map(|bar| bar.to).fold(0.1, f64::max);
    let several = bars.iter().filter_map(|bar| bar.target.as_ref()).collect::<BTreeSet<_>>().len() > 1;
    let mut rows: BTreeMap<(bool, String), Vec<&Span>> = BTreeMap::new();
    for bar in bars {
        let name = match (&bar.module, &bar.target) {
            (Some(module), Some(target)) if several => format!("{module} for {}", target.kernel),
            (Some(module), _) => module.to_string(),
            (None, _) => "dkms".to_owned(),
        };
        rows.entry((bar.module.is_some(), name)).or_default().push(bar);
    }
    let mut rows: Vec<(bool, String, Vec<&Span>)> =
        rows.into_iter().map(|((module, name), bars)| (module, name, bars)).collect();
    let start = |bars: &[&Span]| bars.iter().map(|bar| bar.from).fold(f64::MAX, f64::min);
    rows.sort_by(|a, b| a.0.cmp(&b.0).then(start(&a.2).total_cmp(&start(&b.2))));
    let names = rows.iter().map(|(_, name, _)| name.len()).max().unwrap_or(0);
    // Two blanks, the bar, a blank and a duration of up to nine characters.
    let columns = width.saturating_sub(names + 12).max(10);
    let column = |second: f64| ((second / end) * columns as f64) as usize;
    let mut text = Painted::default();
    for (_, name, bars) in &rows {
        text.push(Tone::Plain, format!("{name:names$}  "));
        let mut cells = vec![(Tone::Plain, ' '); columns];
        // Compilers last: they matter most where several phases share a cell.
        let (compilers, others): (Vec<&Span>, Vec<&Span>) =
            bars.iter().partition(|bar| sign(&bar.phase).0 == Tone::Good);
        for bar in others.into_iter().chain(compilers) {
            let (from, to) = (column(bar.from), column(bar.to).max(column(bar.from) + 1));
            cells.iter_mut().take(to).skip(from).for_each(|cell| *cell = sign(&bar.phase));
        }
        for part in cells.chunk_by(|a, b| a.0 == b.0) {
            text.push(
                part.first().map_or(Tone::Plain, |cell| cell.0),
                part.iter().map(|(_, sign)| *sign).collect::<String>(),
            );
        }
        let busy: f64 = bars.iter().map(|bar| bar.to - bar.from).sum();
        text.push(Tone::Plain, format!(" {busy:.1} s\n"));
    }
    text.push(
        Tone::Faint,
        format!("{:names$}  0 to {end:.1} s; # compile, = cached build, - other work\n", ""),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Target;

    fn bar(lane: usize, module: Option<&str>, phase: &str, from: f64, to: f64) -> Span {
        Span {
            lane,
            module: module.map(|id| id.parse().unwrap()),
            target: Some(Target { kernel: "6.1".parse().unwrap(), arch: "x86_64".parse().unwrap() }),
            phase: phase.to_owned(),
            from,
            to,
        }
    }

    #[test]
    fn every_bar_is_drawn_and_well_formed() {
        let bars = [
            bar(1, None, "copy", 0.0, 1.0),
            bar(2, None, "copy", 3.0, 4.0),
            bar(1, None, "depmod", 5.0, 9.0),
        ];
        for busy in [&[(0.1, 0.5), (9.0, 1.0)][..], &[]] {
            let svg = svg("a & b\u{1b}[2J", &bars, busy);
            assert_eq!(svg.matches("<title>").count(), 3);
            assert!(svg.contains(">a &amp; b<") && svg.ends_with("</svg>\n"), "{svg}");
            assert_eq!(svg.contains("processors"), !busy.is_empty());
        }
    }

    #[test]
    fn there_are_few_marks() {
        for (end, last, count) in
            [(0.5, 0.0, 1), (10.0, 10.0, 11), (59.0, 55.0, 12), (10_800.0, 10_000.0, 11), (1e300, 9e299, 10)]
        {
            let marks: Vec<f64> = marks(end).collect();
            assert_eq!(marks.len(), count, "{end}");
            assert!((marks.last().unwrap() / last - 1.0).abs() < 1e-9 || last == 0.0, "{end}: {marks:?}");
        }
    }

    #[test]
    fn a_line_for_each_module() {
        let bars = [
            bar(0, None, "look", 0.0, 1.0),
            bar(2, Some("zfs/2.3.2"), "copy", 1.0, 2.0),
            bar(2, Some("zfs/2.3.2"), "compile", 2.0, 10.0),
            bar(1, Some("bbswitch/0.8"), "reuse", 1.0, 1.2),
            bar(1, Some("vpoll/1"), "compile", 1.2, 1.25),
            bar(1, Some("vpoll/1"), "check", 1.25, 1.3),
            bar(0, None, "depmod", 9.0, 10.0),
        ];
        insta::assert_snapshot!(chart(&bars, 60).text(false), @r"
        dkms          ---                             ---- 2.0 s
        bbswitch/0.8     =                                 0.2 s
        zfs/2.3.2        ----############################# 9.0 s
        vpoll/1           #                                0.1 s
                      0 to 10.0 s; # compile, = cached build, - other work
        ");
        // Too narrow, and nothing at all.
        assert_eq!(chart(&bars, 1).text(false).lines().count(), 5);
        assert_eq!(chart(&[], 80).text(false).lines().count(), 1);
    }
}
