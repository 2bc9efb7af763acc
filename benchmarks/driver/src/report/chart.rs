//! Horizontal bars as SVG: a row for each system, a panel for each measure, in a light and a dark dress.

use crate::systems::Origin;
use std::fmt::Write as _;

/// A chart, before it has a dress.
pub(super) struct Chart {
    /// The name of its files, without what they end in.
    pub(super) name: &'static str,
    pub(super) title: String,
    /// How and where it was measured.
    pub(super) subtitle: String,
    /// A row for each system: its title, and whose it is.
    pub(super) rows: Vec<(String, Origin)>,
    pub(super) panels: Vec<Panel>,
}

pub(super) struct Panel {
    pub(super) title: String,
    /// For each row of the chart.
    pub(super) bars: Vec<Option<Bar>>,
}

#[derive(Debug, Clone)]
pub(super) struct Bar {
    pub(super) value: f64,
    /// The smallest and the largest round.
    pub(super) range: Option<(f64, f64)>,
    /// The value as it is written.
    pub(super) label: String,
}

struct Theme {
    name: &'static str,
    text: &'static str,
    muted: &'static str,
    rule: &'static str,
    ours: &'static str,
    published: &'static str,
    bare: &'static str,
    other: &'static str,
}

/// On the white and on the near-black page that READMEs are shown on. Blue and orange are told apart by everybody.
const THEMES: [Theme; 2] = [
    Theme {
        name: "light",
        text: "#1f2328",
        muted: "#59636e",
        rule: "#d1d9e0",
        ours: "#1f6feb",
        published: "#e36209",
        bare: "#818b98",
        other: "#b6bfc9",
    },
    Theme {
        name: "dark",
        text: "#f0f6fc",
        muted: "#9198a1",
        rule: "#3d444d",
        ours: "#4493f8",
        published: "#f0883e",
        bare: "#7d8590",
        other: "#565e68",
    },
];

impl Theme {
    fn bar(&self, origin: Origin) -> &'static str {
        match origin {
            Origin::Ours => self.ours,
            Origin::Published => self.published,
            Origin::Bare => self.bare,
            Origin::Other => self.other,
        }
    }
}

const WIDTH: f64 = 880.0;
const LABELS: f64 = 254.0;
const GAP: f64 = 24.0;
const ROW: f64 = 27.0;
const BAR: f64 = 17.0;
const TOP: f64 = 62.0;
/// Room for a value behind the longest bar.
const VALUE: f64 = 74.0;

/// A bar that is so many times longer than the next one is cut, or nothing could be seen of the others.
const CUT_OVER: f64 = 4.0;

impl Chart {
    /// Its files: name and content.
    pub(super) fn files(&self) -> Vec<(String, String)> {
        THEMES.iter().map(|theme| (self.file(theme.name), self.svg(theme))).collect()
    }

    fn file(&self, theme: &str) -> String {
        format!("{}-{theme}.svg", self.name)
    }

    /// The chart in Markdown, `dir` being where its files are from there.
    pub(super) fn picture(&self, dir: &str) -> String {
        let (light, dark) = (self.file("light"), self.file("dark"));
        format!(
            "<picture>\n  <source media=\"(prefers-color-scheme: dark)\" srcset=\"{dir}/{dark}\">\n  \
             <img src=\"{dir}/{light}\" width=\"{WIDTH}\" alt=\"{}\">\n</picture>\n",
            escaped(&self.in_words())
        )
    }

    /// What it shows, for those who do not see it.
    fn in_words(&self) -> String {
        let mut text = format!("{}.", self.title);
        for panel in &self.panels {
            let bars = self.rows.iter().zip(&panel.bars);
            let values: Vec<String> = bars
                .filter_map(|((title, _), bar)| Some(format!("{title} {}", bar.as_ref()?.label)))
                .collect();
            let _ = write!(text, " {}: {}.", panel.title, values.join("; "));
        }
        text
    }

    fn svg(&self, theme: &Theme) -> String {
        let height = TOP + 24.0 + self.rows.len() as f64 * ROW + 12.0;
        let Theme { text, muted, rule, .. } = theme;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-labelledby=\"title desc\">\n\
             <title id=\"title\">{}</title>\n<desc id=\"desc\">{}</desc>\n\
             <style>text{{font-family:-apple-system,BlinkMacSystemFont,'Segoe UI','Noto Sans',Helvetica,Arial,\
             sans-serif;font-size:13px;fill:{text}}}.title{{font-size:17px;font-weight:600}}.muted{{fill:{muted}}}\
             .ours{{font-weight:600}}.value{{font-variant-numeric:tabular-nums}}</style>\n\
             <text class=\"title\" x=\"0\" y=\"18\">{}</text>\n<text class=\"muted\" x=\"0\" y=\"39\">{}</text>\n",
            escaped(&self.title),
            escaped(&self.in_words()),
            escaped(&self.title),
            escaped(&self.subtitle),
        );
        for (index, (title, origin)) in self.rows.iter().enumerate() {
            let class = if *origin == Origin::Ours { " class=\"ours\"" } else { "" };
            let (x, y) = (LABELS - 10.0, middle(index) + 4.5);
            let _ = writeln!(
                svg,
                "<text{class} x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{}</text>",
                escaped(title)
            );
        }
        let count = self.panels.len() as f64;
        let width = (WIDTH - LABELS - GAP * (count - 1.0)) / count;
        for (index, panel) in self.panels.iter().enumerate() {
            let left = LABELS + index as f64 * (width + GAP);
            let _ = writeln!(
                svg,
                "<text class=\"muted\" x=\"{left}\" y=\"{}\">{}</text>",
                TOP + 9.0,
                escaped(&panel.title)
            );
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {}V{}\" stroke=\"{rule}\"/>",
                TOP + 20.0,
                TOP + 24.0 + self.rows.len() as f64 * ROW
            );
            self.draw_bars(&mut svg, panel, theme, left, width - VALUE);
        }
        svg + "</svg>\n"
    }

    fn draw_bars(&self, svg: &mut String, panel: &Panel, theme: &Theme, left: f64, width: f64) {
        let full = panel.full_scale();
        for (index, ((_, origin), bar)) in self.rows.iter().zip(&panel.bars).enumerate() {
            let y = middle(index);
            let Some(bar) = bar else {
                let x = left + 7.0;
                let _ = writeln!(svg, "<text class=\"muted\" x=\"{x}\" y=\"{}\">–</text>", y + 4.5);
                continue;
            };
            let at = |value: f64| (value / full).clamp(0.0, 1.0) * width;
            // Even the smallest is to be seen.
            let len = at(bar.value).max(1.5);
            let (top, radius, color) = (y - BAR / 2.0, len.min(3.0), theme.bar(*origin));
            let _ = writeln!(
                svg,
                "<path d=\"M{left} {top}h{:.1}a{radius:.1} {radius:.1} 0 0 1 {radius:.1} {radius:.1}v{:.1}\
                 a{radius:.1} {radius:.1} 0 0 1 -{radius:.1} {radius:.1}h-{:.1}z\" fill=\"{color}\"/>",
                len - radius,
                BAR - 2.0 * radius,
                len - radius,
            );
            let mut end = left + len;
            let cut = bar.value > full;
            if let Some((min, max)) = bar.range.filter(|_| !cut) {
                let (from, to) = (left + at(min), left + at(max));
                let _ = writeln!(
                    svg,
                    "<path d=\"M{from:.1} {y}H{to:.1}M{from:.1} {}v6M{to:.1} {}v6\" stroke=\"{}\" \
                     stroke-width=\"1.2\" fill=\"none\"/>",
                    y - 3.0,
                    y - 3.0,
                    theme.text
                );
                end = end.max(to);
            }
            if cut {
                // The page shows through where something was cut out.
                let x = left + len * 0.9;
                let _ = writeln!(
                    svg,
                    "<path d=\"M{x:.1} {}l-5 {}m9 -{}l-5 {}\" stroke=\"{}\" stroke-width=\"1.6\"/>",
                    top - 2.0,
                    BAR + 4.0,
                    BAR + 4.0,
                    BAR + 4.0,
                    theme.text
                );
            }
            let class = if *origin == Origin::Ours { "value ours" } else { "value" };
            let _ = writeln!(
                svg,
                "<text class=\"{class}\" x=\"{:.1}\" y=\"{}\">{}</text>",
                end + 7.0,
                y + 4.5,
                escaped(&bar.label)
            );
        }
    }
}

impl Panel {
    /// The value of a bar that takes all the room.
    fn full_scale(&self) -> f64 {
        let mut values: Vec<f64> = self.bars.iter().flatten().map(|bar| bar.value).collect();
        values.sort_by(|a, b| b.total_cmp(a));
        let largest = values.first().copied().unwrap_or(1.0);
        let ranges = self.bars.iter().flatten().filter_map(|bar| Some(bar.range?.1));
        match values.get(1) {
            Some(second) if largest > second * CUT_OVER => second * 1.5,
            // A wild round does not make all bars short.
            _ => ranges.fold(largest, f64::max).min(largest * 1.3).max(f64::MIN_POSITIVE),
        }
    }
}

/// The middle of a row.
fn middle(row: usize) -> f64 {
    TOP + 24.0 + (row as f64 + 0.5) * ROW
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(value: f64) -> Option<Bar> {
        Some(Bar { value, range: None, label: value.to_string() })
    }

    fn chart(bars: Vec<Option<Bar>>) -> Chart {
        let rows = bars.iter().map(|_| ("a < b".to_owned(), Origin::Ours)).collect();
        let panels = vec![Panel { title: "per second".into(), bars }];
        Chart { name: "c", title: "A & B".into(), subtitle: String::new(), rows, panels }
    }

    #[test]
    fn a_chart_says_in_words_what_it_shows() {
        let chart = chart(vec![bar(3.0), None, bar(1.0)]);
        assert_eq!(chart.in_words(), "A & B. per second: a < b 3; a < b 1.");
        let files = chart.files();
        assert_eq!(files.iter().map(|(name, _)| &**name).collect::<Vec<_>>(), ["c-light.svg", "c-dark.svg"]);
        for (_, svg) in &files {
            assert!(svg.contains("<desc id=\"desc\">A &amp; B. per second: a &lt; b 3; a &lt; b 1.</desc>"));
        }
        assert!(chart.picture("charts").contains("srcset=\"charts/c-dark.svg\""));
    }

    #[test]
    fn a_bar_that_would_hide_the_others_is_cut() {
        let panel =
            |values: &[f64]| Panel { title: String::new(), bars: values.iter().map(|v| bar(*v)).collect() };
        assert_eq!(panel(&[1.0, 3.0, 2.0]).full_scale(), 3.0);
        assert_eq!(panel(&[1.0, 9.0, 2.0]).full_scale(), 3.0);
        assert_eq!(panel(&[5.0]).full_scale(), 5.0);
    }
}
